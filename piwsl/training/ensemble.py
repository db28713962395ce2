"""Ensembles: training with several seeds, and the mean prediction of the members."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from functools import partial
from os import PathLike
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, Field

from piwsl.data.read import FrameSource
from piwsl.errors import ConfigError, RunDirectoryError, public
from piwsl.export.trained_file import ENSEMBLE_FILE, MODEL_FILE
from piwsl.models import import_modules
from piwsl.runs import notebook
from piwsl.runs.config import to_yaml
from piwsl.runs.directory import DirectoryKind, RunDirectory
from piwsl.runs.files import sha256, write_text
from piwsl.runs.process_settings import process_settings
from piwsl.runs.side_by_side import run_side_by_side
from piwsl.runs.summary import SUMMARY_FILE, RunSummary, iso, provenance
from piwsl.training.committee import committee_errors
from piwsl.training.config import GAUSS_NEWTON, TrainingConfig, check_seeds
from piwsl.training.data import training_frames
from piwsl.training.directory import CONFIG_FILE, TrainingSummary, continuation, stored_config
from piwsl.training.distributed.devices import backend_of, chosen_device
from piwsl.training.distributed.process_group import from_rank_zero, is_rank_zero, rank_zero_first
from piwsl.training.distributed.processes import launched_processes, process_group
from piwsl.training.fit import TrainingProgress
from piwsl.training.frames import TrainingFrames
from piwsl.training.inputs import Config, reporting_steps, resumable, resume_advice, training_inputs
from piwsl.training.metrics import Errors
from piwsl.training.presets import resolved
from piwsl.training.run import run_training

ENSEMBLE = DirectoryKind(job="an ensemble", marks=(ENSEMBLE_FILE,), resume="resume")
# Title, field of `Errors`, and conversion factor to the unit in the title.
_COLUMNS = (
    ("energy MAE [meV]", "energy_mae", 1e3),
    ("energy RMSE [meV]", "energy_rmse", 1e3),
    ("force MAE [meV/A]", "force_mae", 1e3),
    ("force RMSE [meV/A]", "force_rmse", 1e3),
)


class MemberRecord(BaseModel):
    """Entry of a member in the summary of an ensemble."""

    seed: int
    directory: str
    model_sha256: str
    validation: Errors
    test: Errors | None = None


class EnsembleSummary(RunSummary):
    """Summary of an ensemble. All entries except the first three are empty until the ensemble is complete.

    Attributes:
        seeds: Seeds of the members.
        split_seed: Seed of the split of the frames.
        data_sha256: Hash of the data.
        members: Directories, hashes and errors of the members.
        mean: Mean error of the members, by part (validation, test) and quantity.
        standard_deviation: Sample standard deviation of the errors of the members, by part and quantity.
        committee: Errors of the mean prediction, by part.
    """

    file_name: ClassVar[str] = ENSEMBLE_FILE
    job: ClassVar[str] = "an ensemble"

    seeds: list[int]
    split_seed: int
    data_sha256: str = ""
    members: list[MemberRecord] = Field(default_factory=list)
    mean: dict[str, dict[str, float | None]] = Field(default_factory=dict)
    standard_deviation: dict[str, dict[str, float | None]] = Field(default_factory=dict)
    committee: dict[str, Errors | None] = Field(default_factory=dict)


@dataclass(frozen=True)
class Member:
    """Trained model of an ensemble, with a separate run directory."""

    seed: int
    directory: Path
    validation: Errors
    test: Errors | None
    warnings: tuple[str, ...]

    @property
    def model(self) -> Path:
        """Trained file of the member."""
        return self.directory / MODEL_FILE

    @property
    def errors(self) -> Errors:
        """Errors on the test frames, or on the validation frames if there are no test frames."""
        return self.test or self.validation


@dataclass(frozen=True)
class EnsembleResult:
    """Members of an ensemble, and the errors of the mean prediction (the committee)."""

    members: list[Member]
    validation: Errors
    test: Errors | None
    file: Path

    @property
    def judged_on(self) -> str:
        """Frames on which members and committee are compared: ``test`` or ``validation``."""
        return "validation" if self.test is None else "test"

    @property
    def directory(self) -> Path:
        """Directory of the ensemble. `piwsl.export_model` accepts it as a model."""
        return self.file.parent

    def table(self) -> tuple[list[str], list[tuple[str, list[str]]]]:
        """Return column titles and rows for a table: members, mean, standard deviation, and mean prediction."""
        together = self.test or self.validation
        columns = [column for column in _COLUMNS if getattr(together, column[1]) is not None]
        members = [[getattr(member.errors, name) for _, name, _ in columns] for member in self.members]
        spread = [mean_and_deviation(values) for values in zip(*members, strict=True)]
        rows: list[tuple[str, Sequence[float | None]]] = [
            *((f"seed {member.seed}", values) for member, values in zip(self.members, members, strict=True)),
            ("mean", [both and both[0] for both in spread]),
            ("standard deviation", [both and both[1] for both in spread]),
            ("mean prediction", [getattr(together, name) for _, name, _ in columns]),
        ]
        factors = [factor for _, _, factor in columns]
        texts = [
            (
                name,
                [
                    "-" if value is None else f"{factor * value:.1f}"
                    for value, factor in zip(values, factors, strict=True)
                ],
            )
            for name, values in rows
        ]
        return [title for title, _, _ in columns], texts

    def __repr__(self) -> str:
        errors = "; ".join(" ".join(line.split()) for line in (self.test or self.validation).lines())
        return f"EnsembleResult({len(self.members)} members in {str(self.directory)!r}; mean prediction: {errors})"

    def _repr_html_(self) -> str:
        titles, rows = self.table()
        return notebook.block(
            notebook.facts([("ensemble", self.directory), ("errors on", f"{self.judged_on} frames")]),
            notebook.table([(name, *cells) for name, cells in rows], ("", *titles)),
            notebook.lines(
                f"warning: seed {member.seed}: {warning}" for member in self.members for warning in member.warnings
            ),
        )


@public
def train_ensemble(
    data: FrameSource | None = None,
    *,
    seeds: Sequence[int] | None = None,
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
    on_member: Callable[[int, Path], None] | None = None,
    workers: int = 1,
) -> EnsembleResult:
    """Train an ensemble of potentials on the same frames, one for each seed.

    Args:
        data: See `piwsl.train`.
        seeds: Seeds of the members. With ``resume``, None uses the seeds of the ensemble in ``output``.
        config: See `piwsl.train`.
        system: See `piwsl.train`.
        units: See `piwsl.train`.
        init_from: See `piwsl.train`.
        output: Directory of the ensemble, with a run directory for each member.
        resume: Keep finished members and continue the others.
        force: Train all members from the start.
        options: See `piwsl.train`.
        progress: See `piwsl.train`. The callback runs after every step of a member.
        on_data: Function called with the frames before the first member is trained.
        on_member: Function called with the seed and the directory before a member is trained.
        workers: Number of members that are trained at a time, each in a process with one thread. With more than one,
            ``progress`` is not called.

    Raises:
        ConfigError: There are no seeds, a seed occurs twice, or the configuration is invalid (see `piwsl.train`).
        RunDirectoryError: The directory contains other files, or an ensemble with other settings.
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
    seeds = np.asarray(seeds).tolist() if seeds is not None else ensemble_seeds(directory) if resume else None
    if seeds is None:
        raise ConfigError("an ensemble needs the seeds of its members: pass for instance seeds=[1, 2, 3]")
    with resumable(lambda: resume_advice(directory)), reporting_steps(progress) as report:
        return run_ensemble(settings, directory, seeds, resume, force, on_data, on_member, report, workers)


def run_ensemble(
    config: TrainingConfig,
    output: Path,
    seeds: Sequence[int],
    resume: bool = False,
    force: bool = False,
    on_data: Callable[[TrainingFrames], None] | None = None,
    on_member: Callable[[int, Path], None] | None = None,
    progress: Callable[[TrainingProgress], None] | None = None,
    workers: int = 1,
) -> EnsembleResult:
    """Train one model for each seed, in ``output/seed-N``, on the same frames.

    The seed of the configuration determines the split and the hidden forces. The seed of a member determines its
    initial weights, the order of its frames, and its displacements. All members share the training, validation and test
    frames.

    Args:
        config: Training configuration of all members, except for their seeds.
        output: Directory of the ensemble.
        seeds: Seeds of the members. A resumed ensemble may have additional seeds.
        resume: Keep finished members and continue the others.
        force: Train all members from the start.
        on_data: Function called with the frames before the first member is trained.
        on_member: Function called with the seed and the directory before a member is trained.
        progress: Function called after every step of a member.
        workers: Number of members that are trained at a time, see `train_ensemble`.

    Raises:
        ConfigError: There are no seeds, a seed is out of range or occurs twice, or the seed has no effect.
        RunDirectoryError: The directory contains other files, or an ensemble with other settings.
    """
    check_seeds(seeds)
    if workers > 1 and launched_processes().count > 1:
        raise ConfigError(f"workers={workers} trains on one machine: omit this argument under torchrun or srun")
    if len(seeds) > 1 and config.start.training_method == GAUSS_NEWTON:
        raise ConfigError(
            f"start.method: {GAUSS_NEWTON} has a single result, so all members would be equal: train one model"
        )
    config = resolved(config)
    with (
        process_settings(config.threads, config.deterministic),
        process_group(launched_processes(), backend_of(config)) as processes,
    ):
        device = chosen_device(config, processes)
        from_rank_zero(lambda: _check_directory(config, output, resume, force))
        with rank_zero_first():
            frames = training_frames(config)
        summary = EnsembleSummary(
            **provenance(("torch", "lightning", "numpy")),
            seeds=list(seeds),
            split_seed=config.seed,
            data_sha256=frames.sha256,
            result="interrupted",
        )
        if is_rank_zero():
            if on_data:
                on_data(frames)
            summary.write(output)  # first, because the directory holds an ensemble from here on
            write_text(output / CONFIG_FILE, to_yaml(config))
        tasks = []
        for seed in seeds:
            member, member_directory = config.model_copy(update={"seed": seed}), output / f"seed-{seed}"
            left = from_rank_zero(partial(_work_left, member, member_directory, resume))
            if left == "nothing":
                continue
            if on_member and is_rank_zero():
                on_member(seed, member_directory)
            if workers > 1:
                tasks.append((member, member_directory, left == "rest", force, config.seed))
            else:
                run_training(member, member_directory, left == "rest", force, progress=progress, frames=frames)
        run_side_by_side(_train_member, tasks, workers)
        return from_rank_zero(lambda: _result(output, summary, frames, device))


def _train_member(config: TrainingConfig, output: Path, resume: bool, force: bool, split_seed: int) -> None:
    """Train a member in its own process, on the frames that all members share."""
    import_modules(config.imports)
    config = config.model_copy(update={"threads": 1})
    frames = training_frames(config.model_copy(update={"seed": split_seed}))
    run_training(config, output, resume, force, frames=frames)


def _result(output: Path, summary: EnsembleSummary, frames: TrainingFrames, device: torch.device) -> EnsembleResult:
    members = [_finished(seed, output / f"seed-{seed}") for seed in summary.seeds]
    models = [member.model for member in members]
    result = EnsembleResult(
        members,
        committee_errors(models, frames.validation, device),
        committee_errors(models, frames.test, device) if len(frames.test) else None,
        output / ENSEMBLE_FILE,
    )
    _complete(summary, result)
    summary.write(output)
    return result


def ensemble_seeds(output: Path) -> list[int] | None:
    """Return the seeds of the ensemble in a directory, or None if the directory contains no ensemble.

    Raises:
        RunDirectoryError: The summary of the ensemble is damaged.
    """
    return EnsembleSummary.read(output).seeds if (output / ENSEMBLE_FILE).exists() else None


def mean_and_deviation(values: Sequence[float | None]) -> tuple[float, float] | None:
    """Return the mean and the sample standard deviation (0 for a single value), or None if a value is missing."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return fmean(known), stdev(known) if len(known) > 1 else 0.0


def _check_directory(config: TrainingConfig, output: Path, resume: bool, force: bool) -> None:
    directory = RunDirectory(output, ENSEMBLE)
    if not resume:
        directory.check_free(force)
    elif directory.holds_job:
        if (output / CONFIG_FILE).exists():  # otherwise the ensemble ended before it began
            continuation(config, output)  # raises an error if settings differ
    else:
        raise RunDirectoryError(
            f"{output}: the directory contains no ensemble to resume: start one without resume=True"
        )


def _work_left(config: TrainingConfig, directory: Path, resume: bool) -> Literal["all", "rest", "nothing"]:
    """Return the remaining part of the training of a member."""
    if not resume or not (directory / CONFIG_FILE).exists():
        return "all"
    continuation(config, directory)  # raises an error if settings differ
    finished = (directory / SUMMARY_FILE).exists() and (directory / MODEL_FILE).exists()
    finished = finished and TrainingSummary.read(directory).result == "completed"
    longer = config.optimizer.steps > stored_config(directory).optimizer.steps
    return "nothing" if finished and not longer else "rest"


def _finished(seed: int, directory: Path) -> Member:
    summary = TrainingSummary.read(directory)
    return Member(seed, directory, summary.validation, summary.test, tuple(summary.warnings))


def _complete(summary: EnsembleSummary, result: EnsembleResult) -> None:
    """Add the members, statistics of their errors, and the errors of the committee to the summary."""
    parts: dict[str, list[Errors]] = {"validation": [member.validation for member in result.members]}
    if result.test is not None:
        parts["test"] = [member.test for member in result.members if member.test is not None]
    names = [field.name for field in fields(Errors)]
    statistics = {
        part: {name: mean_and_deviation([getattr(member, name) for member in errors]) for name in names}
        for part, errors in parts.items()
    }
    summary.members = [
        MemberRecord(
            seed=member.seed,
            directory=member.directory.name,
            model_sha256=sha256(member.model),
            validation=member.validation,
            test=member.test,
        )
        for member in result.members
    ]
    summary.mean = {
        part: {name: value and value[0] for name, value in values.items()} for part, values in statistics.items()
    }
    summary.standard_deviation = {
        part: {name: value and value[1] for name, value in values.items()} for part, values in statistics.items()
    }
    summary.committee = {"validation": result.validation, "test": result.test}
    started, ended = datetime.fromisoformat(summary.started), datetime.now(timezone.utc)
    summary.finished, summary.wall_seconds = iso(ended), round((ended - started).total_seconds(), 1)
    summary.outputs = {"config": CONFIG_FILE}
    summary.result = "completed"
