"""Figures of temperature and energy against time, of one run or of several."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from piwsl.analysis.comparison import Comparison
from piwsl.analysis.groups import RunGroup
from piwsl.analysis.report.legends import add_legend, legend_height, run_handles
from piwsl.analysis.report.style import Layout, Palette, dress, new_figure
from piwsl.typing import FloatArray
from piwsl.units import PICOSECOND

MOST_TRACE_POINTS = 2000  # largest number of points of a time series


def draw_energies(comparison: Comparison, layout: Layout, palette: Palette) -> Figure:
    """Draw temperature and total energy per atom of one run."""
    thermo, target = comparison.run.thermo, comparison.run.target_temperature
    assert thermo is not None
    times = thermo.times / PICOSECOND
    has_mean = has_running_mean(comparison)
    handles: list[Patch | Line2D] = []
    if has_mean:
        handles.append(Line2D([], [], color=palette.outline, linewidth=1.2, label="values"))
        handles.append(Line2D([], [], color=palette.run, linewidth=1.6, label="running mean"))
    if target is not None:
        handles.append(_thermostat_handle(palette))
    if not comparison.stable:
        handles.append(Line2D([], [], color=palette.alert, linewidth=1.4, label="stable until"))
    names = [str(handle.get_label()) for handle in handles]
    figure, upper, lower = _axes(layout, 26 + legend_height(names, layout) if names else 0)
    _trace(upper, times, thermo.temperature, palette, has_mean)
    if target is not None:
        _thermostat(upper, target, palette)
    _trace(lower, times, _energy(comparison), palette, has_mean)
    for axes in (upper, lower):
        dress(axes, palette)
        if not comparison.stable:
            axes.axvline(comparison.stable_time.value / PICOSECOND, color=palette.alert, linewidth=1.4)
    if handles:
        add_legend(figure, handles, layout)
    lower.set_xlim(0, float(times[-1]))
    figure.align_ylabels()
    return figure


def has_running_mean(comparison: Comparison) -> bool:
    """Return whether a run has so many rows of energies that a fiftieth of them is more than one."""
    thermo = comparison.run.thermo
    return thermo is not None and int(np.isfinite(thermo.total).sum()) // 50 > 1


def draw_several_energies(groups: Sequence[RunGroup], layout: Layout, palette: Palette) -> Figure:
    """Draw running means of several runs; replicas of a run share a color."""
    labels = [(group.name, place) for place, group in enumerate(groups)]
    targets = {
        member.run.target_temperature for group in groups for member in group.members if member.run.thermo is not None
    }
    target = next(iter(targets)) if len(targets) == 1 else None
    handles = run_handles(labels, layout, palette, dashed=False)
    if target is not None:
        handles.append(_thermostat_handle(palette))
    names = [str(handle.get_label()) for handle in handles]
    figure, upper, lower = _axes(layout, 26 + legend_height(names, layout))
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
    if target is not None:
        _thermostat(upper, target, palette)
    for axes in (upper, lower):
        dress(axes, palette)
    lower.set_xlim(0, last)
    add_legend(figure, handles, layout)
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
    axes.axhline(target, color=palette.ink, linewidth=1.2, dashes=(5, 3), label="thermostat")


def _thermostat_handle(palette: Palette) -> Line2D:
    return Line2D([], [], color=palette.ink, linewidth=1.2, linestyle=(0, (3, 1.5)), label="thermostat")


def _energy(comparison: Comparison) -> FloatArray:
    """Return the total energy per atom minus its mean, meV."""
    thermo = comparison.run.thermo
    assert thermo is not None
    finite = np.isfinite(thermo.total)
    start = float(np.mean(thermo.total[finite])) if finite.any() else 0.0
    return np.asarray((thermo.total - start) / len(comparison.run.species) * 1e3)


def _trace(axes: Axes, times: FloatArray, values: FloatArray, palette: Palette, has_mean: bool) -> None:
    """Draw a series against time: its span as an area and its running mean as a line, or few values as a line."""
    finite = np.isfinite(values)
    times, values = times[finite], values[finite]
    if not len(values):
        return
    if not has_mean:
        axes.plot(times, values, color=palette.run, linewidth=1.3, marker="o" if len(values) == 1 else None)
        return
    points = min(len(values), MOST_TRACE_POINTS)
    if points < len(values):
        starts = np.linspace(0, len(values), points, endpoint=False).astype(int)
        middles = np.add.reduceat(times, starts) / np.diff(np.append(starts, len(values)))
        low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
        axes.fill_between(middles, low, high, color=palette.outline, alpha=0.6, linewidth=0)
    else:
        axes.plot(times, values, color=palette.outline, linewidth=0.7)
    axes.plot(*_running_mean(times, values), color=palette.run, linewidth=1.6)


def _running_mean(times: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return times and running means over a fiftieth of the series."""
    finite = np.isfinite(values)
    times, values = times[finite], values[finite]
    width = max(len(values) // 50, 1)
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    stops = np.arange(width, len(values) + 1, max(width // 10, 1))
    return times[stops - 1 - width // 2], (sums[stops] - sums[stops - width]) / width
