"""The cheap ways to energies, forces, works and stress give what plain double backward gives, gradients included."""

from dataclasses import replace
from itertools import chain, combinations

import numpy as np
import pytest
import torch
from torch.autograd import forward_ad

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
    PISCPaths,
    PITCBack,
    PointPredictions,
    StressMAE,
    TaylorLabels,
)
from piwsl.losses.evaluation import evaluate
from piwsl.losses.predictions import PredictionRequest, Work
from tests.support.molecules import frame, oxide
from tests.support.potentials import painn, truncated_morse

CUTOFF = 3.0
LONG = Displacement(length=FixedLength(0.3))  # atoms cross the cutoff
FRAMES = [frame("H2O", labeled=True), oxide(labeled=True), frame("CH3CHO", labeled=True, seed=1)]
SUPERVISED = {
    "no label": [],
    "energies": [EnergyMAE()],
    "forces": [ForceL2MAE()],
    "all labels": [EnergyMAE(), ForceL2MAE(), StressMAE()],
    "noisy node": [EnergyMAE(), NoisyNode()],
    "taylor labels": [EnergyMAE(), TaylorLabels()],
}
ALL = [PITC, PITCBack, PISC, PISCPaths]
CONSISTENCY = list(chain.from_iterable(combinations(ALL, count) for count in range(len(ALL) + 1)))


def batch_and_steps(displacement=LONG, frames=FRAMES):
    batch = collate(frames, CUTOFF + displacement.margin, torch.float64)
    return batch, displacement.copies(2, batch, FrameRandom(1, 2), None)


def plainly(potential, batch, steps):
    """Every point by itself, with forces that can be differentiated again, and the stress by a strain of the cell."""
    predictions = [potential(*batch.moved(batch.positions + step).graph, True) for step in (0.0, *steps)]
    strain = torch.zeros(batch.n_structures, 3, 3, dtype=torch.float64, requires_grad=True)
    turned = 0.5 * (strain + strain.transpose(1, 2))
    atoms, edges = turned[batch.structure_index], turned[batch.structure_index[batch.edges[0]]]
    strained = replace(
        batch,
        positions=batch.positions + (atoms @ batch.positions.unsqueeze(-1)).squeeze(-1),
        edge_shifts=batch.edge_shifts + (edges @ batch.edge_shifts.unsqueeze(-1)).squeeze(-1),
    )
    (virial,) = torch.autograd.grad(potential.energies(*strained.graph).sum(), strain, create_graph=True)
    points = PointPredictions.of(predictions, steps, batch.structure_index)
    return replace(points, stress=virial / batch.volume.view(-1, 1, 1))


def gradient(loss, potential):
    weights = list(potential.parameters())
    found = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
    return torch.cat([(w * 0.0 if g is None else g).flatten().detach() for w, g in zip(weights, found, strict=True)])


def mean(term, points, batch):
    values, mask = term(points, batch)
    return values[mask].mean()


@pytest.mark.parametrize(
    ("forces", "mixing"),
    [pytest.param("conservative", 0.0, marks=pytest.mark.slow), ("conservative", 0.5), ("direct", 0.3)],
)
@pytest.mark.parametrize("labels", SUPERVISED)
def test_every_combination_of_terms_equals_plain_double_backward(labels, mixing, forces):
    potential = painn(forces, layers=1)
    batch, steps = batch_and_steps(frames=FRAMES[:2])
    plain = plainly(potential, batch, steps)
    losses = {term: mean(term, plain, batch) for term in (*SUPERVISED[labels], *(kind(mixing) for kind in ALL))}
    gradients = {term: gradient(loss, potential) for term, loss in losses.items()}
    for chosen in CONSISTENCY:
        terms = [*SUPERVISED[labels], *(kind(mixing) for kind in chosen)]
        if not terms:
            continue
        points = evaluate(potential, batch, steps, PredictionRequest.union(term.request for term in terms))
        found = [mean(term, points, batch) for term in terms]
        for term, value in zip(terms, found, strict=True):
            assert float(value.detach()) == pytest.approx(float(losses[term].detach()), rel=1e-9), chosen
        wanted = sum((k + 1.0) * gradients[term] for k, term in enumerate(terms))
        got = gradient(sum((k + 1.0) * value for k, value in enumerate(found)), potential)
        torch.testing.assert_close(got, wanted, rtol=1e-8, atol=1e-8 * float(wanted.abs().max()), msg=str(chosen))


@pytest.mark.parametrize("forces", ["conservative", "direct"])
def test_energies_forces_and_works_are_those_of_each_copy_alone(forces):
    potential = painn(forces)
    batch, steps = batch_and_steps()
    works = frozenset({Work(0, 0, 1), Work(2, 2, 1), Work(2, 1, 0)})
    points = evaluate(potential, batch, steps, PredictionRequest(frozenset({0, 2}), frozenset({1}), works))
    for point, step in enumerate((0.0, *steps)):
        energies, own = potential(*batch.moved(batch.positions + step).graph)
        torch.testing.assert_close(points.energies[point], energies, rtol=1e-12, atol=1e-12)
        if point in points.forces:
            torch.testing.assert_close(points.forces[point], own, rtol=1e-9, atol=1e-11)
        for work in works:
            if work.point == point:
                product = (points.step(work.start, work.end) * own).sum(-1)
                expected = torch.zeros(3).double().index_add(0, batch.structure_index, product)
                torch.testing.assert_close(points.work(work), expected, rtol=1e-9, atol=1e-11)
                torch.testing.assert_close(points.work(work.reverse), -expected, rtol=1e-9, atol=1e-11)


class Watched:
    """Notes how a potential is asked for energies: plainly, for forces, or along a direction; and of how many."""

    def __init__(self, potential):
        self.calls = []
        inner = potential.energies_of_edges

        def energies(species, edges, edge_vectors, structure_index, n_structures, charge_spin=None):
            tangent = forward_ad.unpack_dual(edge_vectors).tangent if self.forward else None
            way = "work" if tangent is not None else "forces" if edge_vectors.requires_grad else "energy"
            self.calls.append((way, n_structures))
            return inner(species, edges, edge_vectors, structure_index, n_structures)

        potential.energies_of_edges = energies

    @property
    def forward(self):
        return forward_ad._current_level >= 0


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ([EnergyMAE()], [("energy", 1)]),
        ([EnergyMAE(), ForceL2MAE()], [("forces", 1)]),
        ([EnergyMAE(), StressMAE()], [("forces", 1)]),
        ([EnergyMAE(), PITC(0.0)], [("work", 1), ("energy", 1)]),
        ([EnergyMAE(), PITC(0.5)], [("work", 2)]),
        ([EnergyMAE(), PITC(0.5), PITCBack(0.5)], [("work", 2)]),
        ([ForceL2MAE(), PITC(0.0)], [("forces", 1), ("energy", 1)]),
        ([ForceL2MAE(), PITC(0.5)], [("forces", 1), ("work", 1)]),
        ([ForceL2MAE(), PISC(0.5)], [("forces", 1), ("work", 2)]),
        ([EnergyMAE(), PISC(0.0)], [("work", 1), ("energy", 2)]),
        ([EnergyMAE(), PITC(0.5), PISC(0.5)], [("forces", 1), ("work", 2)]),
        ([ForceL2MAE(), PITC(0.5), PISC(0.5)], [("forces", 2), ("work", 1)]),
        ([EnergyMAE(), TaylorLabels()], [("energy", 2)]),
        ([EnergyMAE(), NoisyNode()], [("forces", 1), ("energy", 1)]),
    ],
)
def test_forces_are_made_only_where_they_are_needed(terms, expected):
    potential = painn(layers=1)
    watched = Watched(potential)
    batch, steps = batch_and_steps(frames=FRAMES[:1])
    evaluate(potential, batch, steps, PredictionRequest.union(term.request for term in terms))
    assert watched.calls == expected


def test_a_direct_potential_gives_its_own_forces_in_one_call():
    potential = painn("direct")
    calls, inner = [], potential.energies_and_forces_of_edges
    potential.energies_and_forces_of_edges = lambda *graph: calls.append(graph[4]) or inner(*graph)
    batch, steps = batch_and_steps()
    points = evaluate(
        potential, batch, steps, PredictionRequest.union([ForceL2MAE().request, PITC().request, PISC().request])
    )
    assert calls == [3 * len(FRAMES)]
    _, own = potential(*batch.graph)
    torch.testing.assert_close(points.forces[0], own, rtol=1e-9, atol=1e-12)
    positions = batch.positions.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(potential.energies(*batch.moved(positions).graph).sum(), positions)
    assert float((own.detach() + slope).abs().max()) > 0.01


def strained_energy(potential, structure, strain):
    turned = np.eye(3) + strain
    moved = replace(structure, positions=structure.positions @ turned, cell=structure.cell @ turned)
    return float(potential.energies(*collate([moved], CUTOFF, torch.float64).graph).detach())


@pytest.mark.parametrize("forces", ["conservative", "direct"])
def test_stress_is_the_energy_of_a_small_strain(forces):
    potential = painn(forces)
    structure = oxide()
    batch = collate([frame("H2O"), structure], CUTOFF, torch.float64)
    points = evaluate(potential, batch, [], PredictionRequest(stress=True))
    h = 1e-4
    expected = np.zeros((3, 3))
    for a in range(3):
        for b in range(3):
            strain = np.zeros((3, 3))
            strain[a, b] += 0.5 * h
            strain[b, a] += 0.5 * h
            up, down = strained_energy(potential, structure, strain), strained_energy(potential, structure, -strain)
            expected[a, b] = (up - down) / (2 * h) / abs(np.linalg.det(structure.cell))
    np.testing.assert_allclose(points.stress[1].detach().numpy(), expected, atol=1e-6)
    assert np.abs(expected).max() > 1e-3
    assert float(points.stress[0].detach().abs().max()) == 0.0  # a molecule has no volume


@pytest.mark.parametrize("forces", ["conservative", "direct"])
def test_the_gradient_of_a_stress_loss_is_that_of_finite_differences(forces):
    potential = painn(forces, layers=1)
    batch = collate([oxide(labeled=True)], CUTOFF, torch.float64)

    def loss():
        return StressMAE()(evaluate(potential, batch, [], StressMAE().request), batch)[0].sum()

    slope = gradient(loss(), potential)
    weights = torch.nn.utils.parameters_to_vector(potential.parameters()).detach()
    direction = slope / slope.norm()
    h = 1e-5
    values = []
    for sign in (1, -1):
        torch.nn.utils.vector_to_parameters(weights + sign * h * direction, potential.parameters())
        values.append(float(loss().detach()))
    assert (values[0] - values[1]) / (2 * h) == pytest.approx(float(slope.norm()), rel=1e-5)


def pairs(batch):
    shifts = batch.edge_shifts.mul(10).round().int().tolist()
    return {(*pair, *shift) for pair, shift in zip(batch.edges.T.tolist(), shifts, strict=True)}


@pytest.mark.parametrize(
    ("potential", "harm"), [(painn(), 1e-8), (painn("direct"), 1e-8), (truncated_morse(CUTOFF), 1e-2)]
)
def test_neighbors_are_right_right_after_a_displacement(potential, harm):
    """Atoms cross the cutoff both ways; without the margin of the list there would be harm.

    It is small where a network fades out at the cutoff, so a pair energy that ends there with a jump is tried, too.
    """
    frames = [*FRAMES, frame("CH3CH2OH"), frame("C6H6")]
    batch, steps = batch_and_steps(frames=frames)
    short = collate(frames, CUTOFF, torch.float64)
    request = PredictionRequest(forces=frozenset({1, 2}))
    points = evaluate(potential, batch, steps, request)
    wrong = evaluate(potential, short, steps, request)
    for point, step in enumerate(steps, start=1):
        parts = step.split([len(one.species) for one in frames])
        moved = [replace(one, positions=one.positions + part.numpy()) for one, part in zip(frames, parts, strict=True)]
        fresh = collate(moved, CUTOFF, torch.float64)
        assert pairs(fresh) - pairs(short)
        assert pairs(short) - pairs(fresh)
        energies, own = potential(*fresh.graph)
        torch.testing.assert_close(points.energies[point], energies, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(points.forces[point], own, rtol=1e-9, atol=1e-11)
        assert float((wrong.forces[point] - own).detach().abs().max()) > harm


@pytest.mark.parametrize("forces", ["conservative", "direct"])
def test_lone_atoms_have_works_and_forces_of_zero(forces):
    potential = painn(forces)
    batch = collate([frame("O"), frame("H")], CUTOFF, torch.float64)
    steps = Displacement().copies(2, batch, FrameRandom(0, 0), None)
    for request in (PITC().request, PISC().request, ForceL2MAE().request, PredictionRequest(stress=True)):
        points = evaluate(potential, batch, steps, request)
        for work in request.works:
            assert points.work(work).detach().tolist() == pytest.approx([0.0, 0.0], abs=1e-12)
        for own in points.forces.values():
            assert float(own.detach().abs().max()) < 1e-12


@pytest.mark.parametrize("forces", ["conservative", "direct"])
def test_asking_for_nothing_asks_the_model_nothing(forces):
    potential = painn(forces)
    potential.energies_of_edges = potential.energies_and_forces_of_edges = None
    batch, _ = batch_and_steps()
    points = evaluate(potential, batch, [], PredictionRequest())
    assert points.n_structures == 3
    assert not points.energies


def test_what_is_asked_for_is_counted():
    request = PredictionRequest.union([PITC(0.5).request, PISC(0.0).request, ForceL2MAE().request])
    assert request.energies == {0, 1, 2}
    assert request.works == {Work(0, 0, 1), Work(1, 0, 1), Work(2, 2, 1)}
    assert request.forces == {0}
    assert request.copies == 2
    assert request.points == [0, 1, 2]
    assert PITC(0.0).request.points == [0, 1]
    assert EnergyMAE().request.copies == 0
    assert NoisyNode().request.copies == 1
