"""Bundled systems."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TypeAlias

from ase import Atoms
from ase.io import read

from piwsl.data.frames import Frame
from piwsl.errors import ConfigError
from piwsl.structures.files import check_structure, load_structure

RESOURCES = Path(__file__).resolve().parent.parent / "resources"


@dataclass(frozen=True)
class NamedSystem:
    """Files of a bundled system; labels and trajectory by GFN2-xTB (resources/README.md).

    Attributes:
        name: Name of the system.
        structure_file: Minimized structure.
        train: Labeled frames for training.
        test: Labeled frames of other trajectories.
        reference_topology: PDB file of the reference trajectory.
        reference_trajectory: Reference dynamics.
        reference_timestep: fs between its frames.
        model: Trained file.
        exported: The same potential in the OpenMM form.
    """

    name: str
    structure_file: Path
    train: Path
    test: Path
    reference_topology: Path
    reference_trajectory: Path
    reference_timestep: float
    model: Path
    exported: Path

    @property
    def structure(self) -> Atoms:
        """The minimized structure."""
        atoms = read(self.structure_file)
        assert isinstance(atoms, Atoms)
        return atoms


def _bundled(name: str, reference_timestep: float) -> NamedSystem:
    return NamedSystem(
        name=name,
        structure_file=RESOURCES / f"{name}.xyz",
        train=RESOURCES / f"{name}_train.npz",
        test=RESOURCES / f"{name}_test.npz",
        reference_topology=RESOURCES / f"{name}_reference.pdb",
        reference_trajectory=RESOURCES / f"{name}_reference.xtc",
        reference_timestep=reference_timestep,
        model=RESOURCES / f"{name}_model.pt",
        exported=RESOURCES / f"{name}_openmm.pt",
    )


BUNDLED_LEVEL = "GFN2-xTB"  # of labels and trajectories
SYSTEMS = {"aspirin": _bundled("aspirin", reference_timestep=20.0)}


# Molecules of the revised MD17 (Christensen and von Lilienfeld, 2020), which come without structure and model.
MOLECULES = {
    "aspirin": "C9H8O4",
    "azobenzene": "C12H10N2",
    "benzene": "C6H6",
    "ethanol": "C2H6O",
    "malonaldehyde": "C3H4O2",
    "naphthalene": "C10H8",
    "paracetamol": "C8H9NO2",
    "salicylic": "C7H6O3",
    "toluene": "C7H8",
    "uracil": "C4H4N2O2",
}


def check_molecule(name: str, structure: Atoms) -> None:
    """Refuse a structure that is not the molecule of a name.

    Raises:
        ConfigError: No molecule has this name, or its formula differs from that of the structure.
    """
    if name not in MOLECULES:
        raise ConfigError(f"unknown system {name!r}: known are {', '.join(MOLECULES)}; else give a file")
    formula = structure.get_chemical_formula("hill")
    if formula != MOLECULES[name]:
        raise ConfigError(f"system={name!r} is {MOLECULES[name]}, the structure is {formula}")


def named_system(name: str) -> NamedSystem:
    """Look up a bundled system.

    Raises:
        ConfigError: No bundled system has this name.
    """
    try:
        return SYSTEMS[name]
    except KeyError:
        raise ConfigError(f"unknown system {name!r}: bundled are {', '.join(SYSTEMS)}; else give a file") from None


Structure: TypeAlias = Atoms | Frame | str | PathLike[str]


def is_system(name: object) -> bool:
    """Return whether a value is the name of a bundled system and not that of a file here."""
    return isinstance(name, str) and name in SYSTEMS and not Path(name).exists()


def find_structure(structure: Structure | None = None, system: str | None = None) -> Atoms:
    """Return the structure that the arguments ``structure`` and ``system`` of a function name.

    Args:
        structure: ASE structure, frame, file in a format of ASE, or name of a bundled system.
        system: Bundled system, or a molecule of rMD17, which comes without a structure and is compared with the
            given one.

    Raises:
        ConfigError: No structure is named, the system is unknown, or its formula differs from that of the structure.
        DataError: The structure cannot be read or used.
    """
    if structure is None:
        if system is None:
            raise ConfigError("no structure: give system=NAME or structure=FILE")
        if system not in SYSTEMS:
            if system in MOLECULES:
                raise ConfigError(f"system={system!r} comes without a structure: give structure=FILE")
            named_system(system)
        return named_system(system).structure
    if isinstance(structure, Atoms | Frame):
        atoms = structure.copy() if isinstance(structure, Atoms) else structure.atoms()
        check_structure(atoms)
    elif isinstance(structure, str) and is_system(structure):
        atoms = named_system(structure).structure
    else:
        atoms = load_structure(Path(structure))
    if system is not None:
        check_molecule(system, atoms)
    atoms.calc = None
    return atoms


def structure_name(structure: Structure | None, system: str | None) -> str | None:
    """Return a name for results of a structure: that of the system, or that of the file; None for atoms in memory."""
    if system is not None:
        return system
    if isinstance(structure, str | PathLike):
        return Path(structure).stem
    return None
