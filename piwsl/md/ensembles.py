"""Ensembles: what each keeps, and which engine has it."""

from typing import Literal, get_args

from piwsl.errors import ConfigError

Ensemble = Literal["nve", "nvt-langevin", "nvt-nose-hoover", "nvt-csvr", "npt"]
EngineName = Literal["openmm", "ase", "native"]

ENSEMBLES: tuple[str, ...] = get_args(Ensemble)
# Short names that people use.
ALIASES = {"nvt": "nvt-langevin"}
_SINGLE = {"openmm": ("nve", "nvt-langevin", "nvt-nose-hoover", "npt"), "ase": ENSEMBLES}
_REPLICAS = {"native": ("nve", "nvt-langevin", "nvt-nose-hoover"), "openmm": ("nve", "nvt-langevin")}


def full_name(name: object) -> object:
    """The name of an ensemble for a short one; anything else as it is."""
    return ALIASES.get(name, name) if isinstance(name, str) else name


def check_engine(ensemble: str, engine: str, replicas: bool = False) -> None:
    """Refuse an ensemble that an engine lacks, for a single structure or for replicas.

    Raises:
        ConfigError: it does; the engine that has it is named.
    """
    known, what = (_REPLICAS, " for replicas") if replicas else (_SINGLE, "")
    if engine not in known:
        wanted = "moves replicas: add replicas=N" if engine == "native" else "moves one structure: choose native"
        raise ConfigError(f"engine {engine} {wanted}")
    if ensemble not in known[engine]:
        others = [f"engine='{name}'" for name, has in known.items() if ensemble in has]
        wanted = f"{' or '.join(others)}, or another ensemble" if others else " or ".join(known[engine])
        raise ConfigError(f"engine {engine} has no {ensemble}{what}: choose {wanted}")


def has_thermostat(ensemble: str) -> bool:
    """Whether a temperature is held."""
    return ensemble != "nve"


def conserves_momentum(ensemble: str, engine: str) -> bool:
    """Whether a momentum of zero stays zero: everywhere but under Langevin's random forces."""
    return not (ensemble == "nvt-langevin" or (ensemble == "npt" and engine == "openmm"))
