"""The exported file: a potential as TorchScript (``.pt``) or compiled (``.pt2``), with a JSON description inside.

Its target is ``general`` (any structure of its elements) or ``openmm`` (species fixed); docs/export.md describes its
inputs and outputs. Reading a description executes nothing of the file.
"""

import json
import pickle
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from piwsl.compat.torch import load_package
from piwsl.errors import ModelFileError, reason_of
from piwsl.runs.files import atomic_path
from piwsl.runs.json_text import json_text

EXPORT_FORMAT = "piwsl-exported"
EXPORT_VERSION = 2
INFO_ENTRY = "piwsl.json"


@dataclass(frozen=True)
class ExportedPotential:
    """A loaded exported file.

    Attributes:
        path: the file.
        info: its description.
        program: the TorchScript module, or the loaded compiled package.
        device: ``cpu`` or ``cuda``, on which the program runs.
        content: bytes of the file.
    """

    path: Path
    info: dict[str, Any]
    program: Any
    device: str = "cpu"
    content: bytes = field(default=b"", repr=False)

    @property
    def format(self) -> str:
        """``torchscript`` or ``aotinductor``."""
        return str(self.info["format_of_program"])

    @property
    def target(self) -> str:
        """``general`` or ``openmm``."""
        return str(self.info["target"])

    @property
    def is_molecule(self) -> bool:
        """Whether the program contains all pairs of one molecule; otherwise it takes edges."""
        return bool(self.info["pairs"] == "molecule")

    @property
    def copies(self) -> int:
        """Number of copies of the molecule in one call; the copies do not interact."""
        return int(self.info.get("copies", 1))

    @property
    def species(self) -> list[int]:
        """Fixed atomic numbers in order, copy after copy; empty for the ``general`` target."""
        return self.molecule * self.copies

    @property
    def molecule(self) -> list[int]:
        """Fixed atomic numbers of one copy; empty for the ``general`` target."""
        return [int(number) for number in self.info.get("species", [])]

    @property
    def members(self) -> int:
        """Number of models in an ensemble; 1 for a single model."""
        return int(self.info["members"])

    @property
    def cutoff(self) -> float:
        """Cutoff radius, angstrom."""
        return float(self.info["cutoff"])

    @property
    def dtype(self) -> torch.dtype:
        """Float type of the network."""
        return torch.float64 if self.info["dtype"] == "float64" else torch.float32

    @property
    def has_stress(self) -> bool:
        """Whether its forces are derivatives of the energy."""
        return bool(self.info["stress"])


def described(info: dict[str, Any]) -> dict[str, Any]:
    """Add the name and the version of the format to a description."""
    return {"format": EXPORT_FORMAT, "format_version": EXPORT_VERSION, **info}


def save_exported(module: torch.jit.ScriptModule, info: dict[str, Any], path: Path) -> None:
    """Write a scripted module with its description, atomically."""
    with atomic_path(path) as temporary:
        torch.jit.save(module, str(temporary), _extra_files={INFO_ENTRY: json_text(described(info), indent=1)})


def read_exported_info(path: Path) -> dict[str, Any]:
    """Read the description of an exported file without executing anything in it.

    Raises:
        ModelFileError: the file is missing, damaged, not from piwsl, or of another format version.
    """
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            name = next((n for n in archive.namelist() if n.endswith(f"/extra/{INFO_ENTRY}")), None)
            info = json.loads(archive.read(name)) if name else None
            scripted = any("/code/" in name for name in archive.namelist())
    except (zipfile.BadZipFile, json.JSONDecodeError, EOFError):
        raise ModelFileError(f"{path}: damaged or not an exported file: create it again with `piwsl export`") from None
    if not isinstance(info, dict) or info.get("format") != EXPORT_FORMAT:
        what = "a TorchScript file of another program" if scripted else "not an exported piwsl potential"
        raise ModelFileError(f"{path}: {what}: create one with `piwsl export model.pt`")
    version = info.get("format_version")
    if version != EXPORT_VERSION:
        newer = isinstance(version, int) and version > EXPORT_VERSION
        raise ModelFileError(
            f"{path}: format version {version}, this piwsl reads {EXPORT_VERSION}: "
            + ("update piwsl" if newer else "export the trained model again with this version")
        )
    return info


def load_exported(path: Path, device: str = "cpu") -> ExportedPotential:
    """Load an exported potential.

    Raises:
        ModelFileError: see `read_exported_info`; or the archive cannot be read, a compiled package was made for another
            device, CPU type or PyTorch version, or the device does not exist.
    """
    info = read_exported_info(path)
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelFileError(f"{path}: device {device}, but PyTorch finds no GPU here: use device cpu")
    load = _load_package if info["format_of_program"] == "aotinductor" else _load_script
    return ExportedPotential(path, info, load(path, info, device), device, path.read_bytes())


def _load_script(path: Path, info: dict[str, Any], device: str) -> Any:
    try:
        return torch.jit.load(str(path), map_location=device)
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise ModelFileError(f"{path}: damaged ({reason_of(error)}): export it again") from None


def _load_package(path: Path, info: dict[str, Any], device: str) -> Any:
    made, here = info["compiled_for"], compiled_for(device)
    for what in here:
        if made[what] != here[what]:
            raise ModelFileError(
                f"{path}: compiled for {what} {made[what]}, here it is {here[what]}: "
                "compile it here with format='aotinductor'"
            )
    try:
        return load_package(path)
    except RuntimeError as error:
        raise ModelFileError(f"{path}: damaged ({reason_of(error)}): export it again") from None


def compiled_for(device: str) -> dict[str, str]:
    """Return what a compiled package depends on: device, CPU or GPU type, version of PyTorch."""
    if device.startswith("cuda"):
        major, minor = torch.cuda.get_device_capability()
        kind = f"{major}.{minor}"
    else:
        kind = torch.backends.cpu.get_cpu_capability()
    return {"device": device.partition(":")[0], "processor": kind, "PyTorch": torch.__version__.partition("+")[0]}
