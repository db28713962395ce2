"""Ensembles: what each keeps, and which engine has it."""

from typing import Literal, get_args

from piwsl.errors import ConfigError

Ensemble = Literal["nve", "nvt-langevin", "nvt-nose-hoover", "nvt-csvr", "npt"]
EngineName = Literal["openmm", "ase"]

ENSEMBLES: tuple[str, ...] = get_args(Ensemble)
# Short names that people use.
ALIASES = {"nvt": "nvt-langevin"}
_MISSING = {("nvt-csvr", "openmm"): "ase"}


def full_name(name: object) -> object:
    """The name of an ensemble for a short one; anything else as it is."""
    return ALIASES.get(name, name) if isinstance(name, str) else name


def check_engine(ensemble: str, engine: str) -> None:
    """Refuse an ensemble that an engine lacks.

    Raises:
        ConfigError: it does; the engine that has it is named.
    """
    other = _MISSING.get((ensemble, engine))
    if other:
        raise ConfigError(f"engine {engine} has no {ensemble}: choose --engine {other}, or another ensemble")


def has_thermostat(ensemble: str) -> bool:
    """Whether a temperature is held."""
    return ensemble != "nve"


def conserves_momentum(ensemble: str, engine: str) -> bool:
    """Whether a momentum of zero stays zero: everywhere but under Langevin's random forces."""
    return not (ensemble == "nvt-langevin" or (ensemble == "npt" and engine == "openmm"))
