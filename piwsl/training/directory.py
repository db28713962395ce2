"""The directory of a training run: who may use it, what it holds, its summary."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

from piwsl._version import __version__
from piwsl.errors import RunDirectoryError
from piwsl.export.trained_file import MODEL_FILE
from piwsl.runs.files import sha256, write_text
from piwsl.runs.lock import LOCK_FILE
from piwsl.runs.provenance import versions
from piwsl.training.config import TrainingConfig, load_config
from piwsl.training.metrics import Errors
from piwsl.training.setup import Setup

CONFIG_FILE = "config.yaml"
SUMMARY_FILE = "summary.json"
SPLIT_FILE = "split.json"
LOG_FILE = "train.log"
CHECKPOINTS = "checkpoints"
LAST = f"{CHECKPOINTS}/last.ckpt"
BEST = f"{CHECKPOINTS}/best.ckpt"

# Keys that a resumed run may change: they decide how fast it is, not what comes out.
WITHOUT_EFFECT = ("threads", "data.workers", "accelerator")


def check_free(output: Path, force: bool) -> None:
    """Refuse a directory that holds something, unless ``force``; nothing is touched yet.

    Raises:
        RunDirectoryError: says what can be done.
    """
    if output.exists() and not output.is_dir():
        raise RunDirectoryError(f"{output} is a file: choose another --output")
    if not output.exists() or all(entry.name == LOCK_FILE for entry in output.iterdir()):
        return
    if not (output / SPLIT_FILE).exists():
        raise RunDirectoryError(f"{output} is not empty and holds no training run: choose another --output")
    if not force:
        raise RunDirectoryError(f"{output} holds a run: --resume goes on, --force starts anew, or choose --output")


def make(output: Path) -> None:
    """Make the directory, where it is not there.

    Raises:
        RunDirectoryError: it cannot be written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunDirectoryError(f"{output} cannot be written: {error.strerror}") from None


def clear(output: Path) -> None:
    """Take an earlier run out of the directory.

    Raises:
        RunDirectoryError: it cannot be written.
    """
    try:
        for folder in (output / CHECKPOINTS, output / "tensorboard", *output.glob("metrics*")):
            rmtree(folder, ignore_errors=True)
        for name in (LOG_FILE, SUMMARY_FILE, MODEL_FILE, SPLIT_FILE, CONFIG_FILE):
            (output / name).unlink(missing_ok=True)
    except OSError as error:
        raise RunDirectoryError(f"{output} cannot be written: {error.strerror}") from None


def metrics_name(output: Path) -> str:
    """Folder for the metrics of this start of the run: each resumption adds one, none is overwritten."""
    earlier = len(list(output.glob("metrics*")))
    return "metrics" if earlier == 0 else f"metrics-{earlier}"


@dataclass(frozen=True)
class Continuation:
    """How an earlier run goes on.

    Attributes:
        checkpoint: the newest one; None where the run was interrupted before the first.
        notes: what differs from the earlier run without being in the way.
    """

    checkpoint: Path | None
    notes: tuple[str, ...]


def continuation(config: TrainingConfig, output: Path) -> Continuation:
    """How the run in a directory goes on with a configuration.

    Raises:
        RunDirectoryError: there is no run, or its configuration differs in what changes the result (listed).
    """
    if not (output / CONFIG_FILE).exists():
        raise RunDirectoryError(f"{output} holds no training run to resume")
    earlier = load_config(output / CONFIG_FILE)
    before, after = _flat(earlier.model_dump(mode="json")), _flat(config.model_dump(mode="json"))
    changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    words = {key: f"{key} was {before.get(key)}, is {after.get(key)}" for key in changed}
    harmless = {*WITHOUT_EFFECT}
    if config.optimizer.steps > earlier.optimizer.steps:
        if config.optimizer.schedule == "cosine":
            words["optimizer.steps"] += " (the cosine schedule depends on it; the others allow more steps)"
        else:
            harmless.add("optimizer.steps")
    refused = [text for key, text in words.items() if key not in harmless]
    if refused:
        raise RunDirectoryError(f"cannot resume {output} with other settings: {'; '.join(refused)}")
    checkpoint = output / LAST if (output / LAST).exists() else None
    return Continuation(checkpoint, tuple(f"resumed: {text}" for text in words.values()))


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    items: dict[str, Any] = {}
    for key, value in values.items():
        items.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return items


def write_summary(
    setup: Setup,
    validation: Errors,
    test: Errors | None,
    seconds: float,
    found: list[str],
    origin: dict[str, Any] | None,
) -> None:
    """Write what went in (``origin``: the file it started from), what came out, and with which versions."""
    frames, output = setup.frames, setup.output
    summary = {
        "piwsl_version": __version__,
        "versions": versions(("torch", "lightning", "numpy")),
        "computed_on": setup.words(),
        "inputs": {"data": str(frames.source), "sha256": frames.sha256},
        "start": origin,
        "frames": {"train": len(frames.train), "validation": len(frames.validation), "test": len(frames.test)},
        "data_report": frames.report.lines(),
        "seed": setup.config.seed,
        "wall_seconds": round(seconds, 1),
        "validation": asdict(validation),
        "test": asdict(test) if test else None,
        "warnings": found,
        "outputs": {"model": MODEL_FILE, "model_sha256": sha256(output / MODEL_FILE)},
        "result": "completed",
    }
    write_text(output / SUMMARY_FILE, json.dumps(summary, indent=1))
