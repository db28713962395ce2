"""The mistakes of the code released with the paper, one test each (numbers as in the project's notes on the method)."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from piwsl.data.batch import collate
from piwsl.losses import (
    PISC,
    PITC,
    Displacement,
    EnergyMAE,
    FixedLength,
    ForceL2MAE,
    FrameRandom,
    NoisyNode,
    Objective,
    RandomDirection,
    TaylorLabels,
    TowardsEnergyError,
    TowardsForceError,
    WeightedTerm,
)
from piwsl.losses.evaluation import evaluate
from piwsl.losses.predictions import PredictionRequest, predict
from tests.support.molecules import frame
from tests.support.potentials import ENERGIES, curling_springs, morse, painn

SMALL, LARGE = frame("H2O"), frame("CH3CH2OH", seed=1)


def points(potential, frames, term, displacement=Displacement(), indices=None, reach=12.0):  # noqa: B008 (frozen)
    batch = collate(frames, reach, torch.float64, indices)
    steps = displacement.copies(term.request.copies, batch, FrameRandom(0, 0), potential)
    return batch, evaluate(potential, batch, steps, term.request)


@pytest.mark.parametrize("potential", [morse(), curling_springs()], ids=["by works", "by forces"])
def test_1_work_is_summed_over_a_structure_not_over_the_batch(potential):
    term = PISC(mixing=0.0)
    both = term.mismatch(points(potential, [SMALL, LARGE], term)[1])
    alone = [term.mismatch(points(potential, [one], term, indices=[i])[1]) for i, one in enumerate((SMALL, LARGE))]
    torch.testing.assert_close(both, torch.cat(alone), rtol=1e-10, atol=0)
    assert float(both.detach()[0]) != pytest.approx(float(both.detach().sum()), rel=1e-2)


@pytest.mark.parametrize("kind", [PITC, PISC])
def test_2_the_mixing_k_has_an_effect(kind):
    """Order 2 at k = 0, order 3 at k = 1/2."""
    ratios = []
    for mixing in (0.0, 0.5):
        term = kind(mixing)
        long, short = (
            float(term.mismatch(points(morse(), [LARGE], term, Displacement(length=FixedLength(length)))[1]).detach())
            for length in (0.02, 0.01)
        )
        ratios.append(long / short)
    assert ratios[0] == pytest.approx(4.0, rel=0.15)
    assert ratios[1] == pytest.approx(8.0, rel=0.15)


@pytest.mark.parametrize("term", [PITC(), PISC(), NoisyNode(), TaylorLabels()])
def test_3_the_displacement_has_the_length_that_was_asked(term):
    """What reaches the model, of every copy; scaled twice it would be 0.0025 angstrom."""
    seen = positions_seen(Objective([WeightedTerm(term, 1.0)], Displacement(length=FixedLength(0.05))))
    moved = [one - seen["origin"] for one in seen["copies"]]
    assert len(moved) == term.request.copies
    for step in moved:
        lengths = torch.linalg.vector_norm(step, dim=-1)
        torch.testing.assert_close(lengths, torch.full_like(lengths, 0.05), rtol=1e-9, atol=0)


@pytest.mark.parametrize("draw", ["normal", "uniform"])
def test_4_the_mean_direction_over_many_draws_is_zero(draw):
    batch = collate([LARGE], 3.0, torch.float64)
    displacement = Displacement(RandomDirection(draw))
    steps = torch.stack([displacement(batch, FrameRandom(0, step), None) for step in range(400)]) / 0.05
    # Each component has variance 1/3; five standard errors of the mean of 3600 draws.
    assert steps.mean((0, 1)).abs().max() < 5.0 / (3 * 3600) ** 0.5


def test_5_structures_of_different_size_in_one_batch_give_what_they_give_alone():
    """Nothing is padded: neither loss nor energies nor forces of water know of the ethanol beside it."""
    potential, terms = painn(), [EnergyMAE(), ForceL2MAE(), PITC(), PISC()]
    frames = [frame("H2O", labeled=True), frame("CH3CH2OH", labeled=True), frame("H2O", seed=3, labeled=True)]
    request = PredictionRequest.union(term.request for term in terms)

    def results(chosen):
        batch = collate([frames[i] for i in chosen], 3.2, torch.float64, chosen)
        steps = Displacement().copies(2, batch, FrameRandom(0, 0), potential)
        found = evaluate(potential, batch, steps, request)
        assert len(found.forces[0]) == sum(len(frames[i].species) for i in chosen)
        return torch.stack([term(found, batch)[0] for term in terms]).detach()

    alone = torch.cat([results([index]) for index in range(3)], dim=1)
    torch.testing.assert_close(results([0, 1, 2]), alone, rtol=1e-9, atol=1e-12)


def test_6_forces_are_the_gradient_of_the_energy():
    potential, term = painn(), PITC()
    batch = collate([LARGE], 3.2, torch.float64)
    forces = predict(potential, batch).forces.detach()
    h = 1e-4
    for atom, axis in ((0, 0), (3, 1), (8, 2)):
        step = torch.zeros_like(batch.positions)
        step[atom, axis] = h
        up, down = (potential.energies(*batch.moved(batch.positions + s * step).graph) for s in (1, -1))
        assert float(forces[atom, axis]) == pytest.approx(-float((up - down).detach()) / (2 * h), abs=1e-6)
    # The works that PITC takes by forward differentiation are works of these forces.
    step = Displacement()(batch, FrameRandom(0, 0), potential)
    found = evaluate(potential, batch, [step], term.request)
    (work,) = (value for key, value in found.works.items() if key == (0, 0, 1))
    assert float(work.detach()) == pytest.approx(float((step * forces).sum()), rel=1e-10)


def test_7_taylor_labels_and_predictions_have_the_same_zero_and_unit():
    """An exact model has only the second-order remainder left, whatever its reference energies and scale are."""
    potential, term = painn(), TaylorLabels()
    batch = collate([SMALL, LARGE], 3.2, torch.float64)
    exact = predict(potential, batch)
    frames = [
        replace(one, energy=float(energy), forces=forces.numpy())
        for one, energy, forces in zip(
            (SMALL, LARGE), exact.energies.detach(), exact.forces.detach().split([3, 9]), strict=True
        )
    ]
    assert abs(frames[1].energy) > 0.9 * abs(2 * ENERGIES[6])
    values = {}
    for length in (0.002, 0.001):
        displacement = Displacement(length=FixedLength(length))
        labeled, found = points(potential, frames, term, displacement, reach=3.2)
        values[length] = term(found, labeled)[0].detach()
    assert (values[0.002] < 1e-3).all()
    torch.testing.assert_close(values[0.002] / values[0.001], torch.full((2,), 4.0).double(), rtol=0.2, atol=0)


@pytest.mark.parametrize("length", [0.01, 0.1])
def test_8_noisy_node_displaces_by_the_noise_that_was_asked(length):
    displacement = Displacement(length=FixedLength(length), draw_length=True)
    longest = 0.0
    for step in range(20):
        seen = positions_seen(Objective([WeightedTerm(NoisyNode(), 1.0)], displacement), step)
        lengths = torch.linalg.vector_norm(seen["copies"][0] - seen["origin"], dim=-1)
        assert float(lengths.max()) <= length * (1 + 1e-9)
        longest = max(longest, float(lengths.max()))
    assert longest > 0.8 * length


@pytest.mark.parametrize("direction", [TowardsForceError(), TowardsEnergyError()])
@pytest.mark.parametrize("norm", ["atom", "structure"])
def test_9_a_prediction_equal_to_its_label_divides_nothing_by_zero(direction, norm):
    potential = painn()
    exact = predict(potential, collate([LARGE], 3.2, torch.float64))
    perfect = replace(LARGE, energy=float(exact.energies.detach()), forces=exact.forces.detach().numpy())
    batch = collate([perfect], 3.2, torch.float64)
    assert torch.equal(predict(potential, batch).forces, batch.forces)
    step = Displacement(direction, norm=norm)(batch, FrameRandom(0, 0), potential)
    assert torch.isfinite(step).all()
    assert float(step.abs().max()) > 0.001
    terms = [ForceL2MAE(), PITC(), PISC()]
    objective = Objective([WeightedTerm(term, 1.0) for term in terms], Displacement(direction, norm=norm))
    loss, _ = objective(potential, batch, FrameRandom(0, 0))
    loss.backward()
    assert all(torch.isfinite(weight.grad).all() for weight in potential.parameters())


def positions_seen(objective, step=0):
    """Positions of ethanol and of its copies as the potential sees them in a step of an objective."""
    potential = painn()
    recorded = []
    inner = potential.energies

    def energies(species, positions, *rest):
        recorded.extend(positions.detach().split(9))
        return inner(species, positions, *rest)

    potential.energies = energies
    batch = collate([frame("CH3CH2OH", labeled=True)], 3.0 + objective.margin, torch.float64)
    objective(potential, batch, FrameRandom(0, step))
    copies = [one for one in recorded if not torch.equal(one, batch.positions)]
    return {"origin": batch.positions, "copies": copies}


def test_the_spy_sees_every_copy():
    seen = positions_seen(Objective([WeightedTerm(PISC(), 1.0)]))
    assert len(seen["copies"]) == 2
    assert not np.allclose(seen["copies"][0], seen["copies"][1])
