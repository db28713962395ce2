"""Weights of labels by the spread of an ensemble."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from piwsl.data.batch import collate
from piwsl.losses import EnergyMAE, ForceL2MAE, PointPredictions, SpreadWeights
from piwsl.losses.predictions import predict
from tests.support.molecules import frame
from tests.support.potentials import painn

WATER = [frame("H2O", seed=seed, labeled=True) for seed in range(3)]
SPREAD = [np.array([0.1, 0.2, 0.4]), np.array([1.0, 2.0, 3.0])]
FRAMES = [
    replace(WATER[0], energy_spread=0.1, force_spread=SPREAD[0]),
    replace(WATER[1], energy_spread=0.5, force_spread=SPREAD[1]),
    WATER[2],
]


def evaluated(frames=FRAMES):
    batch = collate(frames, 3.0, torch.float64)
    prediction = predict(painn(), batch, create_graph=False)
    points = PointPredictions.of([(prediction.energies, prediction.forces)], [], batch.structure_index)
    return (
        points,
        batch,
        (batch.forces - prediction.forces).norm(dim=-1).view(3, 3),
        (batch.energy - prediction.energies),
    )


def test_a_limit_masks_atoms_and_frames():
    points, batch, errors, energies = evaluated()
    limits = SpreadWeights(largest_energy=0.2, largest_force=0.2)
    values, used = ForceL2MAE(spread=limits)(points, batch)
    assert used.tolist() == [True, False, True]  # every atom of the second frame exceeds the limit
    assert float(values[0].detach()) == pytest.approx(float(errors[0, :2].detach().sum() / 3))
    assert float(values[2].detach()) == pytest.approx(float(errors[2].detach().mean()))
    values, used = EnergyMAE(spread=limits)(points, batch)
    assert used.tolist() == [True, False, True]
    assert float(values[0].detach()) == pytest.approx(float(energies[0].detach().abs()))


def test_weights_fall_with_the_spread():
    points, batch, errors, energies = evaluated()
    values, used = ForceL2MAE(spread=SpreadWeights(force_scale=0.2))(points, batch)
    assert used.all()
    weights = torch.tensor([0.8, 0.5, 0.2])
    assert float(values[0].detach()) == pytest.approx(float((errors[0] * weights).mean()))
    assert float(values[2].detach()) == pytest.approx(
        float(errors[2].detach().mean())
    )  # a label without a spread counts fully
    values, _ = EnergyMAE(spread=SpreadWeights(energy_scale=0.1))(points, batch)
    assert values.tolist() == pytest.approx((energies.abs() * torch.tensor([0.5, 1 / 26, 1.0])).tolist())


def test_without_spreads_nothing_changes():
    points, batch, *_ = evaluated(WATER)
    weights = SpreadWeights(0.0, 0.0, 1e-3, 1e-3)
    assert batch.force_spread is None
    for plain, weighted in ((EnergyMAE(), EnergyMAE(spread=weights)), (ForceL2MAE(), ForceL2MAE(spread=weights))):
        assert torch.equal(plain(points, batch)[0], weighted(points, batch)[0])
