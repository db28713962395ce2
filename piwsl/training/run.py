"""Training run: the function behind `piwsl train`, from a configuration to a run directory with `model.pt`."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
from matplotlib.figure import Figure

from piwsl.data.read import FrameSource
from piwsl.errors import RunDirectoryError, public
from piwsl.export.trained_file import DTYPES, MODEL_FILE, save_trained
from piwsl.models import import_modules
from piwsl.runs import notebook
from piwsl.runs.config import to_yaml
from piwsl.runs.directory import RunDirectory
from piwsl.runs.files import sha256, write_text
from piwsl.runs.process_settings import process_settings
from piwsl.runs.provenance import listening
from piwsl.runs.summary import iso, provenance
from piwsl.training.checkpoints import best_weights, check_checkpoints, step_of
from piwsl.training.config import GAUSS_NEWTON, TrainingConfig
from piwsl.training.curves import learning_curves
from piwsl.training.data import training_frames
from piwsl.training.directory import (
    BEST,
    CONFIG_FILE,
    LAST,
    LOG_FILE,
    REPLAY_FILE,
    SPLIT_FILE,
    TRAINING_RUN,
    Continuation,
    TrainingSummary,
    continuation,
    stored_config,
)
from piwsl.training.distributed.devices import backend_of, chosen_device
from piwsl.training.distributed.process_group import (
    from_rank_zero,
    is_rank_zero,
    rank_zero_first,
    wait_for_all,
)
from piwsl.training.distributed.processes import Processes, launched_processes, process_group
from piwsl.training.evaluate import evaluate_potential
from piwsl.training.fit import Setup, TrainingProgress, fit
from piwsl.training.frames import TrainingFrames
from piwsl.training.gauss_newton import fit_gauss_newton, plan_gauss_newton
from piwsl.training.inputs import Config, reporting_steps, resumable, resume_advice, training_inputs
from piwsl.training.metrics import Errors
from piwsl.training.preparation import prepare
from piwsl.training.presets import resolved
from piwsl.training.replay import write_replay
from piwsl.training.start import StartingPoint
from piwsl.training.step_memory import step_memory
from piwsl.training.stored_split import check_unchanged, stored_split, write_split
from piwsl.training.task import DivergedError, TrainingTask
from piwsl.training.teacher import load_teacher
from piwsl.training.trained_model import trained_model

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingResult:
    """Result of a training run.

    Attributes:
        model: Trained file.
        validation: Errors on the validation frames.
        test: Errors on the test frames; None without test frames.
        seconds: Wall time of the run, s.
        warnings: Warnings about the quality of the trained model.
    """

    model: Path
    validation: Errors
    test: Errors | None
    seconds: float
    warnings: list[str]

    @property
    def directory(self) -> Path:
        """Run directory."""
        return self.model.parent

    @property
    def errors(self) -> Errors:
        """Errors on the test frames, or on the validation frames if there are no test frames."""
        return self.test or self.validation

    def plot(self) -> Figure:
        """Draw the validation errors against the training step."""
        return learning_curves(self.directory)

    def __repr__(self) -> str:
        errors = "; ".join(" ".join(line.split()) for line in self.errors.lines())
        return f"TrainingResult({str(self.model)!r}; {errors})"

    def _repr_html_(self) -> str:
        parts = [("validation", self.validation), ("test", self.test)]
        rows = [(part, *row) for part, errors in parts if errors is not None for row in errors.rows()]
        return notebook.block(
            notebook.facts([("model", self.model), ("time", f"{self.seconds / 60:.1f} min")]),
            notebook.table(rows, ("frames", "", "MAE", "RMSE")),
            notebook.lines(f"warning: {warning}" for warning in self.warnings),
            notebook.picture(self.plot(), "validation errors by step"),
        )


@public
def train(
    data: FrameSource | None = None,
    *,
    config: Config | None = None,
    system: str | None = None,
    units: str | None = None,
    init_from: str | PathLike[str] | None = None,
    output: str | PathLike[str] | None = None,
    resume: bool = False,
    force: bool = False,
    options: Mapping[str, Any] | None = None,
    progress: Callable[[TrainingProgress], None] | bool | None = None,
    on_data: Callable[[TrainingFrames], None] | None = None,
) -> TrainingResult:
    """Train a potential on labeled structures.

    Args:
        data: Labeled frames: a file, a directory, a pattern, a named data set, the name of a bundled system, or frames
            in memory (which require ``output``). With None, the configuration specifies the data.
        config: `TrainingConfig`, YAML file, or mapping of sections such as ``{"loss": {"pitc": 0.5}}``.
        system: Name of a bundled system, such as ``aspirin``, instead of ``data``.
        units: Units of a file that does not state them, such as ``kcal/mol, angstrom``.
        init_from: Trained file to fine-tune.
        output: Run directory. The default is ``runs/train-NAME``, named after the data.
        resume: Continue the run in ``output`` from its newest checkpoint.
        force: Replace another run in ``output``.
        options: Values by key, such as ``{"optimizer.steps": 2000}``. They take precedence over the configuration.
        progress: Function called after every step. True or False shows or hides a progress bar. None shows a bar in
            notebooks and in interactive sessions.
        on_data: Function called before the first step with the frames, their report, and their split.

    Raises:
        ConfigError: A key is unknown, a value is out of range, or the data lack labels that the configuration requires.
        DataError: The data cannot be read or contain invalid frames.
        RunDirectoryError: The directory contains another run, or no run to resume.
        DivergedError: The loss is no longer finite.
    """
    settings, _, directory = training_inputs(
        data,
        config,
        system=system,
        units=units,
        init_from=init_from,
        output=output,
        resume=resume,
        options=options,
    )
    with resumable(lambda: resume_advice(directory)), reporting_steps(progress) as report:
        return run_training(settings, directory, resume, force, on_data, report)


def run_training(
    config: TrainingConfig,
    output: Path,
    resume: bool = False,
    force: bool = False,
    on_data: Callable[[TrainingFrames], None] | None = None,
    progress: Callable[[TrainingProgress], None] | None = None,
    frames: TrainingFrames | None = None,
) -> TrainingResult:
    """Train a potential with a complete configuration.

    Under torchrun or srun, all processes call this function. Rank 0 writes the files and calls the callbacks. If one
    process fails, all processes end: the first process that fails raises its error, and the other processes raise
    SystemExit.

    Args:
        config: Complete training configuration.
        output: Run directory.
        resume: Continue from the newest checkpoint in the directory.
        force: Replace another run in the directory.
        on_data: Function called with the frames before training starts.
        progress: Function called after every step.
        frames: Frames that were already read and split. With None, they are read from the configured source.

    Raises:
        RunDirectoryError: The directory contains another run, or no run to resume, or a damaged checkpoint, or another
            process trains there.
        DataError: The data cannot be read or contain invalid frames.
        ConfigError: The data lack required labels, or the machine lacks the required device or memory.
        DivergedError: The loss is no longer finite.
    """
    began = time.perf_counter()
    import_modules(config.imports)  # A worker process receives the configuration without these imports.
    config = resolved(config)
    with (
        process_settings(config.threads, config.deterministic),
        process_group(launched_processes(), backend_of(config)) as processes,
    ):
        device = chosen_device(config, processes)
        directory = RunDirectory(output, TRAINING_RUN)
        earlier = from_rank_zero(lambda: continuation(config, output) if resume else directory.check_free(force))
        with rank_zero_first():
            frames = frames or training_frames(config, stored_split(output / SPLIT_FILE) if resume else None)
            teacher = load_teacher(config, frames.main, frames.level, [level.frames for level in frames.levels])
            teacher_sha256 = "" if teacher is None else teacher.sha256
            if resume:
                check_unchanged(output / SPLIT_FILE, frames, teacher_sha256)
                check_checkpoints(output)
        prepared = prepare(config, frames, output, processes, device, teacher, resumed=resume)
        setup, start, task = prepared.setup, prepared.start, prepared.task
        if config.start.training_method == GAUSS_NEWTON:
            plan_gauss_newton(setup, start.potential).check()
        elif memory := step_memory(setup, task.objective, start.potential):
            memory.check()
        if not is_rank_zero():
            with listening(logging.getLogger("piwsl"), logging.NullHandler()):
                return _train(setup, task, start, earlier, None, began)
        directory.create()
        with directory.lock():
            # Another process may have used the directory in the meantime.
            if resume:
                earlier = continuation(config, output)
            else:
                directory.check_free(force)
            if on_data:
                on_data(frames)
            if earlier is None:
                directory.clear()
            write_text(output / CONFIG_FILE, to_yaml(config))
            write_split(output / SPLIT_FILE, frames, teacher_sha256)
            if setup.replay is not None:
                write_replay(setup.replay, output / REPLAY_FILE)
            with directory.log():
                facts = [*frames.lines(), *prepared.facts, start.energy_line()]
                for line in [*facts, *(earlier.notes if earlier else ())]:
                    LOGGER.info(line)
                start.log()
                for line in () if teacher is None else teacher.notes:
                    LOGGER.info(line)
                return _train(setup, task, start, earlier, progress, began)


def _train(
    setup: Setup,
    task: TrainingTask,
    start: StartingPoint,
    earlier: Continuation | None,
    progress: Callable[[TrainingProgress], None] | None,
    began: float,
) -> TrainingResult:
    config, frames, output = setup.config, setup.frames, setup.output
    model = output / MODEL_FILE

    def save_best(state: dict[str, torch.Tensor]) -> None:
        """Write the trained file of the best validation so far. Only its test errors are missing."""
        errors = task.validation_errors
        if errors is not None:
            record = teacher_record(setup)
            save_trained(trained_model(config, frames, task.potential, errors, None, start, state, record), model)

    try:
        if config.start.training_method == GAUSS_NEWTON:
            fit_gauss_newton(setup, task.potential, progress)
        else:
            fit(setup, task, earlier.checkpoint if earlier else None, progress, save_best)
    except DivergedError as error:
        LOGGER.error(str(error))
        raise
    wait_for_all()
    return _finish(setup, task, start, began)


def _finish(
    setup: Setup,
    task: TrainingTask,
    start: StartingPoint,
    began: float,
    outcome: Literal["completed", "stopped"] = "completed",
) -> TrainingResult:
    """Measure the errors of the best weights and write the trained file and the summary."""
    config, frames, output = setup.config, setup.frames, setup.output
    task.potential.load_state_dict(best_weights(output))
    potential = task.potential.requires_grad_(False).eval().to(setup.device)
    dtype = DTYPES[config.weights_dtype]
    validation = evaluate_potential(potential, frames.validation, config.model.cutoff, dtype)
    test = evaluate_potential(potential, frames.test, config.model.cutoff, dtype) if len(frames.test) else None
    seconds = time.perf_counter() - began
    warnings = quality_warnings(validation, task.consistency_share)
    result = TrainingResult(output / MODEL_FILE, validation, test, seconds, warnings)
    if is_rank_zero():
        record = teacher_record(setup)
        save_trained(trained_model(config, frames, potential, validation, test, start, teacher=record), result.model)
        summary = _summary(setup, result, start.origin, outcome)
        summary.steps = task.global_step or step_of(output / LAST)
        summary.best_step = step_of(output / BEST)
        summary.write(output)
        if summary.steps is not None:
            LOGGER.info(f"steps     {summary.steps}; the best validation was at step {summary.best_step}")
    for warning in warnings:
        LOGGER.warning(warning)
    LOGGER.info(f"done after {seconds:.0f} s: {'; '.join((test or validation).lines())}")
    return result


def _summary(
    setup: Setup, result: TrainingResult, origin: dict[str, Any] | None, outcome: Literal["completed", "stopped"]
) -> TrainingSummary:
    frames = setup.frames
    ended = datetime.now(timezone.utc)
    return TrainingSummary(
        **provenance(("torch", "lightning", "numpy")) | {"started": iso(ended - timedelta(seconds=result.seconds))},
        finished=iso(ended),
        wall_seconds=round(result.seconds, 1),
        computed_on=setup.describe_device(),
        inputs={
            "data": str(frames.source),
            "sha256": frames.sha256,
            **{f"level {level.name}": str(level.source) for level in frames.levels},
            **{f"sha256 of level {level.name}": level.sha256 for level in frames.levels},
        },
        start=origin,
        frames={
            "train": len(frames.main),
            "validation": len(frames.validation),
            "test": len(frames.test),
            **{f"level {level.name}": len(level.frames) for level in frames.levels},
        },
        data_report=frames.report.lines(),
        seed=setup.config.seed,
        validation=result.validation,
        test=result.test,
        warnings=result.warnings,
        outputs={"model": MODEL_FILE, "config": CONFIG_FILE, "split": SPLIT_FILE, "log": LOG_FILE},
        model_sha256=sha256(result.model),
        result=outcome,
    )


@public
def finish_training(directory: str | PathLike[str]) -> TrainingResult:
    """Write the trained file and the summary of an interrupted run from its best checkpoint.

    The run can be continued afterwards with ``resume=True``.

    Args:
        directory: Run directory.

    Raises:
        RunDirectoryError: The directory contains no training run, another process trains there, the run was
            interrupted before its first validation, or its best checkpoint is damaged.
        DataError: The data of the run can no longer be read.
        ConfigError: The data of the run no longer fit its configuration.
    """
    return _finish_run(Path(directory))


def _finish_run(output: Path) -> TrainingResult:
    began = time.perf_counter()
    directory = RunDirectory(output, TRAINING_RUN)
    if not directory.holds_job or not (output / CONFIG_FILE).exists():
        raise RunDirectoryError(f"{output}: the directory contains no training run to finish: pass a run directory")
    if not (output / BEST).exists():
        raise RunDirectoryError(
            f"{output}: the run was interrupted before its first validation: continue it with resume=True"
        )
    config = stored_config(output)
    with process_settings(config.threads, config.deterministic), directory.lock():
        earlier = continuation(config, output)
        frames = training_frames(config, stored_split(output / SPLIT_FILE))
        processes = Processes()
        teacher = load_teacher(config, frames.main, frames.level, [level.frames for level in frames.levels])
        device = chosen_device(config, processes)
        prepared = prepare(config, frames, output, processes, device, teacher, resumed=True)
        with directory.log():
            for line in earlier.notes:
                LOGGER.info(line)
            return _finish(prepared.setup, prepared.task, prepared.start, began, "stopped")


def teacher_record(setup: Setup) -> dict[str, Any] | None:
    """Return the record of the teacher of a run; None without a teacher."""
    return None if setup.teacher is None else setup.teacher.record


FLAT = 0.5  # smallest ratio of predicted to labeled energy spread without a warning
NOTABLE_SHARE = 0.2  # fraction of the loss above which the warning names the consistency terms


def quality_warnings(errors: Errors, consistency_share: float) -> list[str]:
    """Return warnings about the quality of a potential whose training completed."""
    ratio = errors.energy_spread_ratio
    if ratio is None or ratio >= FLAT:
        return []
    advice = "train longer"
    if consistency_share > NOTABLE_SHARE:
        advice = f"PITC and PISC contributed up to {consistency_share:.0%} of the loss: lower their coefficients"
    return [f"the spread of the predicted energies is only {ratio:.2f} times the spread of the labels: {advice}"]
