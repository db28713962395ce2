"""Terms that learn from a teacher: their values, where they act, and what the teacher computes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from piwsl.data.batch import collate
from piwsl.losses import (
    PITC,
    Displacement,
    EnergyMAE,
    FixedLength,
    ForceL2MAE,
    FrameRandom,
    Objective,
    Teacher,
    TeacherCurvature,
    TeacherForces,
    TeacherPITC,
    WeightedTerm,
)
from piwsl.losses.curvature import hessian_product, random_directions
from tests.support.molecules import frame, oxide
from tests.support.potentials import painn

LABELED = frame("CH3CH2OH", seed=1, labeled=True)
BARE = frame("H2O", seed=2)
CELL = oxide()
FRAMES = [LABELED, BARE, CELL]
TERMS = (TeacherForces, TeacherPITC, TeacherCurvature)


def frozen(*arguments, **options):
    return painn(*arguments, **options).requires_grad_(False)


def objective_of(*terms, teacher, cutoff=3.0, **options):
    made = Teacher([teacher] if not isinstance(teacher, list) else teacher, cutoff, 3.0)
    displacement = Displacement(length=FixedLength(0.03))
    return Objective([WeightedTerm(term, 1.0) for term in terms], displacement, teacher=made, **options)


def run(objective, student, frames=FRAMES, step=0):
    batch = collate(frames, 3.0 + objective.margin, torch.float64)
    loss, parts = objective(student, batch, FrameRandom(0, step))
    return loss, {name: float(part) for name, part in parts.items()}, batch


@pytest.mark.parametrize("forces", ["conservative", "direct"])
@pytest.mark.parametrize("target", ["energy", "work"])
def test_nothing_is_left_to_learn_from_oneself(forces, target):
    terms = (TeacherForces(True), TeacherPITC(True, target), TeacherCurvature(True))
    objective = objective_of(*terms, teacher=frozen(forces))
    _, parts, _ = run(objective, painn(forces))
    assert set(parts) == {"teacher_forces", "teacher_pitc", "teacher_curvature"}
    # The work of the trapezoid rule differs from the energy by the third order.
    tolerance = 1e-20 if target == "energy" else 1e-4
    assert parts["teacher_forces"] == pytest.approx(0.0, abs=1e-12)
    assert parts["teacher_curvature"] == pytest.approx(0.0, abs=1e-10)
    if forces == "conservative" or target == "energy":
        assert parts["teacher_pitc"] == pytest.approx(0.0, abs=tolerance)


def test_the_values_are_those_of_their_definitions():
    student, teacher = painn(), frozen(seed=5)
    objective = objective_of(TeacherForces(True), TeacherPITC(True), TeacherCurvature(True), teacher=teacher)
    _, parts, batch = run(objective, student)
    displacement = objective.displacement.copies(1, batch, FrameRandom(0, 0), student)[0]
    moved = batch.moved(batch.positions + displacement)

    def change(potential):
        return (potential.energies(*moved.graph) - potential.energies(*batch.graph)).detach()

    def mean_norm(vectors):
        parts = vectors.norm(dim=-1).split(batch.n_atoms.tolist())
        return float(torch.stack([part.mean() for part in parts]).mean())

    directions = random_directions(batch, FrameRandom(0, 0))
    curvatures = [hessian_product(potential, batch, directions).detach() for potential in (student, teacher)]
    forces = [potential(*batch.graph)[1].detach() for potential in (student, teacher)]
    assert parts["teacher_pitc"] == pytest.approx(float((change(student) - change(teacher)).square().mean()))
    assert parts["teacher_forces"] == pytest.approx(mean_norm(forces[0] - forces[1]))
    assert parts["teacher_curvature"] == pytest.approx(mean_norm(curvatures[0] - curvatures[1]))


@pytest.mark.parametrize("term", TERMS)
def test_they_act_where_forces_are_missing(term):
    student, teacher = painn(), frozen(seed=5)
    everywhere = run(objective_of(term(True), teacher=teacher), student)[1]
    missing = run(objective_of(term(), teacher=teacher), student)[1]
    only = run(objective_of(term(True), teacher=teacher), student, [BARE, CELL])[1]
    # Displacements and directions depend on the index of a frame.
    if term is TeacherForces:
        assert missing == pytest.approx(only)
    assert missing != pytest.approx(everywhere)
    assert run(objective_of(term(), teacher=teacher), student, [LABELED])[1] == {}
    energies = replace(LABELED, forces=np.full_like(LABELED.forces, np.nan))
    assert run(objective_of(term(), teacher=teacher), student, [energies])[1]


def test_an_offset_between_the_energies_has_no_effect_and_the_teacher_is_not_trained():
    student, teacher = painn(), frozen(seed=5)
    before = run(objective_of(TeacherPITC(True), teacher=teacher), student)[1]
    teacher.reference_energies += 3.0
    loss, after, _ = run(objective_of(TeacherPITC(True), teacher=teacher), student)
    assert after["teacher_pitc"] == pytest.approx(before["teacher_pitc"], rel=1e-8)
    loss.backward()
    assert any(weight.grad is not None and weight.grad.abs().max() > 0 for weight in student.parameters())
    assert all(weight.grad is None for weight in teacher.parameters())


def test_strong_and_weak_labels_in_one_objective():
    terms = (EnergyMAE(), ForceL2MAE(), PITC(), TeacherForces(), TeacherPITC(), TeacherCurvature())
    loss, parts, _ = run(objective_of(*terms, teacher=frozen(seed=5)), painn())
    assert set(parts) == {term.name for term in terms}
    assert float(loss.detach()) == pytest.approx(sum(parts.values()))


def test_cadence_holds_for_displacements_and_curvature_but_not_for_forces():
    terms = (TeacherForces(), TeacherPITC(), TeacherCurvature())
    objective = objective_of(*terms, teacher=frozen(), cadence=3, warmup=1)
    assert [len(objective.acting(step)) for step in range(5)] == [1, 3, 1, 1, 3]


def test_the_teacher_takes_the_place_of_force_labels_in_the_validation():
    terms = (EnergyMAE(), TeacherForces(), TeacherPITC(), TeacherCurvature())
    validated = objective_of(*terms, teacher=frozen()).undisplaced
    assert [weighted.term for weighted in validated.terms] == [EnergyMAE(), TeacherForces(everywhere=True)]
    assert validated.teacher is not None
    with_labels = objective_of(ForceL2MAE(), *terms, teacher=frozen(), cutoff=4.0).undisplaced
    assert [weighted.term for weighted in with_labels.terms] == [ForceL2MAE(), EnergyMAE()]
    assert with_labels.margin == 0.0


class Calls:
    """Counts the calls of the network of a potential."""

    def __init__(self, potential):
        self.count = 0
        inner = potential.energies_of_edges

        def counted(*graph):
            self.count += 1
            return inner(*graph)

        potential.energies_of_edges = counted


def test_fixed_structures_are_computed_once():
    teacher = frozen(seed=5)
    calls = Calls(teacher)
    objective = objective_of(TeacherForces(True), TeacherPITC(True), teacher=teacher)
    first = run(objective, painn(), step=0)[1]
    assert calls.count == 2  # the structures, and their displaced copies
    second = run(objective, painn(), step=1)[1]
    assert calls.count == 3
    assert second["teacher_forces"] == pytest.approx(first["teacher_forces"], rel=1e-12)
    assert second["teacher_pitc"] != first["teacher_pitc"]
    # Other frames are computed, and a probe does not disturb what is stored.
    probe = replace(objective, teacher=objective.teacher.fresh())
    run(probe, painn(), [CELL])
    assert run(objective, painn(), step=0)[1] == pytest.approx(first, rel=1e-12)


@pytest.mark.parametrize(("own", "of_teacher"), [(3.0, 4.0), (3.0, 2.0)])
def test_both_see_the_neighbors_within_their_cutoffs(own, of_teacher):
    """The edges of a batch reach to the larger cutoff; energies are those with the cutoff of each."""
    student, teacher = painn(cutoff=own), frozen(cutoff=of_teacher, seed=5)
    objective = objective_of(TeacherForces(True), TeacherPITC(True), teacher=teacher, cutoff=of_teacher)
    assert objective.margin == pytest.approx(0.06 + max(0.0, of_teacher - own))
    _, parts, batch = run(objective, student)
    narrow = objective.teacher.student_batch(batch, 0.06)
    assert (narrow.edges.shape[1] < batch.edges.shape[1]) == (of_teacher > own)
    edges = []
    inner = teacher.energies_of_edges
    teacher.energies_of_edges = lambda *graph: edges.append(graph[1].shape[1]) or inner(*graph)
    objective.teacher.fresh()(batch, (), TeacherForces().request, None, 0.06)
    assert (edges[0] < batch.edges.shape[1]) == (of_teacher < own)
    exact = collate(FRAMES, 5.0, torch.float64)
    forces = [potential(*exact.graph)[1].detach() for potential in (student, teacher)]
    norms = (forces[0] - forces[1]).norm(dim=-1).split(exact.n_atoms.tolist())
    assert parts["teacher_forces"] == pytest.approx(float(torch.stack([norm.mean() for norm in norms]).mean()))


def test_several_teachers_give_their_mean():
    members = [frozen(seed=5), frozen(seed=6)]
    objective = objective_of(TeacherForces(True), TeacherCurvature(True), TeacherPITC(True), teacher=members)
    batch = collate(FRAMES, 3.0 + objective.margin, torch.float64)
    directions = random_directions(batch, FrameRandom(0, 0))
    moves = [torch.full_like(batch.positions, 0.01)]
    request = TeacherPITC(True).request
    request = replace(request, forces=frozenset({0}), curvature=True)
    together = objective.teacher(batch, moves, request, directions)
    alone = [Teacher([one], 3.0, 3.0)(batch, moves, request, directions) for one in members]
    for found, each in (
        (together.forces[0], [one.forces[0] for one in alone]),
        (together.energies[1], [one.energies[1] for one in alone]),
        (together.curvature, [one.curvature for one in alone]),
    ):
        assert torch.allclose(found, 0.5 * (each[0] + each[1]))
        assert not found.requires_grad


def test_direct_forces_learn_from_a_conservative_teacher():
    loss, parts, _ = run(objective_of(*(term(True) for term in TERMS), teacher=frozen(seed=5)), painn("direct"))
    assert set(parts) == {"teacher_forces", "teacher_pitc", "teacher_curvature"}
    loss.backward()
