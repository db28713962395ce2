"""Exported file: a potential as TorchScript (``.pt``) or compiled code (``.pt2``), with a JSON description.

The target of a file is ``general`` (any structure of its elements) or ``openmm`` (fixed species). docs/export.md
describes inputs and outputs. Reading the description does not execute any code of the file.
"""

import pickle
import zipfile
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from piwsl._version import __version__
from piwsl.compat.torch import load_package
from piwsl.data.charges import LARGEST, NO_CHARGE, ChargeSpin
from piwsl.data.domain import Finite, Number, TrainingDomain
from piwsl.errors import ModelFileError, reason_of
from piwsl.export.archive import Archive, check_members, member_digests, parsed, read_archive
from piwsl.export.trained_file import first_mistake
from piwsl.models.priors.walls import WallRanges
from piwsl.runs.files import write_bytes
from piwsl.runs.json_text import json_text
from piwsl.runs.scratch import scratch_directory
from piwsl.runs.summary import now

EXPORT_FORMAT = "piwsl-exported"
EXPORT_VERSION = 3
INFO_ENTRY = "piwsl.json"
Charge = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]
Unpaired = Annotated[float, Field(ge=0, le=LARGEST, allow_inf_nan=False)]
_INFO_MEMBER = f"extra/{INFO_ENTRY}"


@dataclass(frozen=True)
class ExportedPotential:
    """Loaded exported file.

    Attributes:
        path: Path of the file.
        info: Description of the file.
        program: TorchScript module, or loaded compiled package.
        device: Device on which the program runs, ``cpu`` or ``cuda``.
        content: Bytes of the file.
    """

    path: Path
    info: dict[str, Any]
    program: Any
    device: str = "cpu"
    content: bytes = field(default=b"", repr=False)

    @property
    def format(self) -> str:
        """Format of the program, ``torchscript`` or ``aotinductor``."""
        return str(self.info["format_of_program"])

    @property
    def target(self) -> str:
        """Target of the export, ``general`` or ``openmm``."""
        return str(self.info["target"])

    @property
    def is_molecule(self) -> bool:
        """Whether the program contains all pairs of one molecule. Otherwise, edges are an input."""
        return bool(self.info["pairs"] == "molecule")

    @property
    def copies(self) -> int:
        """Number of non-interacting copies of the molecule in one call."""
        return int(self.info.get("copies", 1))

    @property
    def species(self) -> list[int]:
        """Fixed atomic numbers of all copies in order; empty for the target ``general``."""
        return self.molecule * self.copies

    @property
    def molecule(self) -> list[int]:
        """Fixed atomic numbers of one copy; empty for the target ``general``."""
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
    def walls(self) -> WallRanges | None:
        """Walls of the model, or None."""
        walls = self.info.get("network", {}).get("walls")
        return WallRanges.model_validate(walls) if isinstance(walls, dict) else None

    @property
    def domain(self) -> TrainingDomain | None:
        """Training domain of the model, or None if the trained file does not contain it."""
        domain = self.info.get("domain")
        return None if domain is None else TrainingDomain.model_validate(domain)

    @property
    def takes_charge(self) -> bool:
        """Whether the charge and spin of a structure are inputs of the program."""
        return bool(self.info.get("takes_charge", False))

    @property
    def fixed_charge(self) -> ChargeSpin:
        """Charge and spin that were fixed at export; not stated if they are inputs, or the network ignores them."""
        fixed = self.info.get("fixed_charge")
        return NO_CHARGE if fixed is None else ChargeSpin(float(fixed[0]), float(fixed[1]))

    @property
    def has_stress(self) -> bool:
        """Whether the potential has a stress, because its forces are derivatives of the energy."""
        return bool(self.info["stress"])


class CheckStructure(BaseModel):
    """Structure with results of the eager model, for the verification of a loaded file."""

    species: list[Number] = Field(min_length=1)
    positions: list[tuple[Finite, Finite, Finite]]
    cell: tuple[tuple[Finite, Finite, Finite], tuple[Finite, Finite, Finite], tuple[Finite, Finite, Finite]]
    pbc: tuple[bool, bool, bool]
    energy: Finite
    forces: list[tuple[Finite, Finite, Finite]]
    rounding: Finite
    charge: Charge | None = None
    unpaired_electrons: Unpaired | None = None

    @model_validator(mode="after")
    def _lengths(self) -> "CheckStructure":
        if not len(self.species) == len(self.positions) == len(self.forces):
            raise ValueError("species, positions and forces have different lengths")
        return self


class ExportedRecord(BaseModel):
    """Description in an exported file. Unknown keys of later versions are ignored."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    format_of_program: Literal["torchscript", "aotinductor"]
    target: Literal["general", "openmm"]
    pairs: Literal["molecule", "edges"]
    species: list[Number] = Field(default=[], max_length=10_000_000)
    copies: Annotated[int, Field(ge=1, le=10_000_000)] = 1
    members: Annotated[int, Field(ge=1)]
    stress: bool
    elements: list[Number] = Field(min_length=1)
    network: dict[str, Any] = {}
    cutoff: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    dtype: Literal["float32", "float64"]
    reference_energies: dict[Number, Finite] = {}
    training: list[dict[str, Any]] = []
    trained_sha256: list[str] = []
    check: list[CheckStructure] = Field(min_length=1)
    takes_charge: bool = False
    fixed_charge: tuple[Charge, Unpaired] | None = None
    compiled_for: dict[str, str] | None = None
    domain: TrainingDomain | None = None
    sha256: dict[str, str]
    written: str
    piwsl_version: str
    torch_version: str = ""

    @field_validator("network")
    @classmethod
    def _walls(cls, network: dict[str, Any]) -> dict[str, Any]:
        if isinstance(network.get("walls"), dict):
            WallRanges.model_validate(network["walls"])
        return network

    @model_validator(mode="after")
    def _together(self) -> "ExportedRecord":
        if (self.target == "openmm") != bool(self.species):
            raise ValueError("the target and the species are inconsistent")
        if self.takes_charge and (self.species or self.fixed_charge is not None):
            raise ValueError("the charge is both an input and fixed")
        if self.format_of_program == "aotinductor" and not {"device", "processor", "PyTorch"} <= set(
            self.compiled_for or {}
        ):
            raise ValueError("the machine of the compiled program is missing")
        return self


def described(info: dict[str, Any]) -> dict[str, Any]:
    """Return a description with the format, the version of piwsl, and the time of the export."""
    about = {"format": EXPORT_FORMAT, "format_version": EXPORT_VERSION, "piwsl_version": __version__, "written": now()}
    return {**about, **info}


def save_exported(module: torch.jit.ScriptModule, info: dict[str, Any], path: Path) -> None:
    """Write a scripted module with its description atomically."""
    # Save to memory first, because PyTorch aborts the process when a disk error occurs.
    buffer = BytesIO()
    torch.jit.save(module, buffer)
    write_bytes(path, with_description(buffer.getvalue(), described(info)))


def with_description(content: bytes, info: dict[str, Any]) -> bytes:
    """Return an archive with an added description, which contains the hashes of all other members."""
    written = BytesIO(content)
    with zipfile.ZipFile(written, "a") as archive:
        top = archive.namelist()[0].split("/")[0]
        text = json_text({**info, "sha256": member_digests(content)}, indent=1)
        archive.writestr(f"{top}/{_INFO_MEMBER}", text)
    return written.getvalue()


def read_exported_info(path: Path) -> dict[str, Any]:
    """Read the description of an exported file without executing anything in the file.

    Raises:
        ModelFileError: The file is missing, damaged or changed, was not written by piwsl, or has another format
            version.
    """
    return _described_archive(path)[1]


def _described_archive(path: Path) -> tuple[Archive, dict[str, Any]]:
    """Return the verified archive and its description. The errors are those of `read_exported_info`."""
    damaged = "create it again with `piwsl export`"
    archive = read_archive(path, "an exported file", damaged)
    try:
        text = archive.read(_INFO_MEMBER)
        info = None if text is None else parsed(text)
    except ValueError as error:
        raise ModelFileError(f"{path}: damaged ({reason_of(error)}): {damaged}") from None
    if not isinstance(info, dict) or info.get("format") != EXPORT_FORMAT:
        what = "TorchScript file of another program" if archive.has_code else "not an exported piwsl potential"
        raise ModelFileError(f"{path}: {what}: create one with `piwsl export model.pt`")
    version = info.get("format_version")
    if version != EXPORT_VERSION:
        newer = isinstance(version, int) and version > EXPORT_VERSION
        raise ModelFileError(
            f"{path}: the file has format version {version}, but this piwsl reads version {EXPORT_VERSION}: "
            + ("update piwsl" if newer else "export the trained model again with this version")
        )
    try:
        record = ExportedRecord.model_validate(info)
    except ValidationError as error:
        raise ModelFileError(f"{path}: damaged description ({first_mistake(error)}): {damaged}") from None
    check_members(path, archive.digests, record.sha256, _INFO_MEMBER)
    return archive, info


def load_exported(path: Path, device: str = "cpu") -> ExportedPotential:
    """Load an exported potential after verification of all hashes. Loading executes code of the file.

    Raises:
        ModelFileError: The file is invalid (see `read_exported_info`), a package was compiled for another device, CPU
            type or PyTorch version, or the device does not exist.
    """
    archive, info = _described_archive(path)
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelFileError(f"{path}: device={device!r}, but PyTorch finds no GPU: use device='cpu'")
    load = _load_package if info["format_of_program"] == "aotinductor" else _load_script
    return ExportedPotential(path, info, load(archive, info, device), device, archive.content)


def _load_script(archive: Archive, info: dict[str, Any], device: str) -> Any:
    try:
        return torch.jit.load(BytesIO(archive.content), map_location=device)
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise ModelFileError(f"{archive.path}: damaged ({reason_of(error)}): export it again") from None


def _load_package(archive: Archive, info: dict[str, Any], device: str) -> Any:
    path, made, here = archive.path, info["compiled_for"], compiled_for(device)
    for what in here:
        if made[what] != here[what]:
            raise ModelFileError(
                f"{path}: compiled for {what} {made[what]}, but this machine has {here[what]}: "
                f"compile the model on this machine with format='aotinductor' and device={device.partition(':')[0]!r}"
            )
    with scratch_directory("load") as folder:  # a folder that only this user can write to
        package = folder / "model.pt2"
        package.write_bytes(archive.content)
        try:
            return load_package(package)
        except RuntimeError as error:
            raise ModelFileError(f"{path}: damaged ({reason_of(error)}): export it again") from None


def compiled_for(device: str) -> dict[str, str]:
    """Return the requirements of a compiled package: device, CPU or GPU type, and PyTorch version."""
    if device.startswith("cuda"):
        major, minor = torch.cuda.get_device_capability()
        kind = f"{major}.{minor}"
    else:
        kind = torch.backends.cpu.get_cpu_capability()
    return {"device": device.partition(":")[0], "processor": kind, "PyTorch": torch.__version__.partition("+")[0]}
