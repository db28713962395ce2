"""The figures of an analysis. Each function draws one comparison into one figure."""

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from piwsl.md.analysis.comparison import Comparison
from piwsl.md.analysis.distributions import DistributionComparison
from piwsl.md.analysis.results import Distribution
from piwsl.md.report.style import Layout, Palette, dress, new_figure
from piwsl.typing import FloatArray
from piwsl.units import PICOSECOND

TWO_SIDED = 1.96  # standard errors that hold 95 of 100 cases
MOST_POINTS = 2000  # of a curve against time: more cannot be seen
PER_ANGSTROM = "1/Å"

Drawing = Callable[[Comparison, Layout, Palette], Figure]


def draw_distances(comparison: Comparison, layout: Layout, palette: Palette) -> Figure:
    """h(r) of the run over that of the reference, and their difference below."""
    found = comparison.distances
    assert found is not None
    figure = new_figure(layout, 430 if layout.columns > 2 else 400)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2.6, 1])
    _overlay(upper, found, palette)
    upper.set_ylabel(f"h(r)  [{PER_ANGSTROM}]")
    upper.set_ylim(bottom=0)
    upper.legend(frameon=False, loc="upper right", borderaxespad=0.0)
    gap = found.run.density - found.reference.density
    centres = found.run.centres
    if found.run.error is not None and found.reference.error is not None:
        noise = TWO_SIDED * np.hypot(found.run.error, found.reference.error)
        lower.fill_between(centres, -noise, noise, color=palette.reference, linewidth=0, label="95 % of noise")
    lower.plot(centres, gap, color=palette.run, linewidth=1.1)
    lower.axhline(0, color=palette.muted, linewidth=0.8)
    largest = 1.15 * float(max(np.abs(gap).max(), 1e-6))
    lower.set_ylim(-largest, largest)
    lower.set_ylabel("run \N{MINUS SIGN} ref.")
    lower.set_xlabel("Interatomic distance r  [Å]")
    lower.set_xlim(*_support(found))
    if lower.get_legend_handles_labels()[0]:
        lower.legend(frameon=False, loc="upper right", borderaxespad=0.0)
    for axes in (upper, lower):
        dress(axes, palette)
    figure.align_ylabels()
    return figure


def draw_bonds(comparison: Comparison, layout: Layout, palette: Palette) -> Figure:
    """Bond-length distributions of the run over those of the reference, one panel per bond type."""
    columns = min(layout.columns, len(comparison.bonds))
    rows = -(-len(comparison.bonds) // columns)
    figure = new_figure(layout, 60 + 170 * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, bond in zip(grid.flat, comparison.bonds, strict=False):
        _overlay(axes, bond.distribution, palette)
        dress(axes, palette)
        axes.set_title(bond.kind.replace("-", "\N{EN DASH}"), loc="left", fontweight="bold")
        axes.set_title(f"overlap {bond.distribution.overlap.value:.2f}", loc="right", color=palette.muted)
        axes.set_xlim(*_support(bond.distribution))
        axes.set_ylim(bottom=0)
        axes.set_yticks([])  # every area is 1
        axes.locator_params(axis="x", nbins=4)
    for axes in grid.flat[len(comparison.bonds) :]:
        axes.set_visible(False)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside upper right", ncols=2)
    figure.supxlabel("Bond length  [Å]", fontsize=layout.text, color=palette.muted)
    return figure


def draw_energies(comparison: Comparison, layout: Layout, palette: Palette) -> Figure:
    """Temperature and total energy per atom against time."""
    thermo, temperature = comparison.run.thermo, comparison.temperature
    assert thermo is not None
    figure = new_figure(layout, 400 if layout.columns > 2 else 380)
    upper, lower = figure.subplots(2, 1, sharex=True)
    times = thermo.times / PICOSECOND
    _trace(upper, times, thermo.temperature, palette)
    upper.set_ylabel("Temperature  [K]")
    if temperature is not None and temperature.target is not None:
        upper.axhline(
            temperature.target,
            color=palette.ink,
            linewidth=1.2,
            dashes=(5, 3),
            label=f"thermostat {temperature.target:g} K",
        )
        upper.legend(frameon=False, loc="lower right", borderaxespad=0.0)
    finite = np.isfinite(thermo.total)
    atoms = len(comparison.run.species)
    start = float(np.mean(thermo.total[finite])) if finite.any() else 0.0
    _trace(lower, times, (thermo.total - start) / atoms * 1e3, palette)
    lower.set_ylabel("Total energy\n\N{MINUS SIGN} mean  [meV/atom]")
    lower.set_xlabel("Time  [ps]")
    for axes in (upper, lower):
        dress(axes, palette)
        if not comparison.stable:
            axes.axvline(comparison.stable_time.value / PICOSECOND, color=palette.alert, linewidth=1.4)
    if not comparison.stable:
        lower.plot([], [], color=palette.alert, linewidth=1.4, label="end of the stable part")
        lower.legend(frameon=False, loc="lower right", borderaxespad=0.0)
    lower.set_xlim(0, float(times[-1]))
    figure.align_ylabels()
    return figure


def _overlay(axes: Axes, found: DistributionComparison, palette: Palette) -> None:
    """The reference as an area, the run as a line with its band."""
    reference, run = found.reference, found.run
    axes.fill_between(reference.centres, reference.density, color=palette.reference, linewidth=0, label="reference")
    axes.plot(reference.centres, reference.density, color=palette.outline, linewidth=0.9)
    if run.error is not None:
        low, high = run.density - TWO_SIDED * run.error, run.density + TWO_SIDED * run.error
        axes.fill_between(run.centres, np.maximum(low, 0), high, color=palette.run, alpha=0.25, linewidth=0)
    axes.plot(run.centres, run.density, color=palette.run, linewidth=1.3, label="run")


def _support(found: DistributionComparison) -> tuple[float, float]:
    """Where there is something to see, with a margin."""
    inside = [_inside(one) for one in (found.run, found.reference)]
    low, high = min(one[0] for one in inside), max(one[1] for one in inside)
    margin = 0.03 * (high - low)
    return max(low - margin, float(found.run.edges[0])), min(high + margin, float(found.run.edges[-1]))


def _inside(one: Distribution) -> tuple[float, float]:
    filled = np.flatnonzero(one.density > 1e-3 * one.density.max())
    return float(one.edges[filled[0]]), float(one.edges[filled[-1] + 1])


def _trace(axes: Axes, times: FloatArray, values: FloatArray, palette: Palette) -> None:
    """A series against time: what it spans as an area, its running mean as a line."""
    finite = np.isfinite(values)
    times, values = times[finite], values[finite]
    if not len(values):
        return
    points = min(len(values), MOST_POINTS)
    starts = np.linspace(0, len(values), points, endpoint=False).astype(int)
    counts = np.diff(np.append(starts, len(values)))
    middles = np.add.reduceat(times, starts) / counts
    low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    if points < len(values):
        axes.fill_between(middles, low, high, color=palette.outline, alpha=0.6, linewidth=0)
    else:
        axes.plot(times, values, color=palette.outline, linewidth=0.7)
    width = max(len(values) // 50, 1)
    if width > 1:
        sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
        stops = np.arange(width, len(values) + 1, max(width // 10, 1))
        mean = (sums[stops] - sums[stops - width]) / width
        axes.plot(times[stops - 1 - width // 2], mean, color=palette.run, linewidth=1.6)
