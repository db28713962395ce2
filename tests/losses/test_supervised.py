from dataclasses import replace

import numpy as np
import pytest
import torch

from piwsl.data.batch import collate
from piwsl.losses import EnergyMAE, ForceL2MAE, FrameRandom, Objective, PointPredictions, StressMAE, WeightedTerm
from tests.support.molecules import frame, oxide
from tests.support.potentials import painn

NOTHING = np.full((3, 3), np.nan)
TERMS = [EnergyMAE(), ForceL2MAE(), StressMAE()]


def labeled_batch():
    """Water with all its labels, benzene without an energy, methane without forces, a cell with all its labels."""
    frames = [
        frame("H2O", labeled=True),
        replace(frame("C6H6", labeled=True, seed=1), energy=float("nan")),
        replace(frame("CH4", labeled=True, seed=2), forces=np.full((5, 3), np.nan)),
        oxide(labeled=True),
    ]
    return collate(frames, 4.0, torch.float64)


def points_for(batch, requires_grad=False):
    generator = torch.Generator().manual_seed(0)

    def numbers(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_(requires_grad)

    leaves = numbers(batch.n_structures), numbers(*batch.positions.shape), numbers(batch.n_structures, 3, 3)
    energies, forces, stress = leaves
    return leaves, replace(PointPredictions.of([(energies, forces)], [], batch.structure_index), stress=stress)


def test_energy_by_hand_and_its_mask():
    batch = labeled_batch()
    _, points = points_for(batch)
    values, labeled = EnergyMAE()(points, batch)
    assert labeled.tolist() == [True, False, True, True]
    assert float(values[0]) == pytest.approx(abs(float(points.energies[0][0] - batch.energy[0])))
    assert float(values[1]) == 0.0


def test_forces_by_hand_and_their_mask():
    batch = labeled_batch()
    _, points = points_for(batch)
    values, labeled = ForceL2MAE()(points, batch)
    assert labeled.tolist() == [True, True, False, True]
    water = (points.forces[0][:3] - batch.forces[:3]).numpy()
    assert float(values[0]) == pytest.approx(np.linalg.norm(water, axis=1).mean())


def test_stress_by_hand_and_its_mask():
    batch = labeled_batch()
    _, points = points_for(batch)
    values, labeled = StressMAE()(points, batch)
    assert labeled.tolist() == [False, False, False, True]
    assert values[:3].tolist() == [0.0, 0.0, 0.0]
    assert float(values[3]) == pytest.approx(np.abs((points.stress[3] - batch.stress[3]).numpy()).mean())


def test_a_structure_whose_forces_are_known_of_some_atoms_only_does_not_count():
    batch = labeled_batch()
    forces = batch.forces.clone()
    forces[1, 2] = torch.nan
    _, points = points_for(batch)
    values, labeled = ForceL2MAE()(points, replace(batch, forces=forces))
    assert labeled.tolist() == [False, True, False, True]
    assert torch.isfinite(values).all()


@pytest.mark.parametrize("term", TERMS)
def test_missing_labels_leave_no_trace_in_the_gradient(term):
    batch = labeled_batch()
    leaves, points = points_for(batch, requires_grad=True)
    values, labeled = term(points, batch)
    values[labeled].mean().backward()
    (grad,) = (leaf.grad for leaf in leaves if leaf.grad is not None)
    assert torch.isfinite(grad).all()
    per_structure = grad.split(batch.n_atoms.tolist()) if len(grad) == len(batch.species) else grad
    assert [bool((one != 0).any()) for one in per_structure] == labeled.tolist()


@pytest.mark.parametrize("term", TERMS)
def test_a_perfect_prediction_has_no_gradient_instead_of_nan(term):
    batch = labeled_batch()
    leaves = [torch.nan_to_num(one).requires_grad_(True) for one in (batch.energy, batch.forces, batch.stress)]
    points = replace(PointPredictions.of([(leaves[0], leaves[1])], [], batch.structure_index), stress=leaves[2])
    values, labeled = term(points, batch)
    values[labeled].sum().backward()
    assert float(values[labeled].detach().sum()) == 0.0
    (grad,) = (leaf.grad for leaf in leaves if leaf.grad is not None)
    assert float(grad.abs().max()) == 0.0


@pytest.mark.parametrize("forces", ["conservative", "direct"])
def test_through_a_potential_missing_labels_leave_no_trace(forces):
    """The loss of structures with gaps is the mean over those that have the label, and its gradient is finite."""
    potential, batch = painn(forces), labeled_batch()
    objective = Objective([WeightedTerm(term, 1.0) for term in TERMS])
    loss, parts = objective(potential, batch, FrameRandom(0, 0))
    loss.backward()
    assert all(torch.isfinite(weight.grad).all() for weight in potential.parameters())
    energies = potential.energies(*batch.graph).detach()
    assert float(parts["energy"]) == pytest.approx(float((energies - batch.energy)[[0, 2, 3]].abs().mean()), rel=1e-9)
    assert float(loss.detach()) == pytest.approx(sum(float(part) for part in parts.values()), rel=1e-9)


def test_a_batch_knows_which_labels_it_has():
    batch = labeled_batch()
    assert all(term.applies(batch) for term in TERMS)
    bare = collate([frame("H2O")], 4.0, torch.float64)
    assert not any(term.applies(bare) for term in TERMS)
