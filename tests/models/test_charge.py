"""Charge and spin as input of networks: SO3LR, and PaiNN with `charge_embedding`."""

import copy
from dataclasses import replace

import pytest
import torch

from piwsl.data.batch import collate
from piwsl.losses.evaluation import evaluate
from piwsl.losses.predictions import PredictionRequest, Work
from piwsl.models import ModelConfig, build_potential
from piwsl.testing import check_model
from tests.support.molecules import frame, oxide

ENERGIES = {1: -13.0, 6: -1030.0, 7: -1480.0, 8: -2042.0}
OPTIONS = {
    "so3lr": {"cutoff": 6.0, "message_cutoff": 4.0, "channels": 8, "layers": 2, "heads": 2, "degrees": 2},
    "painn": {"cutoff": 4.0, "channels": 8, "layers": 2, "charge_embedding": True},
    "direct": {"cutoff": 4.0, "channels": 8, "layers": 2, "charge_embedding": True, "forces": "direct"},
}
NETWORKS = list(OPTIONS)
STATES = [(-1, 1), (0, 0), (1, 1), (1, 0), (0, 2)]


def made(kind, dtype=torch.float64, **options):
    torch.manual_seed(3)
    config = ModelConfig(network="painn" if kind == "direct" else kind, **{**OPTIONS[kind], **options})
    assert config.takes_charge
    potential = build_potential(config, ENERGIES, scale=1.7)
    potential.network.to(dtype)
    return potential


def charged(formula, charge=float("nan"), unpaired=float("nan")):
    return replace(frame(formula), charge=float(charge), unpaired_electrons=float(unpaired))


def results(potential, frames, dtype=torch.float64):
    energies, forces = potential(*collate(frames, potential.network.cutoff, dtype).graph)
    return energies.detach(), forces.detach()


@pytest.mark.parametrize("state", STATES)
def test_so3lr_gives_what_the_options_give(state):
    fixed = made("so3lr", charge=state[0], unpaired_electrons=state[1])
    energies, forces = results(fixed, [frame("CH3CH2OH")])
    stated = results(made("so3lr"), [charged("CH3CH2OH", *state)])
    assert torch.equal(stated[0], energies)
    assert torch.equal(stated[1], forces)
    over = results(made("so3lr", charge=5, unpaired_electrons=3), [charged("CH3CH2OH", *state)])
    assert torch.equal(over[0], energies)


def test_the_options_of_so3lr_are_the_defaults():
    potential = made("so3lr", charge=-1, unpaired_electrons=1)
    nothing, _ = results(potential, [frame("H2O")])
    for partly in (charged("H2O", charge=-1), charged("H2O", unpaired=1), charged("H2O", -1, 1)):
        assert torch.equal(results(potential, [partly])[0], nothing)
    assert not torch.equal(results(potential, [charged("H2O", charge=0)])[0], nothing)


@pytest.mark.parametrize("kind", NETWORKS)
def test_charge_and_spin_matter_and_batches_do_not(kind):
    potential = made(kind)
    frames = [charged("CH3CH2OH", *state) for state in STATES] + [charged("H2O", -1, 1), frame("NH3")]
    energies, forces = results(potential, frames)
    assert len({round(float(energy), 6) for energy in energies[:5]}) == 5
    first = 0
    for index, one in enumerate(frames):
        energy, force = results(potential, [one])
        assert energies[index] == pytest.approx(float(energy), abs=1e-9)
        torch.testing.assert_close(forces[first : first + len(force)], force, rtol=0, atol=1e-10)
        first += len(force)
    neutral, _ = results(potential, [frame("CH3CH2OH")])
    assert energies[1] == pytest.approx(float(neutral), abs=1e-9)


@pytest.mark.parametrize("kind", ["painn", "direct"])
def test_painn_without_the_option_is_unchanged(kind):
    torch.manual_seed(3)
    options = {**OPTIONS[kind], "charge_embedding": False}
    config = ModelConfig(network="painn", **options)
    assert not config.takes_charge
    plain = build_potential(config, ENERGIES, scale=1.7).double()
    assert not any(name.startswith(("charge", "spin")) for name in plain.network.state_dict())
    assert "default_charge_spin" not in dict(plain.named_buffers())
    embedding = made(kind)
    embedding.network.load_state_dict(plain.network.state_dict(), strict=False)
    # The features of a neutral closed shell are exactly zero, so a trained PaiNN can be given the option later.
    for one, same in ((frame("H2O"), True), (charged("H2O", 0, 0), True), (charged("H2O", 1, 1), False)):
        with_option, without = results(embedding, [one]), results(plain, [one])
        assert torch.equal(with_option[0], without[0]) == same
    assert torch.equal(results(plain, [frame("H2O")])[1], results(plain, [charged("H2O", 1, 1)])[1])


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("state", [(1, 1), (-1, 0)])
def test_laws_of_charged_structures(kind, state):
    potential = made(kind)
    if kind == "so3lr":
        # As in the original, the electrostatic energy has a jump in its second derivative at the cutoff, and the shares
        # of the atoms add up to slightly less than 1.
        potential.network.electrostatics.prefactor = 0.0
        potential.network.transformer.charge.smallest = potential.network.transformer.spin.smallest = 0.0
    frames = [charged(formula, *state) for formula in ("H2O", "CH3CH2OH")]
    check_model(potential, frames, potential.network.cutoff, torch.float64, conservative=kind != "direct")


@pytest.mark.parametrize("kind", ["so3lr", "painn"])
def test_losses_keep_the_charges_of_displaced_copies(kind):
    potential = made(kind).requires_grad_(True)
    frames = [charged("H2O", 1, 1), charged("H2O", -1, 1), frame("NH3")]
    batch = collate(frames, potential.network.cutoff + 0.5, torch.float64)
    step = 0.02 * torch.randn(batch.positions.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    request = PredictionRequest(energies=frozenset({0}), forces=frozenset({1}), works=frozenset({Work(0, 0, 1)}))
    points = evaluate(potential, batch, [step], request)
    moved = batch.moved(batch.positions + step)
    energies, forces = potential(*moved.graph)
    torch.testing.assert_close(points.energies[1], energies)
    torch.testing.assert_close(points.forces[1], forces)
    here, own = potential(*batch.graph)
    torch.testing.assert_close(points.energies[0], here)
    torch.testing.assert_close(points.work(Work(0, 0, 1)).sum(), (step * own).sum())


@pytest.mark.parametrize("kind", ["painn", "direct"])
def test_stress_and_direct_forces_of_charged_cells(kind):
    potential = made(kind).requires_grad_(True)
    cells = [replace(oxide(), charge=charge, unpaired_electrons=0.0) for charge in (1.0, -1.0)]
    batch = collate(cells, potential.network.cutoff, torch.float64)
    points = evaluate(potential, batch, [], PredictionRequest(forces=frozenset({0}), stress=True))
    energies, forces = potential(*batch.graph)
    torch.testing.assert_close(points.energies[0], energies)
    torch.testing.assert_close(points.forces[0], forces)
    assert float((energies[0] - energies[1]).detach().abs()) > 1e-6


@pytest.mark.parametrize("kind", NETWORKS)
def test_scripted_potentials(kind):
    potential = made(kind)
    scripted = torch.jit.script(copy.deepcopy(potential))
    batch = collate([charged("H2O", 1, 1), frame("NH3")], potential.network.cutoff, torch.float64)
    torch.testing.assert_close(scripted(*batch.graph), potential(*batch.graph))
