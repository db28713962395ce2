"""The model that learning starts from: a foundation model where one fits, otherwise none."""

from dataclasses import dataclass
from pathlib import Path

from ase import Atoms
from ase.data import chemical_symbols

from piwsl.errors import ConfigError, ElementError, MissingDependencyError
from piwsl.export.import_model import SO3LR, import_model
from piwsl.export.trained_file import load_trained
from piwsl.learning.directory import START_MODEL_FILE
from piwsl.learning.settings import AUTOMATIC, SCRATCH

SO3LR_ELEMENTS = ("H", "C", "N", "O", "F", "P", "S", "Cl")


@dataclass(frozen=True)
class StartModel:
    """Model to fine-tune.

    Attributes:
        path: Trained file; None if the teachers start from random weights.
        text: Name of the model and the reason for the choice, as one sentence.
        license: License of the weights; None if they are unknown or there is no model.
    """

    path: Path | None
    text: str
    license: str | None = None


def choose_start(init_from: str, structure: Atoms, folder: Path) -> StartModel:
    """Choose the model to fine-tune.

    Args:
        init_from: A trained file, ``auto`` or ``scratch``.
        structure: Structure to learn.
        folder: Directory for an imported model.

    Raises:
        ConfigError: SO3LR fits the structure, but its weights are not installed.
        ElementError: The trained file was not trained on an element of the structure.
        ModelFileError: The trained file cannot be read.
    """
    elements = sorted({int(number) for number in structure.numbers})
    if init_from == SCRATCH:
        return StartModel(None, "the teachers start from random weights, as requested")
    if init_from != AUTOMATIC:
        model = load_trained(Path(init_from))
        unknown = [chemical_symbols[number] for number in elements if number not in model.reference_energies]
        if unknown:
            raise ElementError(
                f"teacher.init_from: {init_from} was not trained on {', '.join(unknown)}: choose another model, or "
                "scratch"
            )
        origin = model.training.get("foundation") or {}
        return StartModel(Path(init_from).resolve(), f"fine-tune {init_from}", origin.get("license"))
    if structure.pbc.any():
        return StartModel(None, "the teachers start from random weights, because SO3LR is made for molecules")
    unknown = [symbol for symbol in dict.fromkeys(structure.symbols) if symbol not in SO3LR_ELEMENTS]
    if unknown:
        reason = f"SO3LR was not trained on {', '.join(unknown)}"
        return StartModel(None, f"the teachers start from random weights, because {reason}")
    path = folder / START_MODEL_FILE
    if not path.is_file():
        try:
            import_model(SO3LR, path)
        except MissingDependencyError:
            raise ConfigError(
                "SO3LR fits this molecule, but its weights are not installed: run "
                "`pip install --no-deps so3krates-torch==0.2.1`, or set teacher.init_from to a trained file or to "
                "scratch"
            ) from None
    license = (load_trained(path).training.get("foundation") or {}).get("license")
    return StartModel(path, "fine-tune SO3LR, which was trained on all elements of the molecule", license)
