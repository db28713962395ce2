"""Which structure, model and directory a `piwsl md` command means."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms

from piwsl.data.systems import SYSTEMS, check_molecule, named_system
from piwsl.errors import ConfigError, RunDirectoryError
from piwsl.md.run_directory import START
from piwsl.runs.summary import MDSummary
from piwsl.structures.files import load_structure


@dataclass(frozen=True)
class Inputs:
    """What to run, and where to."""

    name: str
    structure: Atoms
    model: Path
    output: Path


@dataclass(frozen=True)
class Named:
    """What a command names; None is not named."""

    system: str | None = None
    structure: Path | None = None
    model: Path | None = None
    output: Path | None = None

    @classmethod
    def of(cls, given: dict[str, Any]) -> "Named":
        """From options, of which these are taken out."""
        found = {name: given.pop(name, None) for name in ("system", "structure", "model", "output")}
        paths = {name: Path(value) for name, value in found.items() if name != "system" and value is not None}
        return cls(system=found["system"], **paths)


def choose_inputs(named: Named, restart: bool, replicas: bool = False) -> Inputs:
    """Resolve what is named; a restart takes from its run what is not.

    Replicas take the trained model of a bundled system, of which a file for many copies can be made.

    Raises:
        ConfigError: something is missing, or the system is unknown.
        DataError: the structure cannot be used.
        RunDirectoryError: ``restart`` without a run.
    """
    structure, model = named.structure, named.model
    bundled = named_system(named.system) if named.system in SYSTEMS and structure is None else None
    name = named.system or (structure.stem if structure else None)
    output = named.output
    if output is None:
        if name is None:
            raise ConfigError(
                "give --system NAME or --structure FILE" + (", or --output of the run" if restart else "")
            )
        output = Path("runs") / f"md-{name}"
    if restart:
        before = MDSummary.read(output)
        if before.replica is not None:
            raise RunDirectoryError(f"{output}: is one of the replicas in {output.parent}: continue that run")
        name = before.system.name
        model = model or Path(before.model.path)
        structure = structure or (None if bundled else output / START)
    file = structure or (bundled.structure_file if bundled else None)
    if file is None:
        wanted = f"--system {named.system} comes without a structure: give" if named.system else "give --system NAME or"
        raise ConfigError(f"{wanted} --structure FILE")
    atoms = load_structure(file)
    if named.system:
        check_molecule(named.system, atoms)
    if model is None and named.system in SYSTEMS:
        known = named_system(named.system)
        model = known.model if replicas else known.exported
    if model is None:
        raise ConfigError("give --model FILE: an exported potential, or a trained model.pt")
    return Inputs(name or output.name, atoms, model, output)
