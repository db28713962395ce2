"""Verified reading of the files from which a training run continues.

PyTorch does not verify the checksums in these files and would continue with damaged weights.
"""

import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from piwsl.errors import ModelFileError, RunDirectoryError
from piwsl.export.archive import Archive, read_archive
from piwsl.training.directory import BEST, LAST

_KIND = "a file of a training run"
_ADVICE = {
    Path(LAST).name: "restore an intact copy, or write the model of the best validation with finish_training "
    "(piwsl train --finish)",
    Path(BEST).name: "restore an intact copy, or start a new run with another output; the model.pt beside checkpoints "
    "contains the same weights",
}
_NEW_RUN = "the run cannot be resumed: start a new run with another output"


def check_checkpoints(output: Path) -> None:
    """Raise an error if a checkpoint of a run is damaged, before a resumed run computes anything.

    Raises:
        RunDirectoryError: A checkpoint is damaged.
    """
    for name in (LAST, BEST):
        if (output / name).exists():
            _verified(output / name)


def read_tensors(path: Path) -> Any:
    """Return the content of a checkpoint, or of another file of tensors, on the CPU. Nothing in it is executed.

    Raises:
        RunDirectoryError: The file is damaged.
    """
    content = _verified(path).content
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about unsupported pickles, which raise an error
            return torch.load(BytesIO(content), map_location="cpu", weights_only=True)
    except Exception:  # Unsupported pickles raise many kinds of errors before anything is executed.
        raise RunDirectoryError(f"{path}: damaged or not {_KIND}: {_advice(path)}") from None


# What Lightning continues from; the least-squares optimizer writes weights alone.
_WEIGHTS: dict[str, type] = {"state_dict": dict}
_PARTS: dict[str, type] = {**_WEIGHTS, "global_step": int, "epoch": int, "optimizer_states": list, "loops": dict}


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint from which a training run can continue, see `read_tensors`.

    Raises:
        RunDirectoryError: The file is damaged, or is no such checkpoint.
    """
    return _with_parts(path, _PARTS)


def _with_parts(path: Path, expected: dict[str, type]) -> dict[str, Any]:
    content = read_tensors(path)
    parts = content if isinstance(content, dict) else {}
    wrong = [name for name, kind in expected.items() if not isinstance(parts.get(name), kind)]
    if wrong or not all(isinstance(weights, torch.Tensor) for weights in parts["state_dict"].values()):
        raise RunDirectoryError(f"{path}: damaged or not {_KIND} (no {(wrong or ['weights'])[0]}): {_advice(path)}")
    return parts


def best_weights(output: Path) -> dict[str, torch.Tensor]:
    """Read the averaged weights of the best validation.

    Raises:
        RunDirectoryError: The checkpoint is damaged.
    """
    stored = _with_parts(output / BEST, _WEIGHTS)["state_dict"]
    return {name.removeprefix("potential."): value for name, value in stored.items()}


def step_of(path: Path) -> int | None:
    """Return the training step of a checkpoint; None if there is no readable one, or it stores no step."""
    try:
        return int(read_checkpoint(path)["global_step"]) if path.exists() else None
    except RunDirectoryError:
        return None


def _verified(path: Path) -> Archive:
    try:
        return read_archive(path, _KIND, _advice(path))
    except ModelFileError as error:
        raise RunDirectoryError(str(error)) from None


def _advice(path: Path) -> str:
    return _ADVICE.get(path.name, _NEW_RUN)
