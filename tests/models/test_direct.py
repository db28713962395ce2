"""The direct force head: equivariant, on one scale with the energies, and really a head of its own."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from piwsl.data.batch import collate
from piwsl.errors import ConfigError
from piwsl.losses.predictions import predict
from piwsl.models import ModelConfig, build_network, build_potential
from piwsl.models.neighbor_sums.molecule import MoleculePairs
from piwsl.models.potential import DirectPotential
from piwsl.testing import ModelCheckError, check_model
from tests.support.molecules import frame, oxide
from tests.support.potentials import ENERGIES, painn

FRAMES = [frame("H2O"), frame("CH3CH2OH"), oxide()]
CUTOFF = 3.0


def call(potential, frames=FRAMES, dtype=torch.float64):
    energies, forces = potential(*collate(frames, CUTOFF, dtype).graph)
    return energies.detach(), forces.detach()


@pytest.fixture(scope="module")
def potential():
    return painn("direct")


def transformed(matrix, shift=0.0):
    return [replace(one, positions=one.positions @ matrix + shift, cell=one.cell @ matrix) for one in FRAMES]


@pytest.mark.parametrize("improper", [False, True])
def test_forces_turn_with_the_structure_and_energies_stay(potential, improper):
    matrix, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    matrix *= np.sign(np.linalg.det(matrix)) * (-1.0 if improper else 1.0)
    energies, forces = call(potential)
    turned_energies, turned_forces = call(potential, transformed(matrix))
    torch.testing.assert_close(turned_energies, energies, rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(turned_forces, forces @ torch.from_numpy(matrix), rtol=1e-9, atol=1e-11)
    assert float(forces.abs().max()) > 1e-3


def test_a_shift_changes_nothing(potential):
    for one, two in zip(call(potential), call(potential, transformed(np.eye(3), 1.7)), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-10)


def test_a_permutation_permutes_forces(potential):
    order = np.array([4, 0, 8, 1, 2, 7, 3, 6, 5])
    ethanol = FRAMES[1]
    permuted = replace(ethanol, species=ethanol.species[order], positions=ethanol.positions[order])
    (energy, forces), (same, permuted_forces) = call(potential, [ethanol]), call(potential, [permuted])
    torch.testing.assert_close(same, energy, rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(permuted_forces, forces[order], rtol=1e-9, atol=1e-11)


def test_a_batch_equals_its_structures_alone(potential):
    alone = [call(potential, [one]) for one in FRAMES]
    energies, forces = call(potential)
    torch.testing.assert_close(energies, torch.cat([one[0] for one in alone]), rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(forces, torch.cat([one[1] for one in alone]), rtol=1e-9, atol=1e-11)


def test_its_forces_are_not_the_gradient_of_its_energy(potential):
    batch = collate(FRAMES, CUTOFF, torch.float64)
    positions = batch.positions.requires_grad_(True)
    energies, forces = potential(*batch.moved(positions).graph)
    (gradient,) = torch.autograd.grad(energies.sum(), positions)
    assert float((forces + gradient).detach().norm()) > 0.1 * float(gradient.norm())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_other_laws_of_a_potential(dtype):
    made = painn("direct")
    made.network.to(dtype)
    check_model(made, FRAMES[:2], CUTOFF, dtype, conservative=False)
    with pytest.raises(ModelCheckError, match="dE/dx"):
        check_model(made, FRAMES[:2], CUTOFF, dtype)


def test_energies_alone_and_energies_with_forces_are_the_same(potential):
    batch = collate(FRAMES, CUTOFF, torch.float64)
    torch.testing.assert_close(potential.energies(*batch.graph), potential(*batch.graph)[0], rtol=1e-14, atol=0)


def test_energies_and_forces_have_one_scale():
    """Ten times the scale: forces, and energies less those of the elements, are ten times as large."""
    config = ModelConfig(channels=8, layers=1, radial_size=6, cutoff=CUTOFF, forces="direct", zbl=False)
    found = []
    for scale in (1.0, 10.0):
        torch.manual_seed(0)
        made = build_potential(config, ENERGIES, scale)
        made.network.double()
        energies, forces = call(made)
        elements = torch.tensor([sum(ENERGIES[int(z)] for z in one.species) for one in FRAMES], dtype=torch.float64)
        found.append((energies - elements, forces))
    torch.testing.assert_close(found[1][0], 10.0 * found[0][0], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(found[1][1], 10.0 * found[0][1], rtol=1e-10, atol=1e-12)


def test_the_gradient_of_a_force_loss_reaches_the_head(potential):
    _, forces = potential(*collate(FRAMES, CUTOFF, torch.float64).graph)
    grads = torch.autograd.grad(forces.square().sum(), list(potential.network.force_head.parameters()))
    assert all(float(grad.abs().max()) > 0 for grad in grads)


def test_forces_can_be_differentiated_without_a_second_pass(potential):
    """predict(create_graph=False) of a direct model costs one pass: nothing is differentiated by positions."""
    prediction = predict(potential, collate(FRAMES, CUTOFF, torch.float64), create_graph=False)
    assert prediction.forces.requires_grad
    with torch.no_grad():
        assert torch.equal(call(potential)[1], prediction.forces)


def test_types():
    for dtype in (torch.float32, torch.float64):
        made = painn("direct")
        made.network.to(dtype)
        energies, forces = call(made, dtype=dtype)
        assert energies.dtype == torch.float64
        assert forces.dtype == dtype


def test_it_is_made_by_configuration():
    assert isinstance(build_potential(ModelConfig(forces="direct", channels=8), ENERGIES), DirectPotential)
    assert not isinstance(build_potential(ModelConfig(channels=8), ENERGIES), DirectPotential)
    dense = build_network(ModelConfig(forces="direct", channels=8), MoleculePairs(5))
    assert dense.first_message.neighbor_sums.n_atoms == 5


@pytest.mark.parametrize("network", ["schnet", "tensornet"])
def test_a_network_without_a_head_is_refused(network):
    with pytest.raises(ConfigError, match=rf"{network} has no force head.*painn"):
        build_network(ModelConfig(network=network, forces="direct"))


def test_it_can_be_scripted(potential):
    scripted = torch.jit.script(potential)
    for one, two in zip(call(potential), call(scripted), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)
