import numpy as np
import pytest
import torch

from piwsl.data.batch import collate
from piwsl.losses.prediction import Prediction
from piwsl.training.loader import SeededOrder
from piwsl.training.metrics import ErrorCollector
from tests.molecules import frame


def test_errors_by_hand():
    frames = [frame("H2O", labelled=True), frame("CH4", labelled=True, seed=1), frame("H2O")]
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


def test_order_visits_every_frame_once_a_pass_and_depends_on_the_seed():
    def epochs(seed, count=3):
        seen = []
        order = SeededOrder(10, 15, seed, lambda: len(seen))
        for _ in range(count):
            seen += list(order)
        return seen

    seen = epochs(0, 4)
    for start in range(0, 60, 10):
        assert sorted(seen[start : start + 10]) == list(range(10))
    assert epochs(0) == epochs(0)
    assert epochs(0) != epochs(1)
    assert seen[:10] != seen[10:20]
