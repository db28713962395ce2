import math

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

from piwsl.training.config import OptimizerConfig
from piwsl.training.schedules import Plateau, build_schedule


def shares(count, **options):
    schedule = build_schedule(OptimizerConfig(**options))
    return [schedule(step) for step in range(count)]


@pytest.mark.parametrize("name", ["constant", "cosine", "step", "plateau"])
def test_every_schedule_warms_up_in_a_straight_line(name):
    values = shares(12, schedule=name, warmup=10, steps=1000)
    assert values[0] == pytest.approx(0.01)
    assert values[5] == pytest.approx(0.01 + 0.99 * 0.5)
    assert values[10] == pytest.approx(1.0)
    assert shares(1, schedule=name, warmup=0, steps=1000) == [1.0]


def test_cosine_by_hand():
    values = shares(111, schedule="cosine", warmup=10, steps=110)
    assert values[60] == pytest.approx(0.001 + 0.999 * 0.5)
    assert values[35] == pytest.approx(0.001 + 0.999 * 0.5 * (1 + math.cos(math.pi / 4)))
    assert values[110] == pytest.approx(0.001)


def test_steps_by_hand():
    values = shares(120, schedule="step", warmup=10, step_interval=50, factor=0.2)
    assert [values[step] for step in (10, 49, 50, 99, 100)] == pytest.approx([1, 1, 0.2, 0.2, 0.04])


def test_plateau_lowers_after_its_patience_and_not_during_the_warm_up():
    plateau = Plateau(warmup=100, factor=0.5, patience=2)
    for step, loss in [(20, 5.0), (40, 6.0), (60, 6.0), (80, 6.0), (99, 6.0)]:
        plateau.validated(step, loss)
    assert plateau(100) == 1.0  # these did not count
    for step, loss in [(100, 6.0), (120, 5.0)]:
        plateau.validated(step, loss)
        assert plateau(step) == 1.0
    plateau.validated(140, 5.0)
    assert plateau(140) == 0.5
    plateau.validated(160, 4.0)  # progress
    plateau.validated(180, 4.0 * (1 - 1e-5))  # too little to count
    plateau.validated(200, math.nan)
    plateau.validated(220, 5.0)
    assert plateau(220) == 0.25


def test_a_stored_plateau_goes_on():
    def scheduler():
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        return LambdaLR(optimizer, Plateau(warmup=0, factor=0.5, patience=1))

    first, second = scheduler(), scheduler()
    for step in range(3):
        first.lr_lambdas[0].validated(step, 1.0)
    second.load_state_dict(first.state_dict())
    assert second.lr_lambdas[0](10) == 0.5
    second.lr_lambdas[0].validated(11, 1.0)
    second.lr_lambdas[0].validated(12, 1.0)
    assert second.lr_lambdas[0](13) == 0.25
