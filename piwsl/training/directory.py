"""Directory of a training run: names of its files, summary, and checks before a run is resumed."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from piwsl.errors import ConfigError, RunDirectoryError
from piwsl.export.trained_file import MODEL_FILE
from piwsl.runs.config import read_mapping
from piwsl.runs.directory import DirectoryKind, RunDirectory
from piwsl.runs.summary import SUMMARY_FILE, RunSummary
from piwsl.training.config import OptimizerConfig, TrainingConfig, load_config
from piwsl.training.metrics import Errors

CONFIG_FILE = "config.yaml"
SPLIT_FILE = "split.json"
LOG_FILE = "train.log"
REPLAY_FILE = "replay.pt"
CHECKPOINTS = "checkpoints"
LAST = f"{CHECKPOINTS}/last.ckpt"
BEST = f"{CHECKPOINTS}/best.ckpt"

TRAINING_RUN = DirectoryKind(
    job="a training run",
    marks=(SPLIT_FILE,),
    own=(
        LOG_FILE,
        SUMMARY_FILE,
        MODEL_FILE,
        SPLIT_FILE,
        CONFIG_FILE,
        REPLAY_FILE,
        CHECKPOINTS,
        "tensorboard",
        "metrics*",
    ),
    log=LOG_FILE,
    resume="resume",
    early=(CONFIG_FILE,),
)

# Keys that a resumed run may change, because they affect its speed but not its result.
WITHOUT_EFFECT = ("threads", "data.workers", "accelerator")


class TrainingSummary(RunSummary):
    """Summary of a completed training run.

    Attributes:
        computed_on: Device and number of processes.
        inputs: Source of the data and its hash.
        start: File and options that training started from; None for random weights.
        frames: Numbers of training, validation and test frames.
        data_report: Lines of the data report.
        seed: Seed of the run.
        steps: Number of training steps; None if unknown, or without steps (least squares).
        best_step: Step of the weights in the trained file, those of the best validation; None likewise.
        validation: Errors on the validation frames, eV and angstrom.
        test: Errors on the test frames; None without test frames.
        warnings: What the user should check although the run completed.
        model_sha256: Hash of the trained file.
    """

    job: ClassVar[str] = "a completed training run"

    computed_on: str
    inputs: dict[str, str]
    start: dict[str, Any] | None = None
    frames: dict[str, int]
    data_report: list[str]
    seed: int
    steps: int | None = None
    best_step: int | None = None
    validation: Errors
    test: Errors | None = None
    warnings: list[str]
    model_sha256: str = ""


def metrics_name(output: Path) -> str:
    """Return the name of the metrics folder of this session. Each resumed session uses a new folder."""
    earlier = len(list(output.glob("metrics*")))
    return "metrics" if earlier == 0 else f"metrics-{earlier}"


@dataclass(frozen=True)
class Continuation:
    """State from which an earlier run continues.

    Attributes:
        checkpoint: Newest checkpoint; None if the run was interrupted before its first checkpoint.
        notes: Permitted differences from the earlier configuration, one per line.
    """

    checkpoint: Path | None
    notes: tuple[str, ...]


def stored_config(output: Path) -> TrainingConfig:
    """Read the configuration in a run directory without importing any module that it names.

    The directory may come from another person, and an import executes code, possibly from the current directory.
    Runs of earlier versions had no prior: without a key ``model.zbl``, it is off.

    Raises:
        ConfigError: The configuration names a module that is not imported yet, or it is invalid.
        RunDirectoryError: The directory contains something that is neither a file nor a directory.
    """
    RunDirectory(output, TRAINING_RUN).check_regular()
    path = output / CONFIG_FILE
    named = read_mapping(path).get("imports") or []
    names = named if isinstance(named, list) else [named]
    foreign = [str(name) for name in names if name not in sys.modules]
    if foreign:
        raise ConfigError(
            f"{path}: to continue this run, the code of {', '.join(foreign)} must be executed: if you trust the code, "
            f"import the module first (piwsl --import {foreign[0]} on the command line)"
        )
    return load_config(path, base={"model": {"zbl": False}})


def continuation(config: TrainingConfig, output: Path) -> Continuation:
    """Return the state from which the run in a directory continues with a configuration.

    Raises:
        RunDirectoryError: The directory contains no run, or its configuration differs in keys that affect the result.
            The message lists these keys.
    """
    if not (output / CONFIG_FILE).exists():
        raise RunDirectoryError(
            f"{output}: the directory contains no training run to resume: start one without resume=True"
        )
    earlier = stored_config(output)
    before, after = _flat(earlier.model_dump(mode="json")), _flat(config.model_dump(mode="json"))
    changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    texts = {key: f"{key} was {before.get(key)}, is {after.get(key)}" for key in changed}
    harmless = {*WITHOUT_EFFECT}
    for key in _longer(earlier.optimizer, config.optimizer):
        if config.optimizer.schedule == "cosine":
            name = key.rpartition(".")[2]
            texts[key] += f" (the cosine schedule depends on this value; other schedules allow more {name})"
        else:
            harmless.add(key)
    refused = [text for key, text in texts.items() if key not in harmless]
    if refused:
        raise RunDirectoryError(
            f"cannot resume {output} with changed settings: {'; '.join(refused)}: restore these values, or start a new "
            "run with another output"
        )
    checkpoint = output / LAST if (output / LAST).exists() else None
    return Continuation(checkpoint, tuple(f"resumed: {text}" for text in texts.values()))


def _longer(before: OptimizerConfig, after: OptimizerConfig) -> list[str]:
    """Return the keys that make a run longer than before."""
    keys = ["optimizer.steps"] if after.steps > before.steps else []
    more_time = before.minutes is not None and (after.minutes is None or after.minutes > before.minutes)
    return [*keys, "optimizer.minutes"] if more_time else keys


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    items: dict[str, Any] = {}
    for key, value in values.items():
        items.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return items
