"""The protocol of a run, which defines the names, defaults and limits of all MD options."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from piwsl.errors import ConfigError
from piwsl.md.ensembles import EngineName, Ensemble, check_engine, full_name, has_thermostat
from piwsl.runs.config import LARGEST_COUNT, read_mapping, to_yaml, validate
from piwsl.runs.files import write_text
from piwsl.units import PICOSECOND

PRESETS: dict[str, dict[str, Any]] = {
    # Fu et al., TMLR 2023, "Forces are not enough": MD17 molecules for 300 ps, a frame every 50 fs.
    "fu2023": {
        "ensemble": "nvt-nose-hoover",
        "temperature": 500.0,
        "timestep": 0.5,
        "steps": 600_000,
        "trajectory_interval": 100,
    },
    # Takamoto, Zaverkin and Niepert, ICML 2025: the same length at constant energy from 300 K, with several seeds.
    "piwsl2025": {
        "ensemble": "nve",
        "temperature": 300.0,
        "timestep": 0.5,
        "steps": 600_000,
        "trajectory_interval": 100,
    },
}


def preset(name: str) -> dict[str, Any]:
    """Return the options of a published protocol.

    Raises:
        ConfigError: The name is unknown.
    """
    try:
        return dict(PRESETS[name])
    except KeyError:
        raise ConfigError(f"unknown protocol {name!r}: choose one of {', '.join(PRESETS)}") from None


HOTTEST = 1e6  # K; no molecule exists at such temperatures
LONGEST = LARGEST_COUNT  # steps


@dataclass(frozen=True)
class TemperatureSchedule:
    """Piecewise linear temperature schedule.

    Attributes:
        nodes: Temperatures at equally spaced times, K; a single temperature is constant.
    """

    nodes: tuple[float, ...]

    @classmethod
    def of(cls, value: Any) -> "TemperatureSchedule":
        """Parse a number, or numbers joined by colons: ``300``, ``300:500``, ``300:500:500:300``.

        Raises:
            ValueError: The value has another form, or a temperature is out of range.
        """
        if isinstance(value, cls):
            return value
        try:
            nodes = tuple(float(part) for part in str(value).split(":"))
        except ValueError:
            raise ValueError(
                "give a temperature in K, or several temperatures joined by colons such as 300:500"
            ) from None
        if not all(0 < node <= HOTTEST for node in nodes):
            raise ValueError(f"temperatures must be above 0 K and at most {HOTTEST:.0e} K")
        return cls(nodes)

    @property
    def start(self) -> float:
        """The first temperature, K."""
        return self.nodes[0]

    @property
    def highest(self) -> float:
        """The highest temperature, K."""
        return max(self.nodes)

    @property
    def constant(self) -> bool:
        """Whether the temperature does not change."""
        return len(set(self.nodes)) == 1

    def at(self, fraction: float) -> float:
        """Return the temperature at a fraction (0 to 1) of the total time, K."""
        return float(np.interp(fraction, np.linspace(0, 1, len(self.nodes)), self.nodes))

    def plain(self) -> float | str:
        """Return the value to store in files: a number, or text for several temperatures."""
        return self.start if len(self.nodes) == 1 else str(self)

    def __str__(self) -> str:
        return ":".join(f"{node:g}" for node in self.nodes)


Temperature = Annotated[
    TemperatureSchedule, BeforeValidator(TemperatureSchedule.of), PlainSerializer(TemperatureSchedule.plain)
]


# Options that a restart may change.
_EXTENDABLE = {"steps"}


class MDProtocol(BaseModel):
    """Options of a molecular dynamics run. Units are K, fs, angstrom, 1/fs and bar; intervals are in steps.

    `MDProtocol.of` reports an invalid value as a one-line ConfigError.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: EngineName = Field(
        "openmm",
        description="Program that integrates the equations of motion; native runs replicas only and is their default.",
    )
    ensemble: Annotated[Ensemble, BeforeValidator(full_name)] = Field(
        "nvt-langevin", description="Statistical ensemble and thermostat; nvt is short for nvt-langevin."
    )
    temperature: Temperature = Field(
        TemperatureSchedule((500.0,)),
        description="Temperature of the thermostat and of the initial velocities, K; 300:500 is a ramp over the run.",
    )
    pressure: float = Field(1.0, ge=-1e6, le=1e6, description="Pressure in the npt ensemble, bar.")
    timestep: float = Field(0.5, ge=0.001, le=10, description="Time step, fs.")
    friction: float = Field(0.005, gt=0, le=1, description="Friction coefficient of Langevin dynamics, 1/fs.")
    thermostat_time: float = Field(
        100.0, ge=0.1, le=1e6, description="Time constant of Nose-Hoover and CSVR thermostats, fs."
    )
    barostat_time: float = Field(1000.0, ge=0.1, le=1e7, description="Time constant of the ASE barostat, fs.")
    minimize: bool = Field(False, description="Minimize the start structure until no force exceeds 0.05 eV/angstrom.")
    equilibration: int = Field(
        0,
        ge=0,
        le=LONGEST,
        description="Equilibration steps before step 0, without output; before nve, they use Langevin dynamics.",
    )
    steps: int = Field(
        100_000, ge=1, le=LONGEST, description="Total number of steps, including those before a restart."
    )
    hydrogen_mass: float | None = Field(
        None,
        gt=0,
        lt=8,
        description="Mass of hydrogen atoms, amu; the difference is taken from the atoms they are bonded to.",
    )
    charge: int | None = Field(
        None,
        ge=-100,
        le=100,
        description="Total charge of the structure, e, for networks that take it; by default as the structure states.",
    )
    unpaired_electrons: int | None = Field(
        None,
        ge=0,
        le=100,
        description="Unpaired electrons of the structure, likewise.",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of the initial velocities and of the thermostat.")
    replicas: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="Number of independent copies that run together; replica R uses the seed plus R.",
    )
    trajectory_interval: int = Field(100, ge=1, le=LONGEST, description="Steps between frames.")
    trajectory_format: Literal["dcd", "xtc", "extxyz", "hdf5"] = Field("dcd", description="Format of the trajectory.")
    write: tuple[Literal["velocities", "forces"], ...] = Field(
        (), description="Quantities to write in addition to positions; requires extxyz or hdf5."
    )
    report_interval: int = Field(100, ge=1, le=LONGEST, description="Steps between rows of thermo.csv.")
    state_interval: int = Field(1000, ge=1, le=LONGEST, description="Steps between restart states.")
    check_interval: int = Field(20, ge=1, le=LONGEST, description="Steps between checks of the stop rules.")
    stop: tuple[str, ...] = Field(
        (),
        description="Stop rule with its limit, such as bond:0.5 or contact:off; repeatable; help lists all rules.",
    )
    on_stop: Literal["stop", "restart-from-good", "record"] = Field(
        "stop",
        description="Action when a rule is violated: stop the run, restart from the last good state with new random "
        "numbers, or record the violation and continue.",
    )

    @model_validator(mode="before")
    @classmethod
    def _choose_engine(cls, options: Any) -> Any:
        if isinstance(options, dict) and options.get("replicas") is not None:
            return {"engine": "native", **options}
        return options

    @model_validator(mode="after")
    def _check_together(self) -> "MDProtocol":
        check_engine(self.ensemble, self.engine, self.replicas is not None)
        if self.replicas is not None and self.on_stop == "restart-from-good":
            raise ConfigError(
                "replicas cannot return to a good state: choose on_stop='stop', which removes an unphysical replica, "
                "or on_stop='record'"
            )
        if self.stop:
            from piwsl.md.stop.rules import check_rules  # imported here because torch takes a second to load

            check_rules(self.stop, self.ensemble)
        if self.ensemble == "nve" and not self.temperature.constant:
            raise ConfigError("nve has no thermostat to follow a temperature ramp: give a single temperature")
        if self.write and self.trajectory_format in ("dcd", "xtc"):
            kind = self.trajectory_format
            raise ConfigError(
                f"{kind} files contain positions only: choose trajectory_format='extxyz' or 'hdf5' to write "
                f"{' and '.join(self.write)}"
            )
        return self

    @classmethod
    def of(cls, **options: Any) -> "MDProtocol":
        """Create a protocol from options.

        Raises:
            ConfigError: An option is unknown or out of range, or two options are incompatible.
        """
        return validate(cls, options)

    def temperature_at(self, step: int) -> float:
        """Return the thermostat temperature at a step, K; equilibration (negative steps) uses the first temperature."""
        return self.temperature.at(max(step, 0) / self.steps)

    def ensemble_at(self, step: int) -> Ensemble:
        """Return the ensemble of the step after ``step``; equilibration before nve uses Langevin dynamics."""
        return self.ensemble if step >= 0 or has_thermostat(self.ensemble) else "nvt-langevin"

    def seed_of(self, replica: int) -> int:
        """Return the seed of a replica, which equals the seed of the equivalent single run."""
        return (self.seed + replica) % 2**31

    def summary(self) -> str:
        """Describe the protocol in one line."""
        length = self.steps * self.timestep / PICOSECOND
        where = "from" if self.ensemble == "nve" else "at"
        pressure = f" and {self.pressure:g} bar" if self.ensemble == "npt" else ""
        copies = f"{self.replicas} replicas, each " if self.replicas else ""
        before = f" after {self.equilibration} of equilibration" if self.equilibration else ""
        return (
            f"{copies}{self.steps} steps of {self.timestep:g} fs ({length:g} ps){before}, {self.ensemble} "
            f"{where} {self.temperature} K{pressure}, seed {self.seed}"
        )

    def differences(self, other: "MDProtocol") -> list[str]:
        """List the options that differ, as ``name: this -> other``.

        ``steps`` may differ, because a run can be extended, unless the temperature schedule depends on ``steps``.
        """
        free = _EXTENDABLE if self.temperature.constant else set()
        mine, theirs = self.model_dump(exclude=free), other.model_dump(exclude=free)
        return [f"{name}: {mine[name]} -> {theirs[name]}" for name in mine if mine[name] != theirs[name]]

    def save(self, path: Path) -> None:
        """Write the protocol to a YAML file."""
        write_text(path, to_yaml(self))

    @classmethod
    def load(cls, path: Path) -> "MDProtocol":
        """Read a protocol from a YAML file.

        Raises:
            ConfigError: The file is missing or contains no protocol.
        """
        return validate(cls, read_mapping(path), str(path))
