from dataclasses import replace

import numpy as np
import pytest
import torch

from piwsl.data.batch import collate
from piwsl.data.frames import Frame
from piwsl.models import ModelConfig, build_potential
from piwsl.models.neighbor_sums.compiled import FusedEdgeList
from piwsl.models.neighbor_sums.edge_list import EdgeList
from piwsl.testing import check_model
from tests.support.molecules import frame

ENERGIES = {1: -0.5, 6: -38.0, 8: -75.0}
FRAMES = [frame("H2O"), frame("CH3CH2OH"), frame("C6H6")]


pytestmark = pytest.mark.parametrize("network", ["tensornet", "ace", "escn", "equiformer_v2", "spinconv"])


def potential(network, dtype=torch.float64, neighbor_sums=None, cutoff=3.0, **options):
    torch.manual_seed(0)
    config = ModelConfig(network=network, channels=16, layers=2, radial_size=8, cutoff=cutoff, **options)
    made = build_potential(config, ENERGIES, scale=1.7, neighbor_sums=neighbor_sums)
    made.network.to(dtype)
    return made


def call(model, frames, cutoff=3.0, dtype=torch.float64):
    batch = collate(frames, cutoff, dtype)
    return model(
        batch.species, batch.positions, batch.edges, batch.edge_shifts, batch.structure_index, batch.n_structures
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("radial", "dtype"), [("bessel", torch.float32), ("bessel", torch.float64), ("gaussian", torch.float64)]
)
def test_the_laws_of_a_potential(network, radial, dtype):
    check_model(potential(network, dtype, radial=radial), FRAMES, 3.0, dtype)


def test_inversion_changes_no_energy(network):
    # XY alone instead of XY + YX mixes vectors with pseudovectors: right for rotations, wrong for mirrors.
    model = potential(network)
    mirrored = [replace(one, positions=-one.positions) for one in FRAMES]
    for one, two in zip(call(model, FRAMES), call(model, mirrored), strict=True):
        assert torch.allclose(one.abs(), two.abs(), rtol=0, atol=1e-11)


def test_mirror_images_of_a_chiral_molecule_have_one_energy(network):
    rng = np.random.default_rng(0)
    chiral = Frame(np.array([6, 1, 8, 1, 6, 6]), rng.uniform(0, 3, size=(6, 3)), np.nan, np.full((6, 3), np.nan))
    mirrored = replace(chiral, positions=chiral.positions * np.array([1.0, 1.0, -1.0]))
    model = potential(network)
    assert call(model, [chiral])[0].item() == pytest.approx(call(model, [mirrored])[0].item(), abs=1e-11)


@pytest.mark.slow
def test_compiled_sums_equal_edge_lists_and_so_do_the_gradients_of_weights(network):
    pytest.importorskip("numba")
    results = []
    for neighbor_sums in (EdgeList(), FusedEdgeList()):
        model = potential(network, neighbor_sums=neighbor_sums)
        batch = collate(FRAMES, 3.0, torch.float64)
        inputs = (batch.species, batch.positions, batch.edges, batch.edge_shifts, batch.structure_index, 3)
        energies, forces = model(*inputs, create_graph=True)
        (energies.sum() + forces.square().sum()).backward()
        gradients = [p.grad.flatten() for p in model.network.parameters() if p.grad is not None]
        results.append(torch.cat([energies.detach(), forces.detach().flatten(), *gradients]))
    assert torch.allclose(*results, rtol=1e-11, atol=1e-11)


def test_edges_beyond_the_cutoff_change_nothing(network):
    model = potential(network)
    for one, two in zip(call(model, FRAMES, 3.0), call(model, FRAMES, 3.5), strict=True):
        assert torch.allclose(one, two, rtol=0, atol=1e-11)


def test_a_periodic_cell_equals_its_supercell_and_has_its_own_derivative(network):
    rng = np.random.default_rng(0)
    cell = np.array([[3.1, 0.0, 0.0], [0.4, 3.3, 0.0], [-0.2, 0.3, 2.9]])
    positions = rng.uniform(size=(3, 3)) @ cell
    species, pbc = np.array([8, 6, 1]), (True, True, True)
    small = Frame(species, positions, np.nan, np.full((3, 3), np.nan), cell, pbc)
    large_cell = cell * np.array([[2.0], [1.0], [1.0]])
    double = np.concatenate([positions, positions + cell[0]])
    large = Frame(np.tile(species, 2), double, np.nan, np.full((6, 3), np.nan), large_cell, pbc)
    model = potential(network, cutoff=4.0)
    (e_small, f_small), (e_large, f_large) = (call(model, [one], 4.0) for one in (small, large))
    assert e_large.item() == pytest.approx(2.0 * e_small.item(), abs=1e-9)
    assert torch.allclose(f_large, f_small.repeat(2, 1), atol=1e-9)
    direction = rng.normal(size=(3, 3))
    ahead, behind = (
        call(model, [replace(small, positions=positions + step * direction)], 4.0)[0].item() for step in (1e-4, -1e-4)
    )
    work = float((f_small.numpy() * direction).sum())
    assert (ahead - behind) / 2e-4 == pytest.approx(-work, abs=1e-6)


def test_second_derivatives_are_finite_for_lone_atoms_and_symmetric_sites(network):
    methane = frame("CH4", rattle=0.0)
    lone = Frame(np.array([8]), np.zeros((1, 3)), np.nan, np.full((1, 3), np.nan))
    batch = collate([methane, lone], 3.0, torch.float64)
    model = potential(network)
    inputs = (batch.species, batch.positions, batch.edges, batch.edge_shifts, batch.structure_index, 2)
    energies, forces = model(*inputs, create_graph=True)
    (energies.sum() + forces.square().sum()).backward()
    assert torch.isfinite(energies).all()
    assert float(forces[-1].detach().abs().max()) == 0.0
    assert all(torch.isfinite(p.grad).all() for p in model.network.parameters() if p.grad is not None)
