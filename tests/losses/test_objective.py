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
    Linear,
    NoisyNode,
    Objective,
    PISCPaths,
    PITCBack,
    Step,
    TaylorLabels,
    TowardsDisagreement,
    WeightedTerm,
)
from tests.support.molecules import frame, oxide
from tests.support.potentials import painn

LABELED = [frame("H2O", labeled=True), oxide(labeled=True)]


class Counting:
    """A potential that counts how many structures it is asked for, in which calls."""

    def __init__(self, forces="conservative"):
        self.potential = painn(forces, layers=1)
        self.calls = []
        name = "energies_of_edges" if forces == "conservative" else "energies_and_forces_of_edges"
        inner = getattr(self.potential, name)
        setattr(self.potential, name, lambda *graph: self.calls.append(graph[4]) or inner(*graph))


def batch_for(objective, frames=LABELED):
    return collate(frames, 3.0 + objective.margin, torch.float64)


def weighted(*terms):
    return [WeightedTerm(term, coefficient) for term, coefficient in terms]


def run(objective, step=0, frames=LABELED, forces="conservative"):
    counting = Counting(forces)
    loss, parts = objective(counting.potential, batch_for(objective, frames), FrameRandom(0, step))
    return float(loss.detach()), {name: float(part) for name, part in parts.items()}, counting.calls


@pytest.mark.parametrize("forces", ["conservative", "direct"])
def test_the_total_is_the_weighted_sum(forces):
    objective = Objective(weighted((EnergyMAE(), 1.5), (ForceL2MAE(), 10.0), (PITC(0.0), 2.0), (PISC(0.0), 3.0)))
    loss, parts, _ = run(objective, forces=forces)
    assert set(parts) == {"energy", "forces", "pitc", "pisc"}
    expected = 1.5 * parts["energy"] + 10.0 * parts["forces"] + 2.0 * parts["pitc"] + 3.0 * parts["pisc"]
    assert loss == pytest.approx(expected, rel=1e-12)
    assert all(part > 0 for part in parts.values())


def test_all_copies_of_a_direct_model_go_through_it_in_one_call():
    objective = Objective(weighted((EnergyMAE(), 1.0), (PITC(), 1.0), (PISC(), 1.0)))
    assert run(objective, forces="direct")[2] == [6]


def test_cadence_and_warmup_hold_for_whatever_needs_copies():
    objective = Objective(
        weighted((EnergyMAE(), 1.0), (PITC(), 1.0), (NoisyNode(), 1.0), (TaylorLabels(), 1.0)), cadence=3, warmup=4
    )
    acting = [step for step in range(12) if len(objective.acting(step)) == 4]
    assert acting == [4, 7, 10]
    assert all(len(objective.acting(step)) == 1 for step in range(12) if step not in acting)
    _, parts, calls = run(objective, 5)
    assert set(parts) == {"energy"}
    assert calls == [2]
    assert set(run(objective, 7)[1]) == {"energy", "pitc", "noisy_node", "taylor_labels"}


def test_a_coefficient_of_zero_is_not_evaluated():
    terms = [(EnergyMAE(), 1.0), (ForceL2MAE(), 0.0), (PITC(), 0.0), (PISC(), 0.0), (NoisyNode(), 0.0)]
    _, parts, calls = run(Objective(weighted(*terms)))
    assert set(parts) == {"energy"}
    assert calls == [2]  # energies alone: neither forces nor copies


def test_a_schedule_turns_a_term_on_and_weighs_it():
    objective = Objective(weighted((EnergyMAE(), 1.0), (PITC(0.0), Linear(0.0, 4.0, 10, 20))))
    assert set(run(objective, 10)[1]) == {"energy"}
    for step, coefficient in ((15, 2.0), (20, 4.0), (99, 4.0)):
        loss, parts, _ = run(objective, step)
        assert loss == pytest.approx(parts["energy"] + coefficient * parts["pitc"], rel=1e-12)
    stops = Objective(weighted((EnergyMAE(), 1.0), (PITC(), Step(1.0, 0.0, 0, 5))))
    assert [len(run(stops, step)[2]) for step in (4, 5)] == [1, 1]
    assert [run(stops, step)[2] for step in (4, 5)] == [[4], [2]]


def test_terms_without_labels_in_a_batch_are_left_out_and_not_evaluated():
    objective = Objective(weighted((EnergyMAE(), 1.0), (ForceL2MAE(), 1.0), (PITC(), 1.0), (TaylorLabels(), 1.0)))
    energy_alone = [replace(frame("H2O"), energy=1.0)]
    _, parts, calls = run(objective, frames=energy_alone)
    assert set(parts) == {"energy", "pitc"}
    assert calls == [2]  # both points by a directional derivative, no forces
    forces_alone = [replace(frame("H2O"), forces=np.ones((3, 3)))]
    assert set(run(objective, frames=forces_alone)[1]) == {"forces", "pitc"}
    assert set(run(objective, frames=[frame("H2O")])[1]) == {"pitc"}


@pytest.mark.parametrize("forces", ["conservative", "direct"])
def test_a_step_without_any_label_and_term_is_zero_and_asks_the_model_nothing(forces):
    """An unlabeled batch between two actions of PITC."""
    objective = Objective(weighted((EnergyMAE(), 1.0), (PITC(), 1.0)), cadence=10)
    loss, parts, calls = run(objective, 1, [frame("H2O")], forces)
    assert (loss, parts, calls) == (0.0, {}, [])


def test_a_frozen_weight_gets_no_gradient():
    potential = painn(layers=1)
    potential.network.embedding.requires_grad_(False)
    objective = Objective(weighted((EnergyMAE(), 1.0), (PITC(), 1.0)))
    objective(potential, batch_for(objective), FrameRandom(0, 0))[0].backward()
    assert potential.network.embedding.weight.grad is None


def test_the_mean_over_several_processes_is_asked_for_by_every_term_that_acts():
    """Also by one without labels here: other processes may have them, and all must ask alike."""
    asked = []

    def mean(values, labeled):
        asked.append(labeled.tolist())
        return values[labeled].mean() if labeled.any() else values.sum()

    objective = Objective(weighted((EnergyMAE(), 1.0), (ForceL2MAE(), 1.0), (PITC(), 1.0)))
    batch = batch_for(objective, [replace(frame("H2O"), energy=1.0), frame("CO2")])
    _, parts = objective(painn(), batch, FrameRandom(0, 0), mean)
    assert asked == [[True, False], [False, False], [True, True]]
    assert set(parts) == {"energy", "forces", "pitc"}


def test_validation_measures_what_needs_no_copies():
    objective = Objective(
        weighted((EnergyMAE(), 1.0), (PITC(), 2.0), (PITCBack(), 1.0), (PISC(), 1.0), (PISCPaths(), 1.0)),
        Displacement(length=FixedLength(0.2)),
        cadence=3,
        warmup=5,
    )
    assert [one.term for one in objective.undisplaced.terms] == [EnergyMAE()]
    assert objective.undisplaced.margin == 0.0
    assert objective.undisplaced.copies == 0
    assert objective.copies == 2
    assert objective.margin == 0.4


def test_the_loss_depends_on_the_seed_and_the_step():
    objective = Objective(weighted((PITC(0.0), 1.0)))
    potential, batch = painn(), batch_for(objective)
    losses = [
        float(objective(potential, batch, FrameRandom(*one))[0].detach()) for one in ((0, 0), (0, 0), (0, 1), (1, 0))
    ]
    assert losses[0] == losses[1]
    assert len(set(losses)) == 3


@pytest.mark.parametrize("forces", ["conservative", "direct"])
def test_adversarial_directions_leave_no_gradient_behind(forces):
    """The gradient of the loss is that at fixed displacements: how they were found teaches nothing."""
    displacement = Displacement(TowardsDisagreement())
    objective = Objective(weighted((PITC(0.0), 1.0), (PISC(0.0), 1.0)), displacement)
    potential = painn(forces)
    batch = batch_for(objective)
    steps = displacement.copies(2, batch, FrameRandom(0, 3), potential)

    class Given:
        margin = displacement.margin

        def copies(self, count, batch, randomness, potential):
            return steps[:count]

    gradients = []
    for one in (objective, replace(objective, displacement=Given())):
        potential.zero_grad()
        one(potential, batch, FrameRandom(0, 3))[0].backward()
        gradients.append(torch.cat([weight.grad.flatten() for weight in potential.parameters()]))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("forces", ["conservative", "direct"])
def test_a_few_steps_lower_the_loss(forces, dtype):
    """Every term at once, on molecules and a cell, in both types."""
    torch.manual_seed(0)
    terms = [
        (EnergyMAE(), 1.0),
        (ForceL2MAE(), 1.0),
        (PITC(), 1.0),
        (PISC(), 1.0),
        (PITCBack(), 1.0),
        (PISCPaths(), 1.0),
    ]
    objective = Objective(weighted(*terms, (NoisyNode(), 0.1), (TaylorLabels(), 1.0)))
    potential = painn(forces, layers=1)
    potential.network.to(dtype)
    potential.reference_energies.zero_()
    batch = collate(LABELED, 3.0 + objective.margin, dtype)
    optimizer = torch.optim.Adam(potential.parameters(), 0.01)
    losses = []
    for step in range(15):
        optimizer.zero_grad()
        loss, _ = objective(potential, batch, FrameRandom(0, step))
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert all(np.isfinite(losses))
    assert losses[-1] < 0.8 * losses[0]
