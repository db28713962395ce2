"""Cache of compiled files: a run of the same model and atoms does not compile again.

The files are in a folder that only this user can write to. Before one is used, its hash must be one of those that were
recorded when this user made files, and its results are compared with the eager results that it contains.
"""

import hashlib
import logging
import os
import platform
import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ase.symbols import Symbols

from piwsl._version import __version__
from piwsl.data.frames import Frame
from piwsl.errors import PiwslError, RunDirectoryError
from piwsl.export.exported_file import compiled_for, read_exported_info
from piwsl.export.exporter import Exporter
from piwsl.export.loading import load_verified
from piwsl.runs.files import atomic_path, sha256
from piwsl.runs.json_text import json_text
from piwsl.runs.known_code import is_known, private_folder, remember

LOGGER = logging.getLogger(__name__)
LARGEST = 1_000_000_000  # bytes; the files that were not used for longest are removed
_FOLDER, _SUFFIX = "compiled", ".pt2"


@dataclass(frozen=True)
class Entry:
    """File in the cache.

    Attributes:
        path: File.
        size: Size, bytes.
        used: Time of the last use.
    """

    path: Path
    size: int
    used: datetime

    @property
    def content(self) -> str:
        """Formula, number of copies per call, and network, read from the file."""
        try:
            info = read_exported_info(self.path)
            copies = f", {info['copies']} copies" if info.get("copies", 1) > 1 else ""
            formula = Symbols(info["species"]).get_chemical_formula()
            return f"{formula}{copies}, {info['network']['network']}"
        except (PiwslError, OSError, KeyError, TypeError, ValueError):
            return "damaged"


def compile_or_copy(exporter: Exporter, structure: Frame, output: Path, copies: int = 1) -> None:
    """Write a compiled file for the atoms of a structure: a copy of an earlier one, or a new one.

    Args:
        exporter: Exporter of the model.
        structure: Structure.
        output: File to write.
        copies: Number of non-interacting copies of the structure per call.

    Raises:
        ExportError: The model cannot be compiled.
    """
    key = _key(exporter.in_order_of(structure), structure, copies)
    if _copied(key, output):
        LOGGER.info("using a file that was compiled earlier for this model and these atoms (piwsl cache)")
        return
    together = f" for {copies} copies per call" if copies > 1 else ""
    LOGGER.info(f"compiling the model{together}, which takes about half a minute")
    exporter.openmm(structure, output, "aotinductor", copies=copies)
    remember(sha256(output))
    _store(key, output)


def entries() -> list[Entry]:
    """Return the files in the cache, the last used first."""
    folder = private_folder(_FOLDER)
    found = []
    for path in folder.glob(f"*{_SUFFIX}") if folder else ():
        with suppress(OSError):
            state = path.stat()
            found.append(Entry(path, state.st_size, datetime.fromtimestamp(state.st_mtime)))
    return sorted(found, key=lambda entry: entry.used, reverse=True)


def clear() -> tuple[int, int]:
    """Remove all files of the cache, and return their number and the sum of their sizes in bytes."""
    removed = [entry for entry in entries() if _removed(entry.path)]
    return len(removed), sum(entry.size for entry in removed)


def _key(exporter: Exporter, structure: Frame, copies: int) -> str:
    """Return a hash of everything that determines the compiled code."""
    parts: dict[str, Any] = {
        "piwsl": __version__,
        "for": compiled_for(exporter.device),
        "processor": _processor(),
        "models": [sha256(path) for path in exporter.paths],
        "configurations": [model.config.model_dump(mode="json") for model in exporter.models],
        "levels": [model.level for model in exporter.models],
        "dtype": exporter.dtype,
        "species": structure.species.tolist(),
        "charge": str(structure.charge_spin),
        "copies": copies,
    }
    return hashlib.sha256(json_text(parts).encode()).hexdigest()


def _processor() -> str:
    """Return a description of the processor: compiled code uses all instructions of the one that it was made on."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
    return f"{platform.machine()} {platform.processor()}"


def _copied(key: str, output: Path) -> bool:
    """Copy a file of the cache, and return whether it exists and its results are those of the model."""
    folder = private_folder(_FOLDER)
    path = folder / f"{key}{_SUFFIX}" if folder else None
    if path is None or not path.is_file():
        return False
    try:
        with atomic_path(output) as temporary:
            shutil.copyfile(path, temporary)
        if not is_known(sha256(output)):
            raise RunDirectoryError("this user did not make it")
        load_verified(output)
        with suppress(FileNotFoundError):  # `piwsl cache clear`; touch would create an empty file
            os.utime(path)
    except (PiwslError, OSError) as error:
        LOGGER.info(f"{path}: not used ({error}): the model is compiled again")
        _removed(path)
        output.unlink(missing_ok=True)
        return False
    return True


def _store(key: str, made: Path) -> None:
    """Copy a new file into the cache, unless the folder is missing or its disk is full, and limit the size."""
    folder = private_folder(_FOLDER)
    if folder is None or made.stat().st_size > LARGEST:
        return
    with suppress(PiwslError, OSError):
        with atomic_path(folder / f"{key}{_SUFFIX}") as temporary:
            shutil.copyfile(made, temporary)
        total = 0
        for entry in entries():
            total += entry.size
            if total > LARGEST:
                _removed(entry.path)


def _removed(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:
        return False
    return True
