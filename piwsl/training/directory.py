"""The directory of a training run: who may use it, what it holds, its summary."""

import json
from dataclasses import asdict
from pathlib import Path
from shutil import rmtree
from typing import Any

from piwsl._version import __version__
from piwsl.data.files import sha256, write_text
from piwsl.errors import RunDirectoryError
from piwsl.provenance import versions
from piwsl.training.config import load_config
from piwsl.training.metrics import Errors
from piwsl.training.sections import TrainingConfig
from piwsl.training.sources import TrainingFrames

CONFIG_FILE = "config.yaml"
SUMMARY_FILE = "summary.json"
MODEL_FILE = "model.pt"
SPLIT_FILE = "split.json"
LOG_FILE = "train.log"
CHECKPOINTS = "checkpoints"
LAST = f"{CHECKPOINTS}/last.ckpt"
BEST = f"{CHECKPOINTS}/best.ckpt"


def check_free(output: Path, force: bool) -> None:
    """Refuse a directory that holds something, unless ``force``; nothing is touched yet.

    Raises:
        RunDirectoryError: says what can be done.
    """
    if output.exists() and not output.is_dir():
        raise RunDirectoryError(f"{output} is a file: choose another --output")
    if not output.exists() or not any(output.iterdir()):
        return
    if not (output / SPLIT_FILE).exists():
        raise RunDirectoryError(f"{output} is not empty and holds no training run: choose another --output")
    if not force:
        raise RunDirectoryError(f"{output} holds a run: --resume goes on, --force starts anew, or choose --output")


def prepare(output: Path) -> None:
    """Make the directory and take an earlier run out of it.

    Raises:
        RunDirectoryError: it cannot be written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
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


def checkpoint_to_continue(config: TrainingConfig, output: Path) -> Path | None:
    """The newest checkpoint of the same run; None where it was interrupted before the first.

    Raises:
        RunDirectoryError: there is no run, or its configuration differs (the differences are listed).
    """
    if not (output / CONFIG_FILE).exists():
        raise RunDirectoryError(f"{output} holds no training run to resume")
    changed = _differences(load_config(output / CONFIG_FILE), config)
    if changed:
        raise RunDirectoryError(f"cannot resume {output} with other settings: {'; '.join(changed)}")
    return output / LAST if (output / LAST).exists() else None


def _differences(old: TrainingConfig, new: TrainingConfig) -> list[str]:
    def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        items: dict[str, Any] = {}
        for key, value in values.items():
            items.update(flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
        return items

    before, after = flat(old.model_dump(mode="json")), flat(new.model_dump(mode="json"))
    return [f"{key} was {before[key]}, is {after[key]}" for key in before if before[key] != after[key]]


def write_summary(
    config: TrainingConfig,
    frames: TrainingFrames,
    output: Path,
    validation: Errors,
    test: Errors | None,
    seconds: float,
    found: list[str],
) -> None:
    """Write what went in, what came out, and with which versions."""
    summary = {
        "piwsl_version": __version__,
        "versions": versions(("torch", "lightning", "numpy")),
        "inputs": {"data": str(frames.source), "sha256": frames.sha256},
        "frames": {"train": len(frames.train), "validation": len(frames.validation), "test": len(frames.test)},
        "data_report": frames.report.lines(),
        "seed": config.seed,
        "wall_seconds": round(seconds, 1),
        "validation": asdict(validation),
        "test": asdict(test) if test else None,
        "warnings": found,
        "outputs": {"model": MODEL_FILE, "model_sha256": sha256(output / MODEL_FILE)},
        "result": "completed",
    }
    write_text(output / SUMMARY_FILE, json.dumps(summary, indent=1))
