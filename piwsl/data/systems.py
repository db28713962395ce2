"""Bundled systems, and the structure that a function argument refers to."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TypeAlias

from ase import Atoms
from ase.io import read

from piwsl.data.frames import Frame
from piwsl.data.structure_file import load_structure
from piwsl.errors import ConfigError
from piwsl.structures.files import check_structure

RESOURCES = Path(__file__).resolve().parent.parent / "resources"


@dataclass(frozen=True)
class NamedSystem:
    """Files of a bundled system. Labels and trajectory were computed with GFN2-xTB (resources/README.md).

    Attributes:
        name: Name of the system.
        structure_file: File with the minimized structure.
        train: Labeled frames for training.
        test: Labeled frames from other trajectories, for testing.
        reference_topology: PDB file with the topology of the reference trajectory.
        reference_trajectory: Trajectory of the reference dynamics.
        reference_timestep: Time between frames of the reference trajectory, fs.
        model: Trained model file.
        exported: The same model, exported for OpenMM.
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
        """Minimized structure."""
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


BUNDLED_LEVEL = "GFN2-xTB"  # level of theory of labels and trajectories
SYSTEMS = {"aspirin": _bundled("aspirin", reference_timestep=20.0)}


# Molecules of revised MD17 (Christensen and von Lilienfeld, 2020). Only aspirin has a bundled structure and model.
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
    """Raise an error if a structure is not the named molecule.

    Raises:
        ConfigError: No molecule has this name, or the structure has another formula.
    """
    if name not in MOLECULES:
        raise ConfigError(f"unknown system {name!r}: use one of {', '.join(MOLECULES)}, or give a file")
    formula = structure.get_chemical_formula("hill")
    if formula != MOLECULES[name]:
        raise ConfigError(f"system={name!r} has the formula {MOLECULES[name]}, but the structure is {formula}")


def named_system(name: str) -> NamedSystem:
    """Look up a bundled system.

    Raises:
        ConfigError: No bundled system has this name.
    """
    try:
        return SYSTEMS[name]
    except KeyError:
        raise ConfigError(f"unknown system {name!r}: use one of {', '.join(SYSTEMS)}, or give a file") from None


Structure: TypeAlias = Atoms | Frame | str | PathLike[str]


def is_system(name: object) -> bool:
    """Return whether a value is the name of a bundled system and not of an existing file."""
    return isinstance(name, str) and name in SYSTEMS and not Path(name).exists()


def find_structure(structure: Structure | None = None, system: str | None = None) -> Atoms:
    """Return the structure that the arguments ``structure`` and ``system`` of a function refer to.

    Args:
        structure: ASE structure, frame, file that ASE can read, or name of a bundled system.
        system: Name of a bundled system or of an rMD17 molecule. The formula is compared with ``structure``, which is
            required for molecules without a bundled structure.

    Raises:
        ConfigError: No structure is given, the system is unknown, or the structure has another formula.
        DataError: The structure cannot be read or used.
    """
    if structure is None:
        if system is None:
            raise ConfigError("no structure: give system=NAME or structure=FILE")
        if system not in SYSTEMS:
            if system in MOLECULES:
                raise ConfigError(f"system={system!r} has no bundled structure: give structure=FILE")
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
    """Return the name of the system or file for use in results; None for atoms in memory."""
    if system is not None:
        return system
    if isinstance(structure, str | PathLike):
        return Path(structure).stem
    return None
