"""Choice of the time to skip at the start of a run, and whether the rest is long enough for a verdict."""

from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from piwsl.analysis.run_directory import Run
from piwsl.analysis.statistics.equilibration import Equilibration, equilibration
from piwsl.analysis.statistics.results import significant
from piwsl.errors import ConfigError
from piwsl.runs.config import read_mapping
from piwsl.typing import FloatArray
from piwsl.units import PICOSECOND

FEWEST_COUPLING_TIMES = 10.0  # smallest number of thermostat or barostat time constants for a verdict
FEWEST_SAMPLES = 5.0  # smallest number of independent samples of the energies for a verdict
CONFIG_FILE = "config.yaml"


@dataclass(frozen=True)
class Skip:
    """The start of a run that is skipped.

    Attributes:
        time: Time up to which frames are skipped, fs.
        frames: Number of skipped frames.
        automatic: Whether the time was chosen from the energies.
        note: One sentence that describes the choice.
        obstacle: Reason why the rest does not allow a verdict, or None.
    """

    time: float
    frames: int
    automatic: bool
    note: str
    obstacle: str | None = None


NO_SKIP = Skip(0.0, 0, False, "no frames are skipped")


def choose_skip(run: Run, stable_frames: int, end: float = np.inf, skip: float | None = None) -> Skip:
    """Choose how many frames at the start of a run to skip.

    Args:
        run: Run with frames and energies.
        stable_frames: Number of frames before the first broken frame.
        end: Time of the first broken frame, fs.
        skip: Time to skip, ps; by default the time during which energies, temperature or volume drift.

    Raises:
        ConfigError: ``skip`` is negative, not finite, or leaves no stable frame.
    """
    times = run.times[:stable_frames]
    found = None if skip is not None else _drift(run, end)
    if skip is not None:
        if not isfinite(skip) or skip < 0:
            raise ConfigError(f"skip={skip:g}: give the time to skip in ps, 0 or more")
        time = skip * PICOSECOND
        note = f"the first {skip:g} ps are skipped, as chosen" if skip else "no frames are skipped, as chosen"
    else:
        time, note = _automatic(found)
    frames = int(np.searchsorted(times, time * (1 + 1e-9), side="right")) if time > 0 else 0
    if stable_frames and frames >= stable_frames:
        last = f"{times[-1] / PICOSECOND:.6g} ps"
        if skip is not None:
            raise ConfigError(
                f"skip={skip:g} leaves no frame of a run that is stable for {last}: choose a shorter time"
            )
        frames, note = 0, "no frames are skipped, because the run is too short"
    return Skip(time, frames, skip is None, note, _obstacle(run, found, min(end, float(run.times[-1])) - time))


@dataclass(frozen=True)
class _Drift:
    """Equilibration of the rows of thermo.csv (None for too few rows), and their times (rows,), fs."""

    found: Equilibration | None
    times: FloatArray


_SERIES = (("potential energy", "eV"), ("temperature", "K"), ("volume", "Å³"))


def _drift(run: Run, end: float) -> _Drift | None:
    if run.thermo is None:
        return None
    thermo = run.thermo
    rows = (thermo.times < end) & np.isfinite(thermo.potential) & np.isfinite(thermo.temperature)
    thermo = thermo.chosen(rows)
    series = [thermo.potential, thermo.temperature]
    if thermo.volume is not None and np.ptp(thermo.volume) > 0:
        series.append(thermo.volume)
    return _Drift(equilibration(series) if len(thermo.times) else None, thermo.times)


def _automatic(drift: _Drift | None) -> tuple[float, str]:
    """Return the time to skip, fs, and a sentence that describes the choice."""
    choose = "choose with skip=PS"
    if drift is None:
        return 0.0, f"no energies to detect a drift at the start: all frames are used ({choose})"
    found = drift.found
    if found is None:
        rows = len(drift.times)
        return 0.0, f"too few rows of energies ({rows}) to detect a drift at the start: all frames are used ({choose})"
    if found.samples < FEWEST_SAMPLES and not found.start:
        return 0.0, (
            f"too few independent samples of the energies ({found.samples:.2g}) to detect a drift at the start: all "
            f"frames are used ({choose})"
        )
    if not found.start or found.series is None:
        return 0.0, f"no drift of energies and temperature at the start: all frames are used ({choose})"
    time = float(drift.times[found.start - 1])
    name, unit = _SERIES[found.series]
    direction = "higher" if found.shift > 0 else "lower"
    return time, (
        f"the first {time / PICOSECOND:.4g} ps are skipped: the {name} is {significant(abs(found.shift))} {unit} "
        f"{direction} there by {min(found.errors, 999):.0f} standard errors ({choose})"
    )


def _obstacle(run: Run, drift: _Drift | None, length: float) -> str | None:
    """Return the reason why ``length`` fs of a run do not allow a verdict, or None."""
    coupling = coupling_time(run.path)
    if coupling is not None and length < FEWEST_COUPLING_TIMES * coupling:
        return (
            f"{length / PICOSECOND:.4g} ps are less than {FEWEST_COUPLING_TIMES:g} time constants of the "
            f"thermostat or barostat, {coupling / PICOSECOND:g} ps: too short for a verdict"
        )
    found = None if drift is None else drift.found
    if found is None:
        return None
    if not found.settles:
        return "energies or temperature drift throughout the first half of the run: no verdict"
    if found.samples < FEWEST_SAMPLES:
        return f"the energies contain {found.samples:.2g} independent samples: too few for a verdict"
    return None


class _Coupling(BaseModel):
    """Thermostat and barostat settings in ``config.yaml`` of a run."""

    model_config = ConfigDict(extra="ignore")

    ensemble: str = ""
    friction: float = Field(0.005, gt=0)
    thermostat_time: float = Field(100.0, gt=0)
    barostat_time: float = Field(0.0, ge=0)


def coupling_time(directory: Path) -> float | None:
    """Return the longest time constant of the thermostat and the barostat of a run, fs; None if unknown."""
    try:
        coupling = _Coupling.model_validate(read_mapping(directory / CONFIG_FILE))
    except (ConfigError, ValidationError):
        return None
    ensemble = coupling.ensemble.lower()
    if not ensemble or ensemble == "nve":
        return None
    langevin = ensemble in ("nvt", "nvt-langevin", "npt")
    thermostat = 1 / coupling.friction if langevin else coupling.thermostat_time
    return max(thermostat, coupling.barostat_time) if ensemble.startswith("npt") else thermostat
