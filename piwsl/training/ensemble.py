"""Ensembles: the same training with several seeds, and what its members say together."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

import torch
from torch import Tensor

from piwsl._version import __version__
from piwsl.data.batch import Batch
from piwsl.data.frames import FrameSet
from piwsl.errors import ConfigError, RunDirectoryError
from piwsl.export.trained_file import DTYPES, load_trained
from piwsl.losses.prediction import Prediction
from piwsl.runs.config import to_yaml
from piwsl.runs.files import sha256, write_text
from piwsl.runs.process import process_settings
from piwsl.training.config import TrainingConfig, load_config
from piwsl.training.data import TrainingFrames
from piwsl.training.directory import CONFIG_FILE, MODEL_FILE, SPLIT_FILE, SUMMARY_FILE, continuation
from piwsl.training.distributed.devices import backend_of, chosen_device
from piwsl.training.distributed.process_group import from_rank_zero, is_rank_zero, rank_zero_first
from piwsl.training.distributed.processes import joined, launched_processes
from piwsl.training.evaluate import predictions
from piwsl.training.fit import TrainingProgress
from piwsl.training.metrics import ErrorCollector, Errors
from piwsl.training.run import train
from piwsl.training.sources import training_frames, with_absolute_sources
from piwsl.training.start import with_network_of_start

ENSEMBLE_FILE = "ensemble.json"


@dataclass(frozen=True)
class Member:
    """One trained model of an ensemble, in a run directory of its own."""

    seed: int
    directory: Path
    validation: Errors
    test: Errors | None
    warnings: tuple[str, ...]

    @property
    def model(self) -> Path:
        """Its trained file."""
        return self.directory / MODEL_FILE

    @property
    def errors(self) -> Errors:
        """Its errors on the test frames, else on the validation frames."""
        return self.test or self.validation


@dataclass(frozen=True)
class EnsembleResult:
    """Members, and the errors of the mean of their predictions (the committee)."""

    members: list[Member]
    validation: Errors
    test: Errors | None
    file: Path

    @property
    def judged_on(self) -> str:
        """What the errors of members and committee are compared on."""
        return "validation" if self.test is None else "test"


def train_ensemble(
    config: TrainingConfig,
    output: Path,
    seeds: Sequence[int],
    resume: bool = False,
    force: bool = False,
    on_data: Callable[[TrainingFrames], None] | None = None,
    on_member: Callable[[int, Path], None] | None = None,
    progress: Callable[[TrainingProgress], None] | None = None,
) -> EnsembleResult:
    """Train one model for each seed, in ``output/seed-N``, on the same frames.

    The seed of the configuration decides the split, and which forces are hidden; those of the members only their
    weights, the order of the frames and the displacements. All members see the same training frames and are judged on
    the same validation and test frames.

    Args:
        config: everything that decides the members, apart from their seeds.
        output: directory of the ensemble.
        seeds: of the members; a resumed ensemble may have more than before.
        resume: keep finished members, go on with the others.
        force: train all members anew.
        on_data: called with the frames before the first member is trained.
        on_member: called with seed and directory before a member is trained.
        progress: called after every step of a member.

    Raises:
        ConfigError: a seed is named twice.
        RunDirectoryError: the directory holds something else, or other settings.
    """
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise ConfigError(f"seeds {', '.join(map(str, seeds))}: name different whole numbers from 0")
    config = with_network_of_start(with_absolute_sources(config))
    with (
        process_settings(config.threads, config.deterministic),
        joined(launched_processes(), backend_of(config)) as processes,
    ):
        device = chosen_device(config, processes)
        from_rank_zero(lambda: _check_directory(config, output, resume, force))
        with rank_zero_first():
            frames = training_frames(config)
        content: dict[str, Any] = {
            "piwsl_version": __version__,
            "seeds": list(seeds),
            "split_seed": config.seed,
            "data_sha256": frames.sha256,
            "result": "unfinished",
        }
        if is_rank_zero():
            if on_data:
                on_data(frames)
            write_text(output / CONFIG_FILE, to_yaml(config))
            write_text(output / ENSEMBLE_FILE, json.dumps(content, indent=1))
        for seed in seeds:
            member, directory = config.model_copy(update={"seed": seed}), output / f"seed-{seed}"
            todo = from_rank_zero(partial(_todo, member, directory, resume))
            if todo != "nothing":
                if on_member and is_rank_zero():
                    on_member(seed, directory)
                train(member, directory, todo == "rest", force, progress=progress, frames=frames)
        return from_rank_zero(lambda: _result(output, content, frames, device))


def _result(output: Path, content: dict[str, Any], frames: TrainingFrames, device: torch.device) -> EnsembleResult:
    members = [_finished(seed, output / f"seed-{seed}") for seed in content["seeds"]]
    result = EnsembleResult(
        members,
        committee_errors(members, frames.validation, device),
        committee_errors(members, frames.test, device) if len(frames.test) else None,
        output / ENSEMBLE_FILE,
    )
    write_text(result.file, json.dumps({**content, **_summary(result), "result": "completed"}, indent=1))
    return result


def ensemble_seeds(output: Path) -> list[int] | None:
    """Seeds of the ensemble in a directory; None where there is none."""
    try:
        return [int(seed) for seed in json.loads((output / ENSEMBLE_FILE).read_text(encoding="utf-8"))["seeds"]]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise RunDirectoryError(f"{output / ENSEMBLE_FILE} is damaged: name the seeds with --seeds") from None


def member_models(output: Path) -> list[Path]:
    """Trained files of the members of an ensemble.

    Raises:
        RunDirectoryError: the directory holds no finished ensemble.
    """
    try:
        content = json.loads((output / ENSEMBLE_FILE).read_text(encoding="utf-8"))
        models = [output / member["directory"] / MODEL_FILE for member in content["members"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise RunDirectoryError(f"{output} holds no finished ensemble: name trained files instead") from None
    missing = next((model for model in models if not model.is_file()), None)
    if missing is not None:
        raise RunDirectoryError(f"{missing} is missing: go on with `piwsl train --seeds ... --resume`")
    return models


def mean_and_deviation(values: Sequence[float | None]) -> tuple[float, float] | None:
    """Mean and standard deviation (of a sample; 0 for a single value); None where one is missing."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return fmean(known), stdev(known) if len(known) > 1 else 0.0


def committee_errors(members: Sequence[Member], frames: FrameSet, device: torch.device) -> Errors:
    """Errors of the mean of the members' energies and forces, computed on a device."""
    collector = ErrorCollector()
    each: list[Iterator[tuple[Prediction, Batch]]] = []
    for member in members:
        trained = load_trained(member.model)
        potential = trained.potential().to(device)
        each.append(predictions(potential, frames, trained.config.cutoff, DTYPES[trained.dtype]))
    for together in zip(*each, strict=True):
        mean = mean_prediction([prediction for prediction, _ in together])
        collector.add(mean, together[0][1])
    return collector.errors()


def mean_prediction(members: Sequence[Prediction]) -> Prediction:
    """The mean of what several models predict for the same batch."""
    first = members[0]
    names = [field.name for field in fields(first) if isinstance(getattr(first, field.name), Tensor)]
    return replace(first, **{name: torch.stack([getattr(one, name) for one in members]).mean(0) for name in names})


def _check_directory(config: TrainingConfig, output: Path, resume: bool, force: bool) -> None:
    if output.exists() and not output.is_dir():
        raise RunDirectoryError(f"{output} is a file: choose another --output")
    holds_ensemble = (output / ENSEMBLE_FILE).exists()
    if resume:
        if not holds_ensemble:
            raise RunDirectoryError(f"{output} holds no ensemble to resume")
        continuation(config, output)  # refuses other settings
    elif output.is_dir() and any(output.iterdir()) and not (holds_ensemble and force):
        if not holds_ensemble or (output / SPLIT_FILE).exists():
            raise RunDirectoryError(f"{output} is not empty and holds no ensemble: choose another --output")
        raise RunDirectoryError(
            f"{output} holds an ensemble: --resume goes on, --force starts anew, or choose --output"
        )


def _todo(config: TrainingConfig, directory: Path, resume: bool) -> Literal["all", "rest", "nothing"]:
    """What is left of the training of a member."""
    if not resume or not (directory / CONFIG_FILE).exists():
        return "all"
    continuation(config, directory)  # refuses other settings
    finished = (directory / SUMMARY_FILE).exists() and (directory / MODEL_FILE).exists()
    longer = config.optimizer.steps > load_config(directory / CONFIG_FILE).optimizer.steps
    return "nothing" if finished and not longer else "rest"


def _finished(seed: int, directory: Path) -> Member:
    summary = json.loads((directory / SUMMARY_FILE).read_text(encoding="utf-8"))
    test = Errors(**summary["test"]) if summary["test"] else None
    return Member(seed, directory, Errors(**summary["validation"]), test, tuple(summary["warnings"]))


def _summary(result: EnsembleResult) -> dict[str, Any]:
    """Members, mean and standard deviation of their errors, and the errors of the committee."""
    parts: dict[str, list[Errors]] = {"validation": [member.validation for member in result.members]}
    if result.test is not None:
        parts["test"] = [member.test for member in result.members if member.test is not None]
    names = [field.name for field in fields(Errors)]
    spread = {
        part: {name: mean_and_deviation([getattr(one, name) for one in errors]) for name in names}
        for part, errors in parts.items()
    }
    return {
        "members": [
            {
                "seed": member.seed,
                "directory": member.directory.name,
                "model_sha256": sha256(member.model),
                "validation": asdict(member.validation),
                "test": asdict(member.test) if member.test else None,
            }
            for member in result.members
        ],
        "mean": {part: {name: value and value[0] for name, value in one.items()} for part, one in spread.items()},
        "standard_deviation": {
            part: {name: value and value[1] for name, value in one.items()} for part, one in spread.items()
        },
        "committee": {
            "validation": asdict(result.validation),
            "test": asdict(result.test) if result.test else None,
        },
    }
