"""Named systems: what comes with the package."""

from dataclasses import dataclass
from pathlib import Path

from ase import Atoms
from ase.io import read

from piwsl.errors import ConfigError

RESOURCES = Path(__file__).resolve().parent.parent / "resources"


@dataclass(frozen=True)
class NamedSystem:
    """Files of a bundled system; labels and trajectory by GFN2-xTB (resources/README.md).

    Attributes:
        name: name on the command line.
        structure_file: minimized structure.
        train: labeled frames for training.
        test: labeled frames of other trajectories.
        reference_topology: PDB file of the reference trajectory.
        reference_trajectory: reference dynamics.
        reference_timestep: fs between its frames.
        model: trained file.
        exported: the same potential in the OpenMM form.
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
        ConfigError: there is no molecule of this name, or its formula is another one.
    """
    if name not in MOLECULES:
        raise ConfigError(f"unknown system {name!r}: known are {', '.join(MOLECULES)}; else give a file")
    formula = structure.get_chemical_formula("hill")
    if formula != MOLECULES[name]:
        raise ConfigError(f"--system {name} is {MOLECULES[name]}, the structure is {formula}")


def named_system(name: str) -> NamedSystem:
    """Look up a bundled system.

    Raises:
        ConfigError: there is none of this name.
    """
    try:
        return SYSTEMS[name]
    except KeyError:
        raise ConfigError(f"unknown system {name!r}: bundled are {', '.join(SYSTEMS)}; else give a file") from None
