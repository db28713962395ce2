"""Learning-rate schedules: each gives the share of the highest rate at a step, after a linear warm-up."""

import math
from dataclasses import dataclass, field

from piwsl.training.config import OptimizerConfig

FIRST = 0.01  # share of the rate at the first step of the warm-up
LAST = 1e-3  # share of the rate at the end of a cosine
PROGRESS = 1e-4  # relative; a validation must be better by that much to count


@dataclass
class Schedule:
    """The highest rate throughout, after ``warmup`` steps of linear growth.

    torch's LambdaLR calls it, and stores its attributes in checkpoints: they must stay plain numbers.
    """

    warmup: int
    time_share: float = field(default=0.0, kw_only=True)  # used part of the time budget; 0 without one

    def __call__(self, step: int) -> float:
        """Return the share of the highest rate at a step of the run."""
        growth = FIRST + (1.0 - FIRST) * step / self.warmup if step < self.warmup else 1.0
        return growth * self.share(step)

    def share(self, step: int) -> float:
        """Return the share of the rate without the warm-up."""
        return 1.0

    def validated(self, step: int, loss: float) -> None:
        """Record a validation at a step of the run."""


@dataclass
class Cosine(Schedule):
    """Half a cosine from the end of the warm-up to step ``steps``, down to a thousandth of the rate.

    With a time budget, the used part of it counts where that is larger than the part of the steps.
    """

    steps: int

    def share(self, step: int) -> float:
        """Return 1 up to the end of the warm-up, and a thousandth from ``steps`` on."""
        length = max(1, self.steps - self.warmup)
        done = min(1.0, max(max(0, step - self.warmup) / length, self.time_share))
        return LAST + (1.0 - LAST) * 0.5 * (1.0 + math.cos(math.pi * done))


@dataclass
class Staircase(Schedule):
    """The rate falls by ``factor`` every ``interval`` steps of the run."""

    interval: int
    factor: float

    def share(self, step: int) -> float:
        """Return a power of the factor."""
        return float(self.factor ** (step // self.interval))


@dataclass
class Plateau(Schedule):
    """The rate falls by ``factor`` after more than ``patience`` validations in a row without progress.

    Validations during the warm-up do not count: a rate that is still growing has no plateau.
    """

    factor: float
    patience: int
    reached: float = 1.0
    best: float = math.inf
    waited: int = 0

    def share(self, step: int) -> float:
        """Return the share that is left after the validations so far."""
        return self.reached

    def validated(self, step: int, loss: float) -> None:
        """Lower the rate when the patience is exhausted."""
        if loss < self.best * (1.0 - PROGRESS):
            self.best, self.waited = loss, 0
        elif step >= self.warmup:
            self.waited += 1
        if self.waited > self.patience:
            self.reached, self.waited = self.reached * self.factor, 0


def build_schedule(config: OptimizerConfig) -> Schedule:
    """Build the schedule of a configuration."""
    schedules: dict[str, Schedule] = {
        "constant": Schedule(config.warmup),
        "cosine": Cosine(config.warmup, config.steps),
        "step": Staircase(config.warmup, config.step_interval, config.factor),
        "plateau": Plateau(config.warmup, config.factor, config.plateau_patience),
    }
    return schedules[config.schedule]
