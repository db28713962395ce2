"""The protocol of a run: the one place where MD options have names, defaults and limits."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from piwsl.data.files import write_text
from piwsl.errors import ConfigError
from piwsl.units import PICOSECOND


class MDProtocol(BaseModel):
    """How to run molecular dynamics. Units: K, fs, angstrom, 1/fs; intervals in steps.

    ``MDProtocol.of(...)`` turns a bad value into a ConfigError of one line.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: Literal["openmm", "ase"] = Field("openmm", description="Program that moves the atoms.")
    ensemble: Literal["nvt", "nve"] = Field("nvt", description="nvt: Langevin thermostat; nve: constant energy.")
    temperature: float = Field(
        500.0,
        gt=0,
        allow_inf_nan=False,
        description="Of the thermostat and of the initial velocities, K; nve settles near half of it from a minimum.",
    )
    timestep: float = Field(0.5, gt=0, le=10, description="fs.")
    friction: float = Field(0.005, gt=0, le=1, description="Of the Langevin thermostat, 1/fs; no effect in nve.")
    steps: int = Field(100_000, ge=1, description="Steps in total, those before a restart included.")
    seed: int = Field(0, ge=0, lt=2**31, description="Of the initial velocities and the thermostat.")
    trajectory_interval: int = Field(100, ge=1, description="Steps between frames.")
    trajectory_format: Literal["dcd", "xtc"] = Field("dcd", description="File format of the trajectory.")
    report_interval: int = Field(100, ge=1, description="Steps between rows of thermo.csv.")
    state_interval: int = Field(1000, ge=1, description="Steps between restart states.")
    check_interval: int = Field(10, ge=1, description="Steps between checks of the stop rules.")
    bond_tolerance: float = Field(0.5, gt=0, description="Stop when a bond is off its length by more, angstrom.")
    closest_contact: float = Field(
        1.0,
        gt=0,
        description="Stop when two unbonded atoms are closer than this times the sum of their covalent radii.",
    )
    lowest_temperature: float = Field(0.0, ge=0, description="Stop below this instantaneous temperature, K.")
    highest_temperature: float | None = Field(
        None, gt=0, description="Stop above this instantaneous temperature, K; 10 times the temperature by default."
    )

    @classmethod
    def of(cls, **options: Any) -> "MDProtocol":
        """Make a protocol from options.

        Raises:
            ConfigError: an option is unknown or out of range.
        """
        try:
            return cls(**options)
        except ValidationError as error:
            raise ConfigError(_one_line(error, list(cls.model_fields))) from None

    @property
    def temperature_bounds(self) -> tuple[float, float]:
        """Instantaneous temperatures between which a run is physics, K.

        The upper default is far outside the fluctuations of any molecule: the kinetic energy of a diatomic
        exceeds ten times its mean once in 10^10 independent draws.
        """
        highest = 10 * self.temperature if self.highest_temperature is None else self.highest_temperature
        return self.lowest_temperature, highest

    def summary(self) -> str:
        """One line for people."""
        length = self.steps * self.timestep / PICOSECOND
        return (
            f"{self.steps} steps of {self.timestep:g} fs ({length:g} ps), {self.ensemble.upper()} "
            f"{'at' if self.ensemble == 'nvt' else 'from'} {self.temperature:g} K, seed {self.seed}"
        )

    def differences(self, other: "MDProtocol") -> list[str]:
        """Options that differ, as ``name: mine -> other``; ``steps`` may differ, since a run can be extended."""
        mine, theirs = self.model_dump(exclude={"steps"}), other.model_dump(exclude={"steps"})
        return [f"{name}: {mine[name]} -> {theirs[name]}" for name in mine if mine[name] != theirs[name]]

    def save(self, path: Path) -> None:
        """Write as YAML."""
        write_text(path, yaml.safe_dump(self.model_dump(), sort_keys=False))

    @classmethod
    def load(cls, path: Path) -> "MDProtocol":
        """Read from YAML.

        Raises:
            ConfigError: the file is missing or not a protocol.
        """
        try:
            options = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: not readable ({str(error).splitlines()[0]})") from None
        if not isinstance(options, dict):
            raise ConfigError(f"{path}: not a mapping of options")
        return cls.of(**options)


def _one_line(error: ValidationError, known: list[str]) -> str:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        near = get_close_matches(name, known, n=1)
        advice = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(known)}"
        return f"unknown option {name!r}: {advice}"
    message = first["msg"].replace("Input should", "it should").replace("greater than or equal to", "at least")
    return f"{name.replace('_', ' ')} is {first['input']!r}: {message}"
