"""Worker of a search, which runs trials of the study until all trials are finished or running."""

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
from piwsl.training.data_checks import check_against_data
from piwsl.training.fit import TrainingProgress
from piwsl.training.frames import TrainingFrames
from piwsl.training.run import TrainingResult, run_training
from piwsl.training.tuning.results import TrialResult, trial_result, validation_loss
from piwsl.training.tuning.settings import TuneConfig, present, with_settings
from piwsl.training.tuning.study import DIRECTORY, REASON, SECONDS, FirstAsConfigured, next_trial, suggest


@dataclass(frozen=True, eq=False)
class Worker:
    """Worker that runs trials of a study, each in a separate run directory.

    Attributes:
        study: Optuna study, which several workers may share.
        config: Configuration whose settings are tuned.
        settings: Section `tune`.
        frames: Frames of all trials. Trials do not receive the test frames.
        output: Directory of the search.
        train: Function that runs the training of a trial.
    """

    study: Study
    config: TrainingConfig
    settings: TuneConfig
    frames: TrainingFrames
    output: Path
    train: Callable[..., TrainingResult] = run_training

    def work(self, on_trial: Callable[[TrialResult], None]) -> None:
        """Run trials until all trials of the study are finished or running, here or in other workers.

        Raises:
            KeyboardInterrupt: A signal interrupted the worker. The current trial is abandoned and will be replaced.
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
            # Another worker may have marked this trial as failed after missing heartbeats. That state is kept.
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
        result = self.train(config, directory, frames=frames, progress=_Watch(trial, settings, config))
        value = validation_loss(directory) if settings.metric == "loss" else getattr(result.validation, settings.metric)
        if value is None:
            raise PiwslError(
                f"tune.metric: {settings.metric}: no validation frame has this label: choose another metric"
            )
        return float(value)


class _Watch:
    """Progress callback that reports each validation of a trial to the study and stops unpromising trials."""

    def __init__(self, trial: Trial, settings: TuneConfig, config: TrainingConfig) -> None:
        self.trial = trial
        self.metric = f"validation_{settings.metric}"
        self.interval = config.optimizer.validation_interval
        self.validations = 0

    def __call__(self, progress: TrainingProgress) -> None:
        """Report a new validation. Its result appears in the progress of the following step."""
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
GRACE = 10 * BEAT  # s without a heartbeat after which a worker is considered dead
_WORKER, _SEEN = "worker", "seen"


@contextmanager
def alive(trial: Trial) -> Iterator[None]:
    """Send heartbeats for the duration of a trial."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT):
            try:
                trial.set_user_attr(_SEEN, time.time())
            except StorageInternalError:  # The database may be available again at the next heartbeat.
                continue
            except UpdateFinishedTrialError:  # Another worker marked the trial as failed.
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
    """Mark trials of dead workers as failed, and return the numbers of these trials."""
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
    """Return a name that identifies the PID namespace: the host name and, on Linux, the namespace."""
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
