"""Protocols of published studies, by name."""

from typing import Any

from piwsl.errors import ConfigError

PRESETS: dict[str, dict[str, Any]] = {
    # Fu et al., TMLR 2023, "Forces are not enough": 300 ps of molecules of MD17, a frame every 50 fs.
    "fu2023": {
        "ensemble": "nvt-nose-hoover",
        "temperature": 500.0,
        "timestep": 0.5,
        "steps": 600_000,
        "trajectory_interval": 100,
    },
    # Takamoto, Zaverkin and Niepert, ICML 2025: the same from 300 K at constant energy, for several seeds.
    "piwsl2025": {
        "ensemble": "nve",
        "temperature": 300.0,
        "timestep": 0.5,
        "steps": 600_000,
        "trajectory_interval": 100,
    },
}


def preset(name: str) -> dict[str, Any]:
    """Options of a published protocol.

    Raises:
        ConfigError: there is none of this name.
    """
    try:
        return dict(PRESETS[name])
    except KeyError:
        raise ConfigError(f"unknown protocol {name!r}: there are {', '.join(PRESETS)}") from None
