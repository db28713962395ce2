from dataclasses import replace

import numpy as np
import pytest
import torch

from piwsl.data.batch import collate
from piwsl.losses import EnergyMAE, ForceL2MAE, Objective, WeightedTerm
from piwsl.losses.prediction import Prediction
from tests.molecules import frame


def labelled_batch():
    frames = [frame("H2O", labelled=True), frame("C6H6", labelled=True, seed=1), frame("CH4", labelled=True, seed=2)]
    frames[1] = replace(frames[1], energy=float("nan"))
    frames[2] = replace(frames[2], forces=np.full((5, 3), np.nan))
    return collate(frames, 5.0, torch.float64)


def prediction_for(batch, requires_grad=False):
    generator = torch.Generator().manual_seed(0)
    energies = torch.randn(batch.n_structures, generator=generator, dtype=torch.float64, requires_grad=requires_grad)
    forces = torch.randn(batch.positions.shape, generator=generator, dtype=torch.float64, requires_grad=requires_grad)
    return Prediction(energies, forces)


def test_energy_by_hand_and_its_mask():
    batch = labelled_batch()
    prediction = prediction_for(batch)
    values, labelled = EnergyMAE()(prediction, batch)
    assert labelled.tolist() == [True, False, True]
    assert float(values[0]) == pytest.approx(abs(float(prediction.energies[0] - batch.energy[0])))
    assert float(values[1]) == 0.0


def test_forces_by_hand_and_their_mask():
    batch = labelled_batch()
    prediction = prediction_for(batch)
    values, labelled = ForceL2MAE()(prediction, batch)
    assert labelled.tolist() == [True, True, False]
    water = (prediction.forces[:3] - batch.forces[:3]).numpy()
    assert float(values[0]) == pytest.approx(np.linalg.norm(water, axis=1).mean())


def test_missing_labels_leave_no_trace_in_the_gradient():
    batch = labelled_batch()
    prediction = prediction_for(batch, requires_grad=True)
    objective = Objective([WeightedTerm(EnergyMAE(), 1.0), WeightedTerm(ForceL2MAE(), 100.0)])
    loss, parts = objective(lambda _: prediction, batch, 0, torch.Generator())
    loss.backward()
    assert torch.isfinite(prediction.energies.grad).all()
    assert torch.isfinite(prediction.forces.grad).all()
    assert float(prediction.energies.grad[1]) == 0.0
    assert float(prediction.forces.grad[15:].abs().max()) == 0.0
    assert float(loss.detach()) == pytest.approx(float(parts["energy"]) + 100.0 * float(parts["forces"]))


def test_a_perfect_force_has_no_gradient_instead_of_nan():
    batch = labelled_batch()
    forces = torch.nan_to_num(batch.forces).requires_grad_(True)
    values, _ = ForceL2MAE()(Prediction(batch.energy, forces), batch)
    values.sum().backward()
    assert torch.isfinite(forces.grad).all()
