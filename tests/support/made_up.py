"""Curves, comparisons and groups of runs made up for the tests of the report."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from piwsl.analysis.compare_run import compare_run
from piwsl.analysis.comparison import Comparison
from piwsl.analysis.groups import RunGroup
from piwsl.analysis.quantity import QuantityComparison
from piwsl.analysis.reference import Reference
from piwsl.analysis.run_directory import read_run
from piwsl.analysis.statistics.curves import Axis, Curve, CurveComparison
from piwsl.analysis.statistics.results import Difference, Measurement
from tests.support import run_directories as runs


@cache
def reference(frames: int = 600) -> Reference:
    """Return the frames that runs are compared with; their statistics are computed once."""
    return Reference.of_frames("mine", runs.ETHANOL.numbers, runs.shaking(frames, seed=50), 50.0 * np.arange(frames))


def comparison(
    path: Path, positions: np.ndarray, curves: tuple[CurveComparison, ...] = (), **options: Any
) -> Comparison:
    """Of a run directory written at ``path``."""
    found = compare_run(read_run(runs.write_run(path, positions, **options)), reference())
    without = tuple(replace(entry, curves=()) for entry in found.compared)
    return replace(found, compared=(*without, QuantityComparison("made up", None, curves=curves)))


def single(path: Path, seed: int = 1, curves: tuple[CurveComparison, ...] = (), **options: Any) -> RunGroup:
    """A stable run of 500 frames."""
    return RunGroup(path.name, (comparison(path, runs.shaking(500, seed=seed), curves, **options),))


def torsion(name: str = "C-C-O-H", shift: float = 0.0) -> CurveComparison:
    """A profile with a band and with bins that nobody visited."""
    angles = np.linspace(-175, 175, 36)
    energies = 50 * (1 - np.cos(np.radians(3 * angles + shift)))
    energies[5:8] = np.nan
    ours = Curve(angles, energies, energies - 4, energies + 4, 40)
    theirs = Curve(angles, energies + 2, energies, energies + 4, 400)
    difference = Difference(Measurement(2.0, 1.0, "meV", 40), 3.0, 1.0)
    axes = Axis("Dihedral angle", "degree"), Axis("Free energy", "meV")
    return CurveComparison(
        f"torsion.{name}", name, *axes, ours, theirs, difference, notes=("zero is the minimum of each profile",)
    )


def spectrum(peak: float = 1700.0) -> CurveComparison:
    """A line with a peak, and numbers read from it."""
    wavenumbers = np.linspace(0, 4000, 2001)
    ours, theirs = (np.exp(-(((wavenumbers - place) / 20) ** 2)) for place in (peak, 1700.0))
    numbers = {"highest peak": (Measurement(peak, 3.0, "1/cm", 30), Measurement(1700.0, 0.5, "1/cm", 300))}
    return CurveComparison(
        "spectrum",
        "Vibrational spectrum",
        Axis("Wavenumber", "1/cm"),
        Axis("Intensity", ""),
        Curve(wavenumbers, ours, 0.9 * ours, 1.1 * ours, 30),
        Curve(wavenumbers, theirs, None, None, 300),
        numbers=numbers,
    )


def survival() -> CurveComparison:
    """Steps without a reference."""
    times, share = np.array([0.0, 5.0, 12.0, 25.0]), np.array([1.0, 0.75, 0.5, 0.5])
    axes = Axis("Time", "ps"), Axis("Stable replicas", "")
    return CurveComparison("survival", "Survival", *axes, Curve(times, share, share - 0.1, share, 4), is_steps=True)
