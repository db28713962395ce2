"""Loading a potential from a model file: an exported file as it is, a trained file after an export in memory."""

import logging
import zipfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from piwsl.data.frames import Frame
from piwsl.data.systems import RESOURCES
from piwsl.errors import ConfigError, ModelFileError
from piwsl.export.exported_file import INFO_ENTRY, ExportedPotential, load_exported, read_exported_info
from piwsl.export.verify import verify_here
from piwsl.runs.files import sha256
from piwsl.runs.known_code import is_known, is_of_this_process, remember
from piwsl.runs.scratch import scratch_directory
from piwsl.typing import IntArray

LOGGER = logging.getLogger(__name__)
EXPORTED_NAMES = ("exported.pt", "exported.pt2")
PRECISIONS = {"single": "float32", "double": "float64"}


def model_sha256(model: Path) -> str:
    """Return the SHA-256 of a model file.

    Raises:
        ModelFileError: There is no such file.
    """
    if not model.is_file():
        raise ModelFileError(f"{model}: no such file")
    return sha256(model)


def open_model(
    model: Path, species: IntArray | None, periodic: bool = False, precision: str | None = None, device: str = "cpu"
) -> ExportedPotential:
    """Load the potential of a model file, compared once per process with the eager model.

    Args:
        model: Exported file, or a trained file, which is exported in memory.
        species: Atomic numbers (n,) of the atoms on which the potential will act; None: any.
        periodic: Whether these atoms are in a periodic box.
        precision: ``single`` or ``double``; None: that of the file.
        device: ``cpu`` or ``cuda``.

    Raises:
        ModelFileError: The file cannot be used, or gives other results on this machine than at export.
        ElementError: The model was not trained on an element.
        ConfigError: The precision is unknown, or an exported file has another one.
    """
    if precision is not None and precision not in PRECISIONS:
        raise ConfigError(f"precision {precision!r}: choose single or double")
    if is_trained(model):
        return _export_in_memory(model, species, periodic, precision, device)
    announce_code(model, read_exported_info(model))
    potential = load_verified(model, device)
    stored = potential.info["dtype"]
    if precision is not None and stored != PRECISIONS[precision]:
        raise ConfigError(
            f"{model} is {stored}, precision {precision!r} is {PRECISIONS[precision]}: "
            f"export it again with dtype={PRECISIONS[precision]!r}"
        )
    return potential


def announce_code(model: Path, info: dict[str, Any]) -> None:
    """Log, once per process, that a file which the user named runs as code, and who wrote it.

    A file that this user has neither made nor named before is announced by a warning. It is known from then on.

    Args:
        model: Exported file.
        info: Its description.
    """
    state = model.stat()
    _announce_once(model, state.st_mtime_ns, state.st_size, str(info["piwsl_version"]), str(info["written"]))


@cache
def _announce_once(model: Path, modified: int, size: int, version: str, written: str) -> None:
    digest = sha256(model)
    if is_of_this_process(digest):
        return
    text = f"runs code from {model}, written by piwsl {version} on {written.partition('T')[0]}"
    if is_own_code(model, digest):
        LOGGER.info(text)
    else:
        LOGGER.warning(f"{text}, not by you here: use such files only from people you trust, or take their model.pt")
    remember(digest)


def is_own_code(model: Path, digest: str) -> bool:
    """Return whether a file of code was made or named by this user before, or is a part of piwsl."""
    return is_known(digest) or model.resolve().is_relative_to(RESOURCES)


def load_verified(model: Path, device: str = "cpu") -> ExportedPotential:
    """Load an exported file; the first time in a process, compare it with the eager results that it carries.

    Raises:
        ModelFileError: The file cannot be used, or gives other results on this machine than at export.
    """
    potential = load_exported(model, device)
    state = model.stat()
    _verify_once(model, state.st_mtime_ns, state.st_size, device)
    return potential


@cache
def _verify_once(model: Path, modified: int, size: int, device: str) -> None:
    # Another copy of the program: TorchScript specializes on the structures of the comparison.
    result = verify_here(load_exported(model, device))
    LOGGER.info(f"{model.name} on {device}, compared with the eager results it carries: {'; '.join(result.lines())}")


def is_trained(model: Path) -> bool:
    """Return whether a file is a trained file: a zip archive as `torch.save` writes it, without code.

    Raises:
        ModelFileError: There is no such file.
    """
    try:
        with zipfile.ZipFile(model) as archive:
            names = archive.namelist()
    except FileNotFoundError:
        raise ModelFileError(f"{model}: no such file") from None
    except Exception:  # zipfile raises a dozen kinds on damaged bytes; the readers say what is wrong
        return False
    return not any("/code/" in name or name.endswith((f"/extra/{INFO_ENTRY}", ".so")) for name in names)


def _export_in_memory(
    model: Path, species: IntArray | None, periodic: bool, precision: str | None, device: str
) -> ExportedPotential:
    """Export a trained file to a temporary file and load it; arguments as in `open_model`."""
    from piwsl.export.exporter import Exporter
    from piwsl.export.trained_file import check_elements

    exporter = Exporter([model], PRECISIONS[precision] if precision else None, device)
    same: list[Frame] = []
    if species is not None:
        check_elements(exporter.models[0], species.tolist())
        frames = exporter.models[0].check_frames
        same = [frame for frame in frames if frame.species.tolist() == species.tolist() and not any(frame.pbc)]
    with scratch_directory("load") as folder:
        target = folder / EXPORTED_NAMES[0]
        if same and not periodic:
            exporter.openmm(same[0], target)
        else:
            exporter.general(target)
        return replace(load_exported(target, device), path=model)
