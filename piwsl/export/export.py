"""Export of trained models to a single file: the function behind `piwsl export`."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Literal

from piwsl.data.charges import charge_of, given_charge, with_charge
from piwsl.data.domain import check_domain
from piwsl.data.frames import Frame
from piwsl.data.systems import Structure, find_structure
from piwsl.errors import ConfigError, ExportError, ModelFileError, public
from piwsl.export.evaluation import refuse_ignored_charge
from piwsl.export.exporter import Exporter, Format
from piwsl.export.trained_file import member_models, trained_file
from piwsl.export.verify import Verification
from piwsl.runs import notebook
from piwsl.runs.files import check_unused, sha256
from piwsl.runs.known_code import remember
from piwsl.runs.process_settings import process_settings

Target = Literal["general", "openmm"]
SUFFIXES: dict[Format, str] = {"torchscript": ".pt", "aotinductor": ".pt2"}


@dataclass(frozen=True)
class ExportedModel(PathLike[str]):
    """Exported file that was verified against its model. It can be used as a path.

    Attributes:
        path: Path of the file.
        target: ``general`` (any structure of its elements) or ``openmm`` (fixed species).
        format: ``torchscript`` or ``aotinductor``.
        device: Device on which a compiled file runs.
        dtype: Float type of the network.
        symbols: Chemical symbols of the elements that the model was trained on.
        members: Number of models in an ensemble; 1 for a single model.
        verification: Largest measured differences from the eager model.
        limitation: Law that the network breaks, in words; None for other networks.
    """

    path: Path
    target: Target
    format: Format
    device: str
    dtype: str
    symbols: tuple[str, ...]
    members: int
    verification: Verification
    limitation: str | None = None

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"ExportedModel({str(self.path)!r}, {self.target}, {self.format}, {self.dtype})"

    def _repr_html_(self) -> str:
        return notebook.block(
            notebook.facts(
                [
                    ("file", self.path),
                    ("target", self.target),
                    ("format", self.format),
                    ("precision", self.dtype),
                    ("elements", " ".join(self.symbols)),
                    ("models", self.members if self.members > 1 else None),
                    ("limitation", self.limitation),
                ]
            ),
            notebook.heading(f"verified on {self.verification.structures} structures"),
            notebook.lines(self.verification.lines()),
        )


@public
def export_model(
    model: str | PathLike[str] | Sequence[str | PathLike[str]],
    output: str | PathLike[str] | None = None,
    *,
    target: Target = "general",
    structure: Structure | None = None,
    system: str | None = None,
    format: Format = "torchscript",
    copies: int = 1,
    dtype: Literal["float32", "float64"] | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
    force: bool = False,
    strict: bool = False,
    accept_limitation: bool = False,
    charge: int | None = None,
    unpaired_electrons: int | None = None,
    head: str | None = None,
) -> ExportedModel:
    """Export a trained model to a single file, which is verified against the model before it is written.

    Args:
        model: Trained file or run directory, a sequence of these, or the directory of an ensemble. Several models are
            exported to one file that returns the mean energies and forces, and the standard deviation of the forces.
        output: File to write. By default, it is next to the model, with the target in its name.
        target: With ``general``, the file supports any structure of the elements of the model, in eV and angstrom. With
            ``openmm``, the species of one structure are fixed, for plain OpenMM scripts and fastest evaluation.
        structure: Structure with the fixed species, as ASE structure, frame, or file. Only for ``openmm``.
        system: Name of a bundled system, instead of ``structure``.
        format: ``torchscript`` files run on any machine. ``aotinductor`` files are compiled for this machine.
        copies: Number of non-interacting copies of the structure in one call. Only for ``openmm``.
        dtype: Float type of the network. The default is the float type of the trained file.
        device: Device on which a compiled file will run.
        force: Replace an existing output file.
        strict: Raise an error instead of a warning for a structure outside the training data.
        accept_limitation: Export for OpenMM although the network breaks a law, such as SpinConv, whose forces jump.
        charge: Total charge of the structure, e, fixed in the file. Only for ``openmm``. By default, it is the charge
            that the structure states, or the default of the model. In a file with the target ``general``, the charge is
            an input.
        unpaired_electrons: Number of unpaired electrons of the structure, likewise.
        head: Name of the level of theory, for a model that was trained on several levels. The file contains this head
            alone. The default is the main level.

    Raises:
        ConfigError: The arguments are inconsistent, the models of an ensemble differ, or a model has no such head.
        ModelFileError: A trained file is missing, damaged, or was not written by piwsl.
        ElementError: The structure contains an element that the model was not trained on.
        ExportError: The exported potential disagrees with the model or cannot be compiled. Nothing is written.
        RunDirectoryError: The output file exists.
        DataError: ``strict`` is set, and the structure lies outside the training data.
    """
    choices = {"target": (target, ("general", "openmm")), "format": (format, tuple(SUFFIXES))}
    for name, (value, known) in choices.items():
        if value not in known:
            raise ConfigError(f"{name}={value!r} is unknown: use one of {', '.join(known)}")
    if target == "general" and (system or structure is not None):
        raise ConfigError(
            "structure=FILE and system=NAME require target='openmm': a general file supports any species, so omit them"
        )
    if target == "general" and copies > 1:
        raise ConfigError(
            "copies=N requires target='openmm': a general file supports any number of structures, so omit it"
        )
    given = given_charge(charge, unpaired_electrons)
    if target == "general" and given.is_stated:
        raise ConfigError(
            "charge=N and unpaired_electrons=N require target='openmm': a general file takes the charge of each "
            "structure as input, so omit them"
        )
    if target == "openmm" and (system is None) == (structure is None):
        raise ConfigError(
            "target='openmm' requires the species of a structure: pass either system=NAME or structure=FILE"
        )
    paths, stem = _trained_files(model)
    path = Path(output) if output is not None else stem.with_name(f"{stem.name}-{target}{SUFFIXES[format]}")
    check_unused(path, "output", force)
    with process_settings(huge_pages=True):
        exporter = Exporter(paths, dtype, device, head)
        if target == "openmm" and exporter.limitation and not accept_limitation:
            raise ExportError(
                f"{exporter.limitation}: to export it for OpenMM nevertheless, set accept_limitation=True"
            )
        if target == "general":
            verification = exporter.general(path, format)
        else:
            atoms = find_structure(structure, system)
            if not exporter.takes_charge:
                refuse_ignored_charge(given, exporter.models[0].config.network)
            atoms = with_charge(atoms, given.over(charge_of(atoms)))
            check_domain(exporter.models[0].domain, atoms, paths[0], strict)
            frame = Frame.from_atoms(atoms)
            verification = exporter.openmm(frame, path, format, copies=copies)
    remember(sha256(path))
    first = exporter.models[0]
    symbols, members = tuple(first.symbols), len(paths)
    return ExportedModel(
        path, target, format, device, exporter.dtype, symbols, members, verification, exporter.limitation
    )


def _trained_files(model: str | PathLike[str] | Sequence[str | PathLike[str]]) -> tuple[list[Path], Path]:
    """Return the trained files, and the path that determines the name of the default output."""
    paths = [Path(model)] if isinstance(model, str | PathLike) else [Path(one) for one in model]
    if not paths:
        raise ConfigError("no model given: pass at least one trained file")
    paths = [trained_file(path) for path in paths]
    if len(paths) == 1 and paths[0].is_dir():
        return member_models(paths[0]), paths[0] / "ensemble"
    directory = next((path for path in paths if path.is_dir()), None)
    if directory is not None:
        raise ModelFileError(
            f"{directory} contains no model.pt: pass trained files, or a single directory of an ensemble"
        )
    return paths, paths[0].with_name(paths[0].stem)
