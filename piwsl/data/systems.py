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
        structure_file: minimised structure.
        train: labelled frames for training.
        test: labelled frames of other trajectories.
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
        """The minimised structure."""
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


def named_system(name: str) -> NamedSystem:
    """Look up a bundled system.

    Raises:
        ConfigError: there is none of this name.
    """
    try:
        return SYSTEMS[name]
    except KeyError:
        raise ConfigError(f"unknown system {name!r}: bundled are {', '.join(SYSTEMS)}; else give a file") from None
