"""Learning-rate schedules. Each returns the fraction of the peak rate at a step, after a linear warm-up."""

import math
from dataclasses import dataclass, field

from piwsl.training.config import OptimizerConfig

FIRST = 0.01  # fraction of the peak rate at the first step of the warm-up
LAST = 1e-3  # fraction of the peak rate at the end of the cosine
PROGRESS = 1e-4  # smallest relative decrease of the validation loss that counts as an improvement


@dataclass
class Schedule:
    """Constant schedule: the peak rate after ``warmup`` steps of linear increase.

    LambdaLR of PyTorch calls the schedule and stores its attributes in checkpoints, so they must be plain numbers.
    """

    warmup: int
    time_share: float = field(default=0.0, kw_only=True)  # used fraction of the time budget; 0 without a budget

    def __call__(self, step: int) -> float:
        """Return the fraction of the peak rate at a step of the run."""
        growth = FIRST + (1.0 - FIRST) * step / self.warmup if step < self.warmup else 1.0
        return growth * self.share(step)

    def share(self, step: int) -> float:
        """Return the fraction of the peak rate at a step, without the warm-up."""
        return 1.0

    def validated(self, step: int, loss: float) -> None:
        """Update the schedule after a validation. The base class ignores it."""


@dataclass
class Cosine(Schedule):
    """Half a cosine period from the end of the warm-up to step ``steps``, down to 1/1000 of the peak rate.

    With a time budget, the schedule follows the larger of the used fractions of steps and time.
    """

    steps: int

    def share(self, step: int) -> float:
        """Return the fraction at a step: 1 until the end of the warm-up, and 1/1000 from ``steps`` on."""
        length = max(1, self.steps - self.warmup)
        done = min(1.0, max(max(0, step - self.warmup) / length, self.time_share))
        return LAST + (1.0 - LAST) * 0.5 * (1.0 + math.cos(math.pi * done))


@dataclass
class Staircase(Schedule):
    """Schedule that multiplies the rate by ``factor`` every ``interval`` steps."""

    interval: int
    factor: float

    def share(self, step: int) -> float:
        """Return the fraction at a step, a power of ``factor``."""
        return float(self.factor ** (step // self.interval))


@dataclass
class Plateau(Schedule):
    """Schedule that multiplies the rate by ``factor`` after more than ``patience`` validations without improvement.

    Validations during the warm-up are not counted, because the rate still increases.
    """

    factor: float
    patience: int
    reached: float = 1.0
    best: float = math.inf
    waited: int = 0

    def share(self, step: int) -> float:
        """Return the fraction that results from all validations so far."""
        return self.reached

    def validated(self, step: int, loss: float) -> None:
        """Count validations without improvement, and lower the rate when the patience is exhausted."""
        if loss < self.best * (1.0 - PROGRESS):
            self.best, self.waited = loss, 0
        elif step >= self.warmup:
            self.waited += 1
        if self.waited > self.patience:
            self.reached, self.waited = self.reached * self.factor, 0


def build_schedule(config: OptimizerConfig) -> Schedule:
    """Return the learning-rate schedule of a configuration."""
    schedules: dict[str, Schedule] = {
        "constant": Schedule(config.warmup),
        "cosine": Cosine(config.warmup, config.steps),
        "step": Staircase(config.warmup, config.step_interval, config.factor),
        "plateau": Plateau(config.warmup, config.factor, config.plateau_patience),
    }
    return schedules[config.schedule]
