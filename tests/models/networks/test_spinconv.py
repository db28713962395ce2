"""SpinConv: exact symmetries, and the law that it breaks."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from piwsl.data.batch import collate
from piwsl.data.frames import Frame
from piwsl.models import ModelConfig, build_potential, registered_network
from piwsl.models.networks.spinconv import edge_pairs
from piwsl.testing import check_model
from tests.support.harmonics import some_rotation
from tests.support.molecules import frame, oxide

ENERGIES = {1: -0.5, 6: -38.0, 8: -75.0}
FRAMES = [frame("H2O"), frame("CH3CH2OH")]


def potential(dtype=torch.float64, **options):
    torch.manual_seed(0)
    sizes = {"channels": 8, "hidden": 16, "radial_size": 8, "cutoff": 3.0}
    made = build_potential(ModelConfig(network="spinconv", **{**sizes, **options}), ENERGIES, scale=1.7)
    made.network.to(dtype)
    return made


def call(model, frames, dtype=torch.float64):
    energies, forces = model(*collate(frames, 3.2, dtype).graph)
    return energies.detach(), forces.detach()


def bent(cosine):
    """Oxygen with two hydrogens at a given cosine of the angle."""
    positions = np.array([[0, 0, 0], [0, 0, 0.97], [0.95 * np.sqrt(1.0 - cosine**2), 0, 0.95 * cosine]])
    return Frame(np.array([8, 1, 1]), positions @ some_rotation().T, np.nan, np.full((3, 3), np.nan))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("forces", ["conservative", "direct"])
def test_all_other_laws_hold(forces, dtype):
    """Of the structures of the check, none is so close to a ring that it would notice."""
    check_model(potential(dtype, forces=forces), FRAMES, 3.0, dtype, conservative=forces == "conservative")


@pytest.mark.parametrize("forces", ["conservative", "direct"])
def test_energies_and_forces_turn_with_a_periodic_structure(forces):
    model, made, matrix = potential(forces=forces), oxide(), some_rotation()
    energies, expected = call(model, [made])
    for turn in (matrix, -matrix):
        same, found = call(model, [replace(made, positions=made.positions @ turn.T, cell=made.cell @ turn.T)])
        torch.testing.assert_close(same, energies, rtol=0, atol=1e-10)
        torch.testing.assert_close(found, expected @ torch.from_numpy(turn.T), rtol=0, atol=1e-10)
    assert float(expected.abs().max()) > 1e-3


def test_forces_jump_where_a_neighbor_crosses_a_ring_and_energies_do_not():
    """With nine rings there is one at cosine -0.5, and none at -0.4."""
    model = potential(rings=9)

    def change(cosine):
        (e_low, f_low), (e_high, f_high) = (call(model, [bent(cosine + step)]) for step in (-1e-7, 1e-7))
        return float((e_high - e_low).abs()), float((f_high - f_low).abs().max())

    on_ring, beside = change(-0.5), change(-0.4)
    assert on_ring[0] < 1e-6
    assert on_ring[1] > 1e-4
    assert beside[1] < 1e-5
    assert "forces jump" in registered_network("spinconv").limitation


@pytest.mark.parametrize("cosine", [1.0 - 1e-13, -1.0, -0.999999])
def test_neighbors_at_the_poles_have_finite_forces(cosine):
    model = potential()
    energies, forces = call(model, [bent(cosine)])
    assert torch.isfinite(energies).all()
    assert torch.isfinite(forces).all()


def test_edges_are_paired_at_their_centers():
    edges = torch.tensor([[2, 0, 1, 0, 2, 2], [0, 1, 0, 2, 1, 2]])
    first, second = edge_pairs(edges, 4)
    expected = {(i, j) for i in range(6) for j in range(6) if edges[0, i] == edges[0, j]}
    assert set(zip(first.tolist(), second.tolist(), strict=True)) == expected
    assert len(first) == len(expected)
    nothing = edge_pairs(edges[:, :0], 2)
    assert [len(one) for one in nothing] == [0, 0]


def test_a_lone_atom_has_an_energy_and_no_force():
    lone = Frame(np.array([8]), np.zeros((1, 3)), np.nan, np.full((1, 3), np.nan))
    energies, forces = call(potential(), [lone])
    assert torch.isfinite(energies).all()
    assert float(forces.abs().max()) == 0.0
