"""One worker of a search: it takes trials from the study until all are done."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from optuna import Trial, TrialPruned
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from piwsl.data.frames import FrameSet
from piwsl.errors import PiwslError, reason_of
from piwsl.training.config import TrainingConfig
from piwsl.training.data import TrainingFrames, check_against_data
from piwsl.training.fit import TrainingProgress
from piwsl.training.run import run_training
from piwsl.training.tuning.results import TrialResult, trial_result, validation_loss
from piwsl.training.tuning.settings import TuneConfig, present, with_settings
from piwsl.training.tuning.study import DIRECTORY, REASON, SECONDS, FirstAsConfigured, next_trial, suggest


@dataclass(frozen=True, eq=False)
class Worker:
    """Runs trials of a study, each in a run directory of its own.

    Attributes:
        study: Shared with other workers.
        config: What a trial changes.
        settings: Section `tune`.
        frames: Read once; the test frames are kept from the trials.
        output: Directory of the search.
    """

    study: Study
    config: TrainingConfig
    settings: TuneConfig
    frames: TrainingFrames
    output: Path

    def work(self, on_trial: Callable[[TrialResult], None]) -> None:
        """Run trials until all trials of the study are finished or running, here or in other workers.

        Raises:
            KeyboardInterrupt: The trial under way is given up, and its turn will be taken again.
        """
        while True:
            fail_abandoned(self.study)
            trial = next_trial(self.study, self.settings.trials)
            if trial is None:
                return
            self._do(trial)
            on_trial(trial_result(self.study.get_trials(deepcopy=False)[trial.number], self.settings.metric))

    def _do(self, trial: Trial) -> None:
        begin = time.perf_counter()
        value: float | None = None
        state = TrialState.FAIL
        try:
            with alive(trial):
                try:
                    value = self._train(trial)
                    state = TrialState.COMPLETE
                except TrialPruned:
                    state = TrialState.PRUNED
                except (PiwslError, torch.OutOfMemoryError) as error:
                    trial.set_user_attr(REASON, reason_of(error))
                trial.set_user_attr(SECONDS, time.perf_counter() - begin)
        finally:
            # After a long silence another worker may have marked this trial as failed: then that stands.
            self.study.tell(trial, value, state, skip_if_finished=True)

    def _train(self, trial: Trial) -> float:
        settings = self.settings
        current = {key: present(self.config, key) for key in settings.ranges}
        self.study.sampler = FirstAsConfigured(self.config.seed, trial.number, settings.random_trials, current)
        config = with_settings(self.config, suggest(trial, settings, current))
        check_against_data(config, self.frames)
        directory = self.output / trial_directory(trial.number)
        trial.set_user_attr(DIRECTORY, str(directory.resolve()))
        frames = replace(self.frames, test=FrameSet([]))
        result = run_training(config, directory, frames=frames, progress=_Watch(trial, settings, config))
        value = validation_loss(directory) if settings.metric == "loss" else getattr(result.validation, settings.metric)
        if value is None:
            raise PiwslError(f"the validation frames have no label for {settings.metric}")
        return float(value)


class _Watch:
    """Reports each validation of a trial to the study, and ends a hopeless trial."""

    def __init__(self, trial: Trial, settings: TuneConfig, config: TrainingConfig) -> None:
        self.trial = trial
        self.metric = f"validation_{settings.metric}"
        self.interval = config.optimizer.validation_interval
        self.validations = 0

    def __call__(self, progress: TrainingProgress) -> None:
        """Report a new validation; called after every step, and a validation appears in the step after it."""
        validations = (progress.step - 1) // self.interval
        value = getattr(progress, self.metric)
        if validations > self.validations and value is not None:
            self.validations = validations
            self.trial.report(value, validations)
            if self.trial.should_prune():
                raise TrialPruned


def trial_directory(number: int) -> str:
    """Return the name of the run directory of a trial."""
    return f"trial-{number:04d}"


BEAT = 60.0  # s between heartbeats
GRACE = 10 * BEAT  # s of silence after which a worker counts as dead
_WORKER, _SEEN = "worker", "seen"


@contextmanager
def alive(trial: Trial) -> Iterator[None]:
    """Send heartbeats for the duration of a trial."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT):
            try:
                trial.set_user_attr(_SEEN, time.time())
            except StorageInternalError:  # a database that does not answer now may do so in a minute
                continue
            except UpdateFinishedTrialError:  # marked as failed after a long silence
                return

    trial.set_user_attr(_WORKER, {"host": host(), "pid": os.getpid()})
    trial.set_user_attr(_SEEN, time.time())
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def fail_abandoned(study: Study) -> list[int]:
    """Mark trials of dead workers as failed; return their numbers."""
    numbers = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if _abandoned(trial):
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
            numbers.append(trial.number)
    return numbers


def _abandoned(trial: FrozenTrial) -> bool:
    worker: dict[str, Any] | None = trial.user_attrs.get(_WORKER)
    begun = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
    if time.time() - trial.user_attrs.get(_SEEN, begun) > GRACE:
        return True
    return worker is not None and worker["host"] == host() and not _process_exists(worker["pid"])


def host() -> str:
    """Return a name for the space of process IDs: the machine and, in a container, its namespace."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return f"{socket.gethostname()} {space}".strip()


def _process_exists(pid: int) -> bool:
    if os.name != "posix":  # signal 0 has another meaning elsewhere
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
