"""Choice of the number of CPU threads during training, by measured times of steps.

A step on small structures consists of many short operations, which further threads hardly accelerate. If other programs
use the processors, all threads wait for the slowest one in each operation, and a step takes several times as long with
two threads as with one. Therefore, a run times a few of its steps with different numbers of threads, and repeats this
from time to time (benchmarks/threads.py).
"""

import logging
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from piwsl.runs.process_settings import chooses_threads
from piwsl.training.config import TrainingConfig

LOGGER = logging.getLogger(__name__)
INTERVAL = 1000  # steps between two measurements
TIMED = 6  # steps with each number of threads; the first is not counted
# More threads must be faster by this factor, because they occupy processors that others could use.
GAIN = 1.05


class ThreadChoice(Callback):
    """Callback that times steps with different numbers of threads and continues with the best number.

    Args:
        most: Largest number of threads.
        clock: Function that returns the time, s.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self.candidates = [most]
        while self.candidates[-1] > 1:
            self.candidates.append(self.candidates[-1] // 2)
        self.clock = clock
        self.chosen = most
        self._times: dict[int, list[float]] = {}
        self._left: list[int] = []  # numbers of threads of the next steps of a measurement
        self._began = 0.0
        self._measured_at: int | None = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Set the number of threads of this step."""
        step = trainer.global_step
        if not self._left and step % INTERVAL == 0 and step != self._measured_at:
            self._measured_at, self._times = step, {}
            self._left = [number for number in self.candidates for _ in range(TIMED)]
        if self._left:
            torch.set_num_threads(self._left[0])
        self._began = self.clock()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the time of this step, and choose when all numbers have been measured."""
        if not self._left:
            return
        self._times.setdefault(self._left.pop(0), []).append(self.clock() - self._began)
        if not self._left:
            self._choose({number: median(times[1:]) for number, times in self._times.items()})

    def _choose(self, seconds: dict[int, float]) -> None:
        best = self.candidates[-1]
        for number in reversed(self.candidates):  # from one thread to all
            if seconds[number] * GAIN < seconds[best]:
                best = number
        torch.set_num_threads(best)
        if best != self.chosen:
            times = ", ".join(f"{1e3 * seconds[number]:.3g} ms with {number}" for number in self.candidates)
            LOGGER.info(f"threads: {best} of {self.candidates[0]} (a step takes {times})")
        self.chosen = best


def thread_choice(config: TrainingConfig, device: torch.device, processes: int) -> ThreadChoice | None:
    """Return the choice of threads for a run; None if their number is given, or if there is nothing to choose.

    Args:
        config: Settings of the run.
        device: Device of the run.
        processes: Number of processes of the run.
    """
    given = config.threads is not None or config.deterministic or not chooses_threads()
    most = torch.get_num_threads()
    if given or device.type != "cpu" or processes > 1 or most == 1:
        return None
    return ThreadChoice(most)
