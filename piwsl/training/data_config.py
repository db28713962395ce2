"""Section `data` of a training configuration."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from piwsl.data.reference_energies import energies_by_number
from piwsl.errors import ConfigError, DataError
from piwsl.runs.config import Count


class Section(BaseModel):
    """Base class of the sections of a configuration. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _with_valid_energies(value: Any) -> Any:
    """Check energies by chemical symbol. Other values, such as the name of a file, are unchanged."""
    if isinstance(value, Mapping):
        try:
            energies_by_number(value)
        except DataError as error:
            raise ValueError(str(error)) from None
    return value


ReferenceEnergies = Annotated[dict[str, float] | Path | None, BeforeValidator(_with_valid_energies)]


def _with_file(value: Any) -> Any:
    """Return the mapping of a level that is given as the name of its source."""
    return {"file": value} if isinstance(value, str) else value


class LevelConfig(Section):
    """Source of the frames of a further level of theory, in ``data.levels``."""

    file: str = Field(description="labeled frames: a file, a directory, a pattern, or a named data set")
    units: str | None = Field(None, description="units of the file, if it states none")
    train: Count | None = Field(None, ge=1, description="number of frames, chosen at random; empty: all")
    reference_energies: ReferenceEnergies = Field(
        None, description="energies of isolated atoms at this level, as for data.reference_energies"
    )


_LEVEL_NAME = re.compile(r"[^\W_][^\x00-\x1f\x7f]{0,99}")


def _level_name(name: str) -> str:
    """Check the name of a level, which is an argument of commands and a key in files."""
    if not _LEVEL_NAME.fullmatch(name) or name != name.strip():
        raise ValueError("a name of a level begins with a letter or a digit and has at most 100 characters")
    return name


LevelName = Annotated[str, AfterValidator(_level_name)]


class DataConfig(Section):
    """Section `data`: the source of the frames, their split, and their use."""

    system: str | None = Field(None, description="bundled system (aspirin), instead of a file")
    file: str | None = Field(
        None, description="labeled frames: a file, a directory, a pattern such as 'runs/*.xyz', or a named data set"
    )
    units: str | None = Field(None, description="units of the file, such as 'kcal/mol, angstrom', if it states none")
    train: Count | None = Field(None, ge=1, description="number of training frames; empty: all remaining frames")
    validation: Count | None = Field(
        None,
        ge=1,
        description="number of validation frames; empty: as many as for training, at least 100, at most 2000 and 1/10",
    )
    test: Count | None = Field(
        None,
        ge=0,
        description="number of test frames, the same frames for every training size; empty: as published, or none",
    )
    test_file: str | None = Field(None, description="separate file with test frames")
    forces_fraction: float = Field(1.0, ge=0, le=1, description="fraction of the training frames whose forces are used")
    unlabeled: str | None = Field(
        None, description="structures for the label-free and teacher terms; labels in this file are ignored"
    )
    unlabeled_share: float = Field(
        0.5, gt=0, lt=1, description="fraction of each batch that consists of frames without labels, if there are any"
    )
    largest_force_spread: float | None = Field(
        None, ge=0, description="largest spread of the force on an atom that is used as a label [eV/A]; empty: no limit"
    )
    largest_energy_spread: float | None = Field(
        None, ge=0, description="largest spread of an energy that is used as a label [eV]; empty: no limit"
    )
    weigh_by_spread: bool = Field(
        False, description="weigh labels by their stored spread s: 1 / (1 + (s / median)^2), and 1 without a spread"
    )
    workers: int = Field(0, ge=0, le=64, description="processes that prefetch frames; 0: none")
    level: LevelName | None = Field(
        None, description="level of theory of the labels, the main level; empty: that of a named set, otherwise `main`"
    )
    levels: dict[LevelName, Annotated[LevelConfig, BeforeValidator(_with_file)]] | None = Field(
        None,
        description="further levels of theory by name, such as {PBE: pbe.npz}; each has a head of its own; a source "
        "or a mapping with the keys file, units, train and reference_energies",
    )
    levels_share: float = Field(
        0.5, gt=0, lt=1, description="fraction of each batch that are frames of further levels, in equal parts"
    )
    reference_energies: ReferenceEnergies = Field(
        None,
        description="energies of isolated atoms by element [eV], such as {H: -13.6}, or a file with them; empty: from "
        "frames of one atom, and a least-squares fit for other elements",
    )

    @model_validator(mode="after")
    def _check_levels(self) -> "DataConfig":
        if self.levels is None:
            if self.levels_share != type(self).model_fields["levels_share"].default:
                raise ConfigError("data.levels_share has no effect: remove it, or set data.levels")
            return self
        if not self.levels:
            raise ConfigError("data.levels: there is no level: name one, such as {PBE: pbe.npz}, or remove the key")
        names: dict[str, str] = {}
        for name in self.levels:
            other = names.setdefault(name.casefold(), name)
            if other != name:
                raise ConfigError(f"data.levels: {other} and {name} differ in case only: choose different names")
        check_main_level(self.level or MAIN_LEVEL, self.levels)
        return self


MAIN_LEVEL = "main"  # name of the main level, if the level of theory of its labels is unknown


def check_main_level(main: str, further: Iterable[str]) -> None:
    """Raise an error if a further level has the name of the main level.

    Raises:
        ConfigError: The names are equal, except perhaps for the case of letters.
    """
    if main.casefold() in (name.casefold() for name in further):
        raise ConfigError(
            f"data.levels: {main} is the name of the main level: choose another name, or set data.level to the level "
            "of theory of the main data"
        )
