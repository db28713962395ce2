"""Adversarial directions lead where the model is wrong: errors exceed those after random steps of the same length."""

import numpy as np
import pytest
import torch

from piwsl.data.batch import collate
from piwsl.data.frames import Frame
from piwsl.losses import (
    PITC,
    Displacement,
    FixedLength,
    FrameRandom,
    TowardsDisagreement,
    TowardsEnergyError,
    TowardsForceError,
)
from piwsl.losses.directions import RandomDraw, unit_vectors
from piwsl.losses.evaluation import evaluate
from piwsl.losses.predictions import predict, predict_conservative
from tests.support.molecules import frame
from tests.support.potentials import morse, painn

TRUTH = morse()
NAMES = ["CH3CH2OH", "C6H6", "CH3CHO"]
DRAWS = 50


def labeled(name, seed=0):
    """A frame with the labels of the true surface."""
    batch = collate([frame(name, seed=seed)], 12.0, torch.float64)
    energy, forces = (part.detach() for part in TRUTH(*batch.graph))
    return Frame(batch.species.numpy(), batch.positions.numpy(), float(energy), forces.numpy())


def models():
    """Models that are wrong in their own ways; the network's surface is rough, the other a little too stiff."""
    network = painn(cutoff=12.0, layers=1)
    network.reference_energies.zero_()
    direct = painn("direct", cutoff=12.0, layers=1)
    direct.reference_energies.zero_()
    return {"too stiff": morse(1.1, 1.35, 1.25), "network": network, "direct": direct}


def forces_error(potential, batch, step):
    """E_ref - E_pred at the displaced structure, whose gradient is F_pred - F_ref."""
    moved = batch.moved(batch.positions + step)
    return TRUTH.energies(*moved.graph) - potential.energies(*moved.graph)


def energy_error(potential, batch, step):
    """The error of the predicted energy at the displaced structure against the label of the structure."""
    return (potential.energies(*batch.moved(batch.positions + step).graph) - batch.energy).abs()


def disagreement(potential, batch, step):
    points = evaluate(potential, batch, [step], PITC(0.0).request)
    return PITC(0.0).mismatch(points).abs()


def compared(direction, measure, potential, structure, length):
    """The measure along the direction and along random ones of the same length, (DRAWS,) each."""
    batch = collate([structure] * DRAWS, 12.0, torch.float64)
    adversarial, random = Displacement(direction, FixedLength(length)), Displacement(length=FixedLength(length))
    return tuple(
        measure(potential, batch, one(batch, FrameRandom(0, 0), potential)).detach().numpy()
        for one in (adversarial, random)
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("model", ["too stiff", "network"])
def test_towards_the_force_error_raises_it(model, name):
    towards, random = compared(TowardsForceError(), forces_error, models()[model], labeled(name), 0.01)
    assert towards.min() > random.max()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("model", ["too stiff", "network", "direct"])
def test_towards_the_energy_error_raises_it(model, name):
    towards, random = compared(TowardsEnergyError(), energy_error, models()[model], labeled(name), 0.01)
    assert towards.min() > random.max()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("model", ["too stiff", "network", "direct"])
def test_towards_the_disagreement_raises_it_without_any_label(model, name):
    towards, random = compared(TowardsDisagreement(), disagreement, models()[model], frame(name), 0.02)
    assert np.square(towards).mean() > 5.0 * np.square(random).mean()


def test_the_disagreement_follows_the_gradient_of_its_square():
    """Against finite differences of r(d)^2 at the random displacement that it starts from, with forces of any kind."""
    for potential in models().values():
        batch = collate([frame("H2O")], 12.0, torch.float64)
        draw, lengths = RandomDraw(FrameRandom(0, 0), 1), torch.full((3,), 0.05, dtype=torch.float64)
        start = draw.vectors(batch) * 0.05
        found = TowardsDisagreement()(batch, draw, lengths, potential)
        h, slope = 1e-5, torch.zeros(3, 3, dtype=torch.float64)
        for atom in range(3):
            for axis in range(3):
                step = torch.zeros_like(start)
                step[atom, axis] = h
                up, down = (disagreement(potential, batch, start + s * step) ** 2 for s in (1, -1))
                slope[atom, axis] = float((up - down).detach()) / (2 * h)
        torch.testing.assert_close(found / found.norm(), slope / slope.norm(), rtol=1e-4, atol=1e-5)


def test_where_a_label_is_missing_the_direction_is_random():
    bare = frame("C6H6")
    batch = collate([labeled("CH3CHO"), bare], 12.0, torch.float64)
    potential = models()["too stiff"]
    random = Displacement()(batch, FrameRandom(0, 0), None)
    for direction in (TowardsForceError(), TowardsEnergyError()):
        step = Displacement(direction)(batch, FrameRandom(0, 0), potential)
        torch.testing.assert_close(step[7:], random[7:])
        assert not torch.allclose(step[:7], random[:7])


def test_the_energy_error_pushes_up_what_is_too_high_and_down_what_is_too_low():
    potential = morse()
    batch = collate([frame("CH3CHO")], 12.0, torch.float64)
    energy, forces = (part.detach() for part in potential(*batch.graph))
    for shift, sign in ((0.1, 1.0), (-0.1, -1.0)):
        off = Frame(batch.species.numpy(), batch.positions.numpy(), float(energy) + shift, forces.numpy())
        vectors = TowardsEnergyError()(
            collate([off], 12.0, torch.float64), RandomDraw(FrameRandom(0, 0), 1), torch.ones(7), potential
        )
        torch.testing.assert_close(vectors, sign * forces)


def test_slopes_are_forces_unless_there_is_a_head():
    batch = collate([frame("CH3CHO")], 4.0, torch.float64)
    for kind, same in (("conservative", True), ("direct", False)):
        potential = painn(kind)
        assert torch.allclose(predict_conservative(potential, batch).forces, predict(potential, batch).forces) == same
        assert not predict_conservative(potential, batch).energies.requires_grad


def test_unit_vectors_keep_zeros():
    vectors = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0], [1e-30, 0.0, 0.0]], dtype=torch.float64)
    expected = [[0.6, 0.8, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    torch.testing.assert_close(unit_vectors(vectors), torch.tensor(expected).double())
