"""Search for good coefficients and settings: implementation of `piwsl tune`."""

import importlib.util
from collections.abc import Callable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

from piwsl.data.read import FrameSource
from piwsl.errors import ConfigError, MissingDependencyError, public
from piwsl.runs.progress import Step, reporting
from piwsl.training.distributed.processes import launched_processes
from piwsl.training.frames import TrainingFrames
from piwsl.training.inputs import Config, resumable, training_inputs
from piwsl.training.tuning.settings import TuneConfig

if TYPE_CHECKING:
    from piwsl.training.tuning.results import TrialResult
    from piwsl.training.tuning.run import TuneResult


@public
def tune(
    config: Config,
    *,
    data: FrameSource | None = None,
    output: str | PathLike[str] | None = None,
    storage: str | None = None,
    trials: int | None = None,
    options: Mapping[str, Any] | None = None,
    progress: "Callable[[TrialResult], None] | bool | None" = None,
    on_data: Callable[[TrainingFrames], None] | None = None,
) -> "TuneResult":
    """Search the ranges of the section `tune` of a configuration for the smallest validation error.

    The same call joins a running search or continues an interrupted search. The test frames are evaluated only once, at
    the end, with the best model.

    Args:
        config: YAML file, or mapping, with a section `tune`, such as
            ``{"tune": {"trials": 30, "ranges": {"loss.pitc": {"low": 0.01, "high": 100, "log": True}}}}``.
        data: Labeled frames, see `piwsl.train`. With None, the configuration specifies the data.
        output: Directory of the search. The default is ``runs/tune-NAME``, named after the data.
        storage: Database URL or journal file that several workers share. The default is a file in ``output``.
        trials: Total number of trials over all workers. The default is the value in the section `tune`.
        options: Values by key, which take precedence over the configuration.
        progress: Function called after every trial of this worker. True or False shows or hides a progress bar.
        on_data: Function called with the frames before the first trial.

    Raises:
        MissingDependencyError: Optuna is not installed.
        ConfigError: The configuration has no section `tune`, or a range does not fit the configuration or the data.
        RunDirectoryError: The directory contains other files, or the study was created with other settings.
        PiwslError: No trial was completed, or the storage became unavailable.
    """
    if importlib.util.find_spec("optuna") is None:
        raise MissingDependencyError("optuna", "the search for settings", "tune")
    from piwsl.training.tuning.run import run_study

    if launched_processes().count > 1:
        raise ConfigError(
            "a search trains each trial in one process: instead of torchrun or srun with several tasks, start several "
            "searches with the same storage"
        )
    training, section, directory = training_inputs(data, config, output=output, options=options, purpose="tune")
    if section is None:
        raise ConfigError(
            f"{config if isinstance(config, str | PathLike) else 'configuration'}: no section tune: add for "
            "instance 'tune: {trials: 30, ranges: {loss.pitc: {low: 0.01, high: 100, log: true}}}'"
        )
    chosen = {"storage": storage, "trials": trials}
    section = section.model_copy(update={key: value for key, value in chosen.items() if value is not None})
    with resumable(lambda: "repeat the search to continue it"), _reporting(progress, section) as report:
        return run_study(training, section, directory, on_data, report)


def _reporting(progress: "Callable[[TrialResult], None] | bool | None", settings: TuneConfig) -> Any:
    from piwsl.training.tuning.results import setting_text

    def describe(trial: "TrialResult") -> Step:
        values = "  ".join(f"{key} {setting_text(value)}" for key, value in trial.settings.items())
        return Step(trial.number + 1, settings.trials, f"{trial.value_text}  {values}")

    return reporting(progress, "trials", describe)
