"""Which structure, model and directory a `piwsl md` command means."""

from dataclasses import dataclass
from pathlib import Path

from ase import Atoms

from piwsl.data.systems import named_system
from piwsl.errors import ConfigError
from piwsl.md.run_directory import START, read_summary
from piwsl.md.structure import load_structure


@dataclass(frozen=True)
class Inputs:
    """What to run, and where to."""

    name: str
    structure: Atoms
    model: Path
    output: Path


def choose_inputs(
    system: str | None, structure: Path | None, model: Path | None, output: Path | None, restart: bool
) -> Inputs:
    """Resolve the options; a restart takes from its run what is not given.

    Raises:
        ConfigError: something is missing, or the system is unknown.
        DataError: the structure cannot be used.
        RunDirectoryError: ``restart`` without a run.
    """
    named = named_system(system) if system else None
    name = system or (structure.stem if structure else None)
    if output is None:
        if name is None:
            raise ConfigError(
                "give --system NAME or --structure FILE" + (", or --output of the run" if restart else "")
            )
        output = Path("runs") / f"md-{name}"
    if restart:
        before = read_summary(output)
        name = str(before["system"]["name"])
        model = model or Path(before["model"]["path"])
        structure = structure or (None if named else output / START)
    file = structure or (named.structure_file if named else None)
    if file is None:
        raise ConfigError("give --system NAME or --structure FILE")
    model = model or (named.exported if named else None)
    if model is None:
        raise ConfigError("give --model FILE: an exported potential, or a trained model.pt")
    return Inputs(name or output.name, load_structure(file), model, output)
