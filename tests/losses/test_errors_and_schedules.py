import pytest
import torch

from piwsl.errors import ConfigError
from piwsl.losses import AbsoluteError, Cosine, HuberError, Linear, SquaredError, Step

MISMATCH = torch.tensor([-2.0, -0.1, 0.0, 0.05, 3.0], dtype=torch.float64)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (SquaredError(), [4.0, 0.01, 0.0, 0.0025, 9.0]),
        (AbsoluteError(), [2.0, 0.1, 0.0, 0.05, 3.0]),
        (HuberError(0.1), [0.195, 0.005, 0.0, 0.00125, 0.295]),
        (HuberError(2.5), [2.0, 0.005, 0.0, 0.00125, 4.375]),
    ],
)
def test_errors_by_hand(error, expected):
    torch.testing.assert_close(error(MISMATCH), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("error", [SquaredError(), AbsoluteError(), HuberError()])
def test_errors_have_a_finite_gradient_everywhere(error):
    mismatch = MISMATCH.clone().requires_grad_(True)
    error(mismatch).sum().backward()
    assert torch.isfinite(mismatch.grad).all()
    assert float(mismatch.grad[2]) == 0.0


@pytest.mark.parametrize("delta", [0.0, -1.0])
def test_a_delta_without_meaning_is_refused(delta):
    with pytest.raises(ConfigError, match="delta"):
        HuberError(delta)


@pytest.mark.parametrize(
    ("shape", "quarter", "middle"), [(Linear, 3.5, 3.0), (Cosine, 4.0 - 2.0 * 0.1464466094, 3.0), (Step, 4.0, 4.0)]
)
def test_schedules_by_hand(shape, quarter, middle):
    """From 4 at step 100 to 2 at step 200."""
    schedule = shape(first=4.0, last=2.0, begin=100, end=200)
    assert [schedule(step) for step in (0, 99, 100)] == [4.0, 4.0, 4.0]
    assert schedule(125) == pytest.approx(quarter)
    assert schedule(150) == pytest.approx(middle)
    assert [schedule(step) for step in (200, 201, 10**9)] == [2.0, 2.0, 2.0]


def test_a_step_jumps_at_its_end():
    schedule = Step(0.0, 1.0, 0, 10)
    assert [schedule(step) for step in (9, 10)] == [0.0, 1.0]


def test_a_cosine_is_flat_at_both_ends():
    schedule = Cosine(0.0, 1.0, 0, 1000)
    assert schedule(1) < 1e-5
    assert schedule(999) > 1 - 1e-5
    assert schedule(501) - schedule(500) == pytest.approx(1.5708e-3, rel=1e-3)


@pytest.mark.parametrize(("begin", "end"), [(10, 10), (10, 5)])
def test_an_end_before_the_beginning_is_refused(begin, end):
    with pytest.raises(ConfigError, match="end greater than begin"):
        Linear(0.0, 1.0, begin, end)
