"""Resolution of the arguments of `piwsl.learn` to settings and a start structure, and their checks."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from piwsl.data.labeling.calculators import reference_calculator
from piwsl.data.read import read_frames
from piwsl.data.systems import Structure, find_structure
from piwsl.errors import ConfigError, RunDirectoryError
from piwsl.learning.settings import FEWEST_LABELS, FILE_METHOD, LabelSettings, LearnSettings, load_learn_settings
from piwsl.learning.smiles import structure_of_smiles
from piwsl.training.inputs import yaml_text


def given_settings(
    config: Mapping[str, Any] | str | PathLike[str] | LearnSettings | None,
    given: Mapping[str, Any],
    options: Mapping[str, Any] | None,
) -> LearnSettings:
    """Return the settings of a job.

    Args:
        config: Settings, YAML file, or mapping of sections.
        given: Values by key that are arguments of their own; None for those that were not given.
        options: Further values by key, which take precedence.

    Raises:
        ConfigError: A key is unknown, or a value is out of range.
    """
    values = {key: str(value) if isinstance(value, PathLike) else value for key, value in given.items()}
    values = {key: value for key, value in values.items() if value is not None} | dict(options or {})
    texts = [f"{key}={yaml_text(value)}" for key, value in values.items()]
    if isinstance(config, LearnSettings):
        return load_learn_settings(None, texts, base=config.model_dump(mode="json", exclude_unset=True))
    if isinstance(config, Mapping):
        return load_learn_settings(None, texts, base=config)
    return load_learn_settings(None if config is None else Path(config), texts)


def check_method(settings: LearnSettings) -> None:
    """Report mistakes of the reference method before any work.

    Raises:
        ConfigError: The method or an option is unknown, or its library is not installed.
    """
    if settings.labels.method != FILE_METHOD and settings.labels.budget:
        reference_calculator(settings.labels.method, settings.labels.options)


def check_reference(settings: LearnSettings) -> None:
    """Report a missing reference trajectory before any work.

    Raises:
        ConfigError: The file does not exist.
    """
    reference = settings.verify.reference
    if reference is not None and not reference.exists():
        raise ConfigError(f"verify.reference: {reference}: no such file: check the path")


def check_inputs_remain(settings: LearnSettings, path: Path) -> None:
    """Raise an error if a directory that will be replaced contains an input of the new job.

    Raises:
        RunDirectoryError: It does; the message names the file.
    """
    inputs = {
        "labels.file": settings.labels.file,
        "teacher.init_from": Path(settings.teacher.init_from),
        "verify.reference": settings.verify.reference,
    }
    for key, file in inputs.items():
        if file is not None and file.exists() and path.resolve() in file.resolve().parents:
            raise RunDirectoryError(
                f"{path}: force=True would delete {file}, the {key} of the new job: choose another output=DIRECTORY"
            )


def given_structure(
    structure: Structure | None, system: str | None, smiles: str | None, settings: LearnSettings
) -> Atoms:
    """Return the start structure of a job.

    Raises:
        ConfigError: No structure is given, or several.
        DataError: The structure cannot be used.
    """
    if structure is None and system is None and smiles is None and settings.labels.file is not None:
        return structure_of_labels(settings.labels)
    if smiles is None:
        return find_structure(structure, system)
    if structure is not None or system is not None:
        raise ConfigError("smiles makes the structure: give only one of structure, system and smiles")
    return structure_of_smiles(smiles)


def structure_of_labels(labels: LabelSettings) -> Atoms:
    """Return the labeled structure of the lowest energy.

    Raises:
        ConfigError: No frame has an energy, or the frames have different compositions.
        DataError: The file cannot be read.
    """
    assert labels.file is not None
    frames = read_frames(labels.file, labels.units)
    census = frames.census
    if len(census.formulas()) > 1 or not census.has_energy.any():
        raise ConfigError(
            f"no structure: give one, because the frames of {labels.file} have different compositions or no energies"
        )
    return frames[int(np.nanargmin(census.energy))].atoms()


def check_budget(settings: LearnSettings) -> None:
    """Raise an error if the first round has too few labels for a model.

    Raises:
        ConfigError: The budget, or its first share, is too small.
    """
    if settings.labels.file is None and settings.labels_of(1) < FEWEST_LABELS:
        raise ConfigError(
            f"labels.budget={settings.labels.budget}: the first round has {settings.labels_of(1)} labels, but a first "
            f"model needs at least {FEWEST_LABELS}: increase labels.budget or labels.first_share"
        )
