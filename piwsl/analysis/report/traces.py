"""Temperature and total energy against time."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from piwsl.analysis.comparison import Comparison
from piwsl.analysis.groups import RunGroup
from piwsl.analysis.report.figures import add_legend, legend_height
from piwsl.analysis.report.style import Layout, Palette, dress, new_figure
from piwsl.typing import FloatArray
from piwsl.units import PICOSECOND

MOST_POINTS = 2000  # of a series against time: more cannot be seen


def draw_energies(comparison: Comparison, layout: Layout, palette: Palette) -> Figure:
    """Temperature and total energy per atom of one run."""
    thermo, temperature = comparison.run.thermo, comparison.temperature
    assert thermo is not None
    figure, upper, lower = _axes(layout, 0)
    times = thermo.times / PICOSECOND
    _trace(upper, times, thermo.temperature, palette)
    if temperature is not None and temperature.target is not None:
        _thermostat(upper, temperature.target, palette)
    _trace(lower, times, _energy(comparison), palette)
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


def draw_several_energies(groups: Sequence[RunGroup], layout: Layout, palette: Palette) -> Figure:
    """Running means of several runs; replicas of one run in one color."""
    labels = [(group.name, place) for place, group in enumerate(groups)]
    figure, upper, lower = _axes(layout, 26 + legend_height(labels, layout))
    last = 0.0
    for index, group in enumerate(groups):
        color = palette.series[index % 6]
        for member in group.members:
            thermo = member.run.thermo
            if thermo is None:
                continue
            width = 1.4 if group.is_single else 0.7
            times = thermo.times / PICOSECOND
            for axes, values in ((upper, thermo.temperature), (lower, _energy(member))):
                axes.plot(*_running_mean(times, values), color=color, linewidth=width)
                if not member.stable:
                    axes.axvline(member.stable_time.value / PICOSECOND, color=color, linewidth=0.9, dashes=(2, 2))
            last = max(last, float(times[-1]))
    targets = {one.temperature.target for group in groups for one in group.members if one.temperature is not None}
    target = next(iter(targets), None)
    if len(targets) == 1 and target is not None:
        _thermostat(upper, target, palette)
    for axes in (upper, lower):
        dress(axes, palette)
    lower.set_xlim(0, last)
    add_legend(figure, labels, layout, palette, None, dashed=False)
    figure.align_ylabels()
    return figure


def _axes(layout: Layout, extra: float) -> tuple[Figure, Axes, Axes]:
    figure = new_figure(layout, (400 if layout.is_wide else 380) + extra)
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.set_ylabel("Temperature  [K]")
    lower.set_ylabel("Total energy\n\N{MINUS SIGN} mean  [meV/atom]")
    lower.set_xlabel("Time  [ps]")
    return figure, upper, lower


def _thermostat(axes: Axes, target: float, palette: Palette) -> None:
    axes.axhline(target, color=palette.ink, linewidth=1.2, dashes=(5, 3), label=f"thermostat {target:g} K")
    axes.legend(frameon=False, loc="lower right", borderaxespad=0.0)


def _energy(comparison: Comparison) -> FloatArray:
    """Total energy per atom from its mean, meV."""
    thermo = comparison.run.thermo
    assert thermo is not None
    finite = np.isfinite(thermo.total)
    start = float(np.mean(thermo.total[finite])) if finite.any() else 0.0
    return np.asarray((thermo.total - start) / len(comparison.run.species) * 1e3)


def _trace(axes: Axes, times: FloatArray, values: FloatArray, palette: Palette) -> None:
    """A series against time: what it spans as an area, its running mean as a line."""
    finite = np.isfinite(values)
    times, values = times[finite], values[finite]
    if not len(values):
        return
    points = min(len(values), MOST_POINTS)
    if points < len(values):
        starts = np.linspace(0, len(values), points, endpoint=False).astype(int)
        middles = np.add.reduceat(times, starts) / np.diff(np.append(starts, len(values)))
        low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
        axes.fill_between(middles, low, high, color=palette.outline, alpha=0.6, linewidth=0)
    else:
        axes.plot(times, values, color=palette.outline, linewidth=0.7)
    if len(values) // 50 > 1:
        axes.plot(*_running_mean(times, values), color=palette.run, linewidth=1.6)


def _running_mean(times: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Over a fiftieth of the series."""
    finite = np.isfinite(values)
    times, values = times[finite], values[finite]
    width = max(len(values) // 50, 1)
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    stops = np.arange(width, len(values) + 1, max(width // 10, 1))
    return times[stops - 1 - width // 2], (sums[stops] - sums[stops - width]) / width
