import numpy as np
import pytest
import torch

from piwsl.data.batch import collate
from piwsl.data.frames import Frame
from piwsl.models import ModelConfig, build_potential
from piwsl.testing import check_model
from tests.support.molecules import frame

ENERGIES = {1: -0.5, 6: -38.0, 8: -75.0}
FRAMES = [frame("H2O"), frame("CH3CH2OH"), frame("C6H6")]


def potential(network="painn", dtype=torch.float32, seed=0, neighbor_sums=None, **options):
    torch.manual_seed(seed)
    made = build_potential(
        ModelConfig(network=network, channels=16, **options), ENERGIES, scale=1.7, neighbor_sums=neighbor_sums
    )
    made.network.to(dtype)
    return made


def call(model, frames, cutoff, dtype):
    batch = collate(frames, cutoff, dtype)
    return model(
        batch.species, batch.positions, batch.edges, batch.edge_shifts, batch.structure_index, batch.n_structures
    )


@pytest.mark.parametrize("dtype", [pytest.param(torch.float32, marks=pytest.mark.slow), torch.float64])
@pytest.mark.parametrize("network", ["painn", "schnet"])
@pytest.mark.parametrize("radial", ["bessel", pytest.param("gaussian", marks=pytest.mark.slow)])
def test_the_laws_of_a_potential(network, radial, dtype):
    check_model(potential(network, dtype, cutoff=3.0, radial=radial), FRAMES, 3.0, dtype)


def test_edges_beyond_the_cutoff_change_nothing():
    model = potential(dtype=torch.float64, cutoff=3.0)
    for one, two in zip(call(model, FRAMES, 3.0, torch.float64), call(model, FRAMES, 3.5, torch.float64), strict=True):
        assert torch.allclose(one, two, rtol=0, atol=1e-11)


def test_a_periodic_cell_equals_its_supercell():
    rng = np.random.default_rng(0)
    cell = np.array([[3.1, 0.0, 0.0], [0.4, 3.3, 0.0], [-0.2, 0.3, 2.9]])
    positions = rng.uniform(size=(3, 3)) @ cell
    species = np.array([8, 6, 1])
    pbc = (True, True, True)
    small = Frame(species, positions, np.nan, np.full((3, 3), np.nan), cell, pbc)
    double = np.concatenate([positions, positions + cell[0]])
    large_cell = cell * np.array([[2.0], [1.0], [1.0]])
    large = Frame(np.tile(species, 2), double, np.nan, np.full((6, 3), np.nan), large_cell, pbc)
    model = potential(dtype=torch.float64, cutoff=4.0)
    (e_small, f_small), (e_large, f_large) = (call(model, [f], 4.0, torch.float64) for f in (small, large))
    assert e_large.tolist() == pytest.approx([2.0 * value for value in e_small.tolist()], abs=1e-9)
    assert torch.allclose(f_large, f_small.repeat(2, 1), atol=1e-9)


def test_reference_energies_are_summed_in_double_precision():
    energies = {1: -13.587222780835477, 6: -1029.4130839658328, 8: -2041.8396277138045}
    model = build_potential(ModelConfig(channels=8, zbl=False), energies)
    model.network.readout[-1].weight.data.zero_()
    model.network.readout[-1].bias.data.zero_()
    result, _ = call(model, FRAMES, 5.0, torch.float32)
    expected = [sum(energies[int(z)] for z in f.species) for f in FRAMES]
    assert result.tolist() == pytest.approx(expected, rel=1e-14)


def test_a_single_atom_has_an_energy_and_no_force():
    lone = Frame(np.array([8]), np.zeros((1, 3)), np.nan, np.full((1, 3), np.nan))
    energies, forces = call(potential(), [lone], 5.0, torch.float32)
    assert torch.isfinite(energies).all()
    assert float(forces.abs().max()) == 0.0
