"""Ensembles, the quantities that they conserve, and the engines that support them."""

from typing import Literal, get_args

from piwsl.errors import ConfigError

Ensemble = Literal["nve", "nvt-langevin", "nvt-nose-hoover", "nvt-csvr", "npt"]
EngineName = Literal["openmm", "ase", "native"]

ENSEMBLES: tuple[str, ...] = get_args(Ensemble)
# Common short names.
ALIASES = {"nvt": "nvt-langevin"}
_SINGLE = {"openmm": ("nve", "nvt-langevin", "nvt-nose-hoover", "npt"), "ase": ENSEMBLES}
_REPLICAS = {"native": ("nve", "nvt-langevin", "nvt-nose-hoover"), "openmm": ("nve", "nvt-langevin")}


def full_name(name: object) -> object:
    """Return the full name of an ensemble for a short name, and any other value unchanged."""
    return ALIASES.get(name, name) if isinstance(name, str) else name


def check_engine(ensemble: str, engine: str, replicas: bool = False) -> None:
    """Check that an engine supports an ensemble, for a single structure or for replicas.

    Raises:
        ConfigError: The engine does not support the ensemble; the message names the engines that do.
    """
    known, what = (_REPLICAS, " for replicas") if replicas else (_SINGLE, "")
    if engine not in known:
        wanted = (
            "runs replicas only: add replicas=N"
            if engine == "native"
            else "does not run replicas: choose engine='native'"
        )
        raise ConfigError(f"engine {engine} {wanted}")
    if ensemble not in known[engine]:
        others = [f"engine='{name}'" for name, has in known.items() if ensemble in has]
        wanted = f"{' or '.join(others)}, or another ensemble" if others else " or ".join(known[engine])
        raise ConfigError(f"engine {engine} does not support {ensemble}{what}: choose {wanted}")


def has_thermostat(ensemble: str) -> bool:
    """Return whether the ensemble has a thermostat."""
    return ensemble != "nve"


def conserves_momentum(ensemble: str, engine: str) -> bool:
    """Return whether the total momentum is conserved; the random forces of Langevin dynamics change the momentum."""
    return not (ensemble == "nvt-langevin" or (ensemble == "npt" and engine == "openmm"))
