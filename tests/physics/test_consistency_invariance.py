"""What must not change a loss: the other structures of a batch, their order, and a rotation of everything."""

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
    FractionOfNearestNeighbor,
    FrameRandom,
    NoisyNode,
    Objective,
    PISCPaths,
    PITCBack,
    RandomDirection,
    StressMAE,
    TaylorLabels,
    TowardsDisagreement,
    TowardsEnergyError,
    TowardsForceError,
    WeightedTerm,
)
from piwsl.losses.evaluation import evaluate
from piwsl.losses.predictions import PredictionRequest
from tests.support.molecules import frame, oxide
from tests.support.potentials import painn

CUTOFF = 3.0
CONSISTENCY = [PITC(0.5), PITC(0.2, per_atom=True), PITCBack(0.1), PISC(0.5), PISC(0.3), PISCPaths(0.25)]
TERMS = [EnergyMAE(), ForceL2MAE(), *CONSISTENCY, NoisyNode(), TaylorLabels()]
DISPLACEMENTS = {
    "normal": Displacement(),
    "uniform": Displacement(RandomDirection("uniform")),
    "force error": Displacement(TowardsForceError()),
    "energy error": Displacement(TowardsEnergyError()),
    "disagreement": Displacement(TowardsDisagreement()),
    "share of the distance": Displacement(length=FractionOfNearestNeighbor(0.1)),
    "long": Displacement(length=FixedLength(0.4)),
    "norm of the structure": Displacement(norm="structure"),
    "adversarial, norm of the structure": Displacement(TowardsDisagreement(), norm="structure"),
    "drawn length": Displacement(draw_length=True),
    "some atoms": Displacement(probability=0.5),
    "no translation": Displacement(remove="translation"),
    "no rigid motion": Displacement(remove="rigid", probability=0.7, draw_length=True),
}
FRAMES = [
    frame("H2O", labeled=True),
    frame("CH3CH2OH", seed=1, labeled=True),
    oxide(labeled=True),
    frame("O", labeled=True),
    frame("CO2", rattle=0.0),
    frame("C6H6", seed=2, labeled=True),
]


@pytest.fixture(scope="module", params=["conservative", "direct"])
def potential(request):
    return painn(request.param, layers=1)


def values(terms, potential, displacement, chosen, randomness=FrameRandom(3, 7), frames=FRAMES):  # noqa: B008 (frozen)
    """Value of each term for each of the chosen frames (terms, S), with a zero where there is no label."""
    batch = collate([frames[i] for i in chosen], CUTOFF + displacement.margin, torch.float64, chosen)
    steps = displacement.copies(2, batch, randomness, potential)
    points = evaluate(potential, batch, steps, PredictionRequest.union(term.request for term in terms))
    rows = [torch.where(mask, value, 0.0) for value, mask in (term(points, batch) for term in terms)]
    return torch.stack(rows).detach()


@pytest.mark.parametrize("name", DISPLACEMENTS)
def test_a_batch_of_structures_of_different_size_equals_the_same_ones_alone(name, potential):
    displacement, everything = DISPLACEMENTS[name], list(range(len(FRAMES)))
    terms = [*TERMS, StressMAE()]
    together = values(terms, potential, displacement, everything)
    alone = torch.cat([values(terms, potential, displacement, [index]) for index in everything], dim=1)
    torch.testing.assert_close(together, alone, rtol=1e-8, atol=1e-10)
    order = [5, 2, 0, 3, 1, 4]
    torch.testing.assert_close(values(terms, potential, displacement, order), together[:, order], rtol=1e-8, atol=1e-10)
    assert (together > 0).sum() > together.numel() / 2


class Turned(FrameRandom):
    """Random vectors that turn with the structures, as they would if they were drawn in their frame."""

    matrix = torch.eye(3, dtype=torch.float64)

    def atoms(self, batch, purpose, normal=True):
        return super().atoms(batch, purpose, normal) @ self.matrix


@pytest.mark.parametrize("name", DISPLACEMENTS)
def test_invariant_to_rotation(name, potential):
    matrix, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    turned = [
        replace(one, positions=one.positions @ matrix, forces=one.forces @ matrix, cell=one.cell @ matrix)
        for one in FRAMES
    ]
    randomness = Turned(3, 7)
    object.__setattr__(randomness, "matrix", torch.from_numpy(matrix))
    everything = list(range(len(FRAMES)))
    before = values(TERMS, potential, DISPLACEMENTS[name], everything)
    after = values(TERMS, potential, DISPLACEMENTS[name], everything, randomness, turned)
    torch.testing.assert_close(before, after, rtol=1e-7, atol=1e-9)


def test_the_loss_of_a_batch_is_the_mean_over_its_structures(potential):
    """Through the objective, with structures of different size: the loss of two is the mean of the losses of each."""
    objective = Objective([WeightedTerm(term, 2.0) for term in CONSISTENCY])

    def loss(chosen):
        batch = collate([FRAMES[i] for i in chosen], CUTOFF + objective.margin, torch.float64, chosen)
        return float(objective(potential, batch, FrameRandom(0, 0))[0].detach())

    assert loss([0, 5]) == pytest.approx(0.5 * (loss([0]) + loss([5])), rel=1e-9)
