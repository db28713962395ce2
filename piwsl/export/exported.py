"""The exported file: TorchScript with a JSON description inside.

Two forms exist. ``general``: ``forward(species, positions, cell)`` in eV and angstrom for any molecule or cell
of known elements. ``openmm``: ``forward(positions)`` in nm and kJ/mol with the species baked in; it runs in a
plain OpenMM script through TorchForce without piwsl.
"""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from piwsl.data.files import atomic_path
from piwsl.errors import ModelFileError

EXPORT_FORMAT = "piwsl-exported"
EXPORT_VERSION = 1
INFO_ENTRY = "piwsl.json"


@dataclass(frozen=True)
class ExportedPotential:
    """A loaded TorchScript potential and its description."""

    path: Path
    module: torch.jit.ScriptModule
    info: dict[str, Any]

    @property
    def form(self) -> str:
        """``general`` or ``openmm``."""
        return str(self.info["form"])

    @property
    def species(self) -> list[int]:
        """Atomic numbers baked into the ``openmm`` form, in order; empty for the ``general`` form."""
        return [int(number) for number in self.info.get("species", [])]


def save_exported(module: torch.jit.ScriptModule, info: dict[str, Any], path: Path) -> None:
    """Write a scripted module with its description, atomically."""
    described = {"format": EXPORT_FORMAT, "format_version": EXPORT_VERSION, **info}
    with atomic_path(path) as temporary:
        torch.jit.save(module, str(temporary), _extra_files={INFO_ENTRY: json.dumps(described, indent=1)})


def read_exported_info(path: Path) -> dict[str, Any]:
    """Read the description of an exported file without running anything in it.

    Raises:
        ModelFileError: the file is missing, damaged, not ours, or of another format version.
    """
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            name = next((n for n in archive.namelist() if n.endswith(f"/extra/{INFO_ENTRY}")), None)
            info = json.loads(archive.read(name)) if name else None
    except (zipfile.BadZipFile, json.JSONDecodeError, EOFError):
        raise ModelFileError(
            f"{path}: damaged or not a file of piwsl export: make it again with `piwsl export`"
        ) from None
    if not isinstance(info, dict) or info.get("format") != EXPORT_FORMAT:
        raise ModelFileError(f"{path}: not an exported piwsl potential: make one with `piwsl export model.pt`")
    if info.get("format_version") != EXPORT_VERSION:
        raise ModelFileError(
            f"{path}: format version {info.get('format_version')}, this piwsl reads {EXPORT_VERSION}: "
            "export the trained model again with this version"
        )
    return info


def load_exported(path: Path, device: str = "cpu") -> ExportedPotential:
    """Load an exported potential.

    Raises:
        ModelFileError: as `read_exported_info`, or the archive cannot be read.
    """
    info = read_exported_info(path)
    try:
        module = torch.jit.load(str(path), map_location=device)
    except RuntimeError as error:
        raise ModelFileError(f"{path}: damaged ({str(error).splitlines()[0]}): export it again") from None
    return ExportedPotential(path, module, info)
