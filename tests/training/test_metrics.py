from dataclasses import replace

import numpy as np
import pytest
import torch

from piwsl.data.batch import collate
from piwsl.losses.predictions import PointPredictions, Prediction
from piwsl.training.metrics import ErrorCollector, ErrorSums
from tests.support.molecules import cell, frame


def test_errors_by_hand():
    frames = [frame("H2O", labeled=True), frame("CH4", labeled=True, seed=1), frame("H2O")]
    batch = collate(frames, 5.0, torch.float64)
    energies = torch.nan_to_num(batch.energy) + torch.tensor([0.3, -0.5, 7.0], dtype=torch.float64)
    forces = torch.nan_to_num(batch.forces) + 0.2
    collector = ErrorCollector()
    collector.add(Prediction(energies, forces), batch)
    errors = collector.errors()
    assert (errors.structures, errors.force_components) == (2, 24)
    assert errors.energy_mae == pytest.approx(0.4)
    assert errors.energy_rmse == pytest.approx(np.sqrt((0.09 + 0.25) / 2))
    assert errors.energy_per_atom_mae == pytest.approx((0.1 + 0.1) / 2)
    assert errors.force_mae == pytest.approx(0.2)
    assert errors.force_rmse == pytest.approx(0.2)


def parts_of(frames, shift):
    """Errors of made-up predictions, batch by batch in portions of three frames."""
    portions = []
    for start in range(0, len(frames), 3):
        batch = collate(frames[start : start + 3], 5.0, torch.float64)
        noise = torch.from_numpy(np.random.default_rng(start).normal(size=batch.n_structures))
        prediction = Prediction(torch.nan_to_num(batch.energy, nan=shift) + noise, torch.nan_to_num(batch.forces) + 0.2)
        sums = ErrorSums()
        sums.add(PointPredictions.of([(prediction.energies, prediction.forces)], [], batch.structure_index), batch)
        portions.append((sums, prediction, batch))
    return portions


@pytest.mark.parametrize("shift", [0.0, -1.0e6])  # far from zero, sums of squares would cancel
def test_merged_portions_are_the_whole(shift):
    frames = [frame(name, labeled=i % 4 != 0, seed=i) for i, name in enumerate(["H2O", "CH4", "NH3"] * 5)]
    frames = [replace(one, energy=one.energy + shift) for one in frames]
    portions = parts_of(frames, shift)
    merged = ErrorSums.merged(sums for sums, _, _ in portions).errors()
    energies = torch.cat([prediction.energies for _, prediction, _ in portions]).numpy()
    labels = np.array([one.energy for one in frames])
    atoms = np.array([len(one.species) for one in frames])
    known = np.isfinite(labels)
    assert merged.structures == known.sum()
    assert merged.energy_mae == pytest.approx(np.abs(energies - labels)[known].mean())
    spread = (energies / atoms)[known].std() / (labels / atoms)[known].std()
    assert merged.energy_spread_ratio == pytest.approx(spread, rel=1e-9)
    assert merged.force_mae == pytest.approx(0.2)
    assert ErrorSums().errors().energy_mae is None


def test_stress_is_reported_where_it_is_labeled():
    frames = [cell(), cell()]
    stress = np.arange(9.0).reshape(3, 3)
    batch = collate([replace(frames[0], stress=stress), frames[1]], 5.0, torch.float64)
    points = PointPredictions.of([(batch.energy, batch.forces)], [], batch.structure_index)
    sums = ErrorSums()
    sums.add(replace(points, stress=torch.from_numpy(np.stack([stress + 0.1, stress]))), batch)
    assert sums.errors().stress_mae == pytest.approx(0.1)
    assert any(line.startswith("stress") for line in sums.errors().lines())


@pytest.mark.parametrize(("noise", "said"), [(0.001, True), (1.0, False)])
def test_another_level_of_theory_is_said(noise, said):
    frames = [frame("H2O", labeled=True, seed=seed) for seed in range(4)] + [frame("CH4", labeled=True)]
    batch = collate(frames, 5.0, torch.float64)
    errors = noise * torch.tensor([1.0, -1.0, 1.0, -1.0, 0.0], dtype=torch.float64)
    collector = ErrorCollector()
    assert collector.offset_note() is None
    collector.add(Prediction(batch.energy + 0.5 * batch.n_atoms + errors, batch.forces), batch)
    note = collector.offset_note()
    assert (note is not None) == said
    assert not said or "+0.5000 eV/atom" in note
    exact = ErrorCollector()
    exact.add(Prediction(batch.energy, batch.forces), batch)
    assert exact.offset_note() is None
