"""Ensembles: what each conserves, and which engines support it."""

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
    """Return the name of an ensemble for its short name, and anything else unchanged."""
    return ALIASES.get(name, name) if isinstance(name, str) else name


def check_engine(ensemble: str, engine: str, replicas: bool = False) -> None:
    """Refuse an ensemble that an engine does not support, for a single structure or for replicas.

    Raises:
        ConfigError: The engine does not support it; the message names the engine that does.
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
    """Return whether the ensemble has a thermostat."""
    return ensemble != "nve"


def conserves_momentum(ensemble: str, engine: str) -> bool:
    """Return whether zero momentum stays zero, which random forces of Langevin dynamics prevent."""
    return not (ensemble == "nvt-langevin" or (ensemble == "npt" and engine == "openmm"))
