"""Drawing figures: panels of overlays, one with the difference from the reference below, and energies against time."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from piwsl.analysis.comparison import Comparison
from piwsl.analysis.groups import RunGroup
from piwsl.analysis.report.overlays import ALONE, Overlay, axis_label
from piwsl.analysis.report.style import DASHES, Layout, Palette, dress, new_figure
from piwsl.analysis.statistics.curves import Curve
from piwsl.typing import FloatArray
from piwsl.units import PICOSECOND

MOST_POINTS = 600  # of a band, more than a figure resolves
MOST_TRACE_POINTS = 2000  # of a series against time
LARGE_PANEL, SMALL_PANEL = 300, 170  # pixels
FULL_TURN = 360.0  # degrees
NOISE = "95 % of noise"
REFERENCE_WIDTH = 3.0  # of its line, which must show below that of a run


def draw_with_difference(overlay: Overlay, layout: Layout, palette: Palette) -> Figure:
    """Draw the curves of the runs over that of the reference, and their difference below."""
    reference = overlay.reference
    assert reference is not None
    names = len(overlay.lines) > 1
    labels = [label for label, _ in _labels([overlay])] if names else [ALONE, NOISE]
    figure = new_figure(layout, (446 if layout.is_wide else 416) + legend_height(["reference", *labels], layout))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2.6, 1])
    _draw(upper, overlay, palette)
    upper.set_ylabel(axis_label(overlay.vertical))
    upper.set_ylim(bottom=0)
    largest, has_band = 1e-6, False
    for line in overlay.lines:
        curve = line.curve
        gap = curve.y - np.interp(curve.x, reference.x, reference.y)
        if not names:
            band = _noise_band(lower, curve, reference, palette)
            has_band, largest = band > 0, max(band, largest)
        lower.plot(curve.x, gap, color=palette.series[line.place % 6], linewidth=1.1, linestyle=dash_of(line.place))
        largest = max(largest, float(np.nanmax(np.abs(gap))))
    lower.axhline(0, color=palette.muted, linewidth=0.8)
    lower.set_ylim(-1.08 * largest, 1.08 * largest)
    lower.set_ylabel("run \N{MINUS SIGN} ref.")
    lower.set_xlabel(axis_label(overlay.horizontal))
    lower.set_xlim(*_support(overlay))
    last = [Patch(facecolor=palette.reference, label=NOISE)] if has_band else []
    _shared_legend(figure, [overlay], layout, palette, last)
    for axes in (upper, lower):
        dress(axes, palette)
    figure.align_ylabels()
    return figure


def draw_panels(overlays: Sequence[Overlay], layout: Layout, palette: Palette, named: bool = True) -> Figure:
    """Draw one panel for each overlay; a single one is large.

    Args:
        overlays: what the panels show.
        layout: of the figure.
        palette: its colors.
        named: write the name of a single overlay above it, too; False where the title of the figure contains it.
    """
    rows = -(-len(overlays) // layout.columns)
    columns = -(-len(overlays) // rows)  # as even as can be
    height = 60 + (LARGE_PANEL if len(overlays) == 1 else SMALL_PANEL * rows)
    labels = ["reference", *(label for label, _ in _labels(overlays))]
    lines = max(_title_lines(overlay, layout, columns) for overlay in overlays)
    figure = new_figure(layout, height + legend_height(labels, layout) + (lines - 1) * rows * 1.25 * layout.text)
    grid = figure.subplots(rows, columns, squeeze=False)
    same_labels = len({(axis_label(entry.horizontal), axis_label(entry.vertical)) for entry in overlays}) == 1
    all_densities = all(entry.is_density for entry in overlays)
    for axes, overlay in zip_longest(grid.flat, overlays):
        if overlay is None:
            axes.set_visible(False)
            continue
        _draw(axes, overlay, palette)
        dress(axes, palette)
        if len(overlays) > 1 or named:
            _panel_titles(axes, overlay, layout, palette, lines)
        if len(overlays) > 1:
            axes.locator_params(axis="x", nbins=4 if layout.is_wide else 3)
            axes.locator_params(axis="y", nbins=4)
        low, high = _support(overlay)
        axes.set_xlim(low, high)
        if high - low > FULL_TURN - 20 and overlay.horizontal.unit == "degree":
            axes.set_xticks([-180, -90, 0, 90, 180] if columns < 3 and layout.is_wide else [-180, 0, 180])
            axes.set_xlim(-180, 180)
        if overlay.is_density:
            axes.set_ylim(bottom=0)
            axes.set_yticks([])  # every area is 1
        elif overlay.is_steps:
            axes.set_ylim(0, 1.03)
        if not same_labels or len(overlays) == 1:
            axes.set_xlabel(axis_label(overlay.horizontal))
            axes.set_ylabel(axis_label(overlay.vertical))
    _shared_legend(figure, overlays, layout, palette)
    if same_labels and len(overlays) > 1:
        figure.supxlabel(axis_label(overlays[0].horizontal), fontsize=layout.text, color=palette.muted)
        if not all_densities:
            figure.supylabel(axis_label(overlays[0].vertical), fontsize=layout.text, color=palette.muted)
    return figure


def _labels(overlays: Sequence[Overlay]) -> list[tuple[str, int]]:
    return sorted({(line.label, line.place) for entry in overlays for line in entry.lines}, key=lambda label: label[1])


def _shared_legend(
    figure: Figure, overlays: Sequence[Overlay], layout: Layout, palette: Palette, last: Sequence[Patch] = ()
) -> None:
    labels = _labels(overlays)
    first: list[Patch | Line2D] = []
    if any(entry.reference is not None for entry in overlays):
        if any(entry.is_density for entry in overlays):
            first = [Patch(facecolor=palette.reference, edgecolor=palette.outline, label="reference")]
        else:
            first = [Line2D([], [], color=palette.outline, linewidth=REFERENCE_WIDTH, label="reference")]
    if first or labels[0][0] != ALONE:
        add_legend(figure, [*first, *run_handles(labels, layout, palette), *last], layout)


def _panel_titles(axes: Axes, overlay: Overlay, layout: Layout, palette: Palette, lines: int) -> None:
    """Write the name above a panel, and the remark to its right or in the lines below the name."""
    title = overlay.name.replace("-", "\N{EN DASH}")
    if lines == 1:
        axes.set_title(title, loc="left", fontweight="bold")
        axes.set_title(overlay.remark, loc="right", color=palette.muted)
        return
    remark = overlay.remark if lines == 2 else overlay.remark.replace(", ", ",\n", 1)
    axes.set_title(title, loc="left", fontweight="bold", pad=6 + (lines - 1) * 1.25 * layout.text)
    axes.annotate(
        remark, (0, 1), (0, 5), "axes fraction", "offset points",
        color=palette.muted, fontsize=layout.text - 1, annotation_clip=False,
    ).set_in_layout(False)  # fmt: skip


def _title_lines(overlay: Overlay, layout: Layout, columns: int) -> int:
    """Return the number of lines above a panel."""
    per_panel = 0.8 * layout.width / columns / (0.58 * layout.text)  # characters; some of the width holds the ticks
    if not overlay.remark or len(overlay.name) + len(overlay.remark) + 2 <= per_panel:
        return 1
    return 2 if len(overlay.remark) <= per_panel or ", " not in overlay.remark else 3


def _draw(axes: Axes, overlay: Overlay, palette: Palette) -> None:
    """Draw the reference as an area or a broad line, and the runs as lines, each with its band."""
    reference = overlay.reference
    style = "steps-post" if overlay.is_steps else "default"
    step: Literal["post"] | None = "post" if overlay.is_steps else None
    if reference is not None:
        x, y = reference.x, reference.y
        if overlay.is_density:
            axes.fill_between(x, y, color=palette.reference, linewidth=0)
            axes.plot(x, y, color=palette.outline, linewidth=0.9)
        else:
            if reference.low is not None and reference.high is not None:
                band = _thinned(x, reference.low, reference.high)
                axes.fill_between(*band, color=palette.reference, alpha=0.7, linewidth=0, step=step)
            axes.plot(
                x, y, color=palette.outline, linewidth=REFERENCE_WIDTH, drawstyle=style, alpha=0.75, label="reference"
            )
    for line in overlay.lines:
        color, curve = palette.series[line.place % 6], line.curve
        if curve.low is not None and curve.high is not None:
            alpha = 0.25 if len(overlay.lines) == 1 else 0.14 if len(overlay.lines) < 4 else 0.08
            band = _thinned(curve.x, curve.low, curve.high)
            axes.fill_between(*band, color=color, alpha=alpha, linewidth=0, step=step)
        dash = dash_of(line.place)
        axes.plot(curve.x, curve.y, color=color, linewidth=1.3, drawstyle=style, label=line.label, linestyle=dash)


def _noise_band(axes: Axes, run: Curve, reference: Curve, palette: Palette) -> float:
    """Draw what noise alone explains and return its largest value; 0 where it is not known."""
    if run.high is None or reference.high is None:
        return 0.0
    noise = np.hypot(run.high - run.y, np.interp(run.x, reference.x, reference.high - reference.y))
    axes.fill_between(run.x, -noise, noise, color=palette.reference, linewidth=0)
    return float(np.nanmax(noise))


def _thinned(x: FloatArray, low: FloatArray, high: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Thin a band of many points to the span of their neighborhoods; matplotlib thins lines itself."""
    if len(x) <= MOST_POINTS:
        return x, low, high
    starts = np.linspace(0, len(x), MOST_POINTS, endpoint=False).astype(int)
    return x[starts], np.fmin.reduceat(low, starts), np.fmax.reduceat(high, starts)


def _support(overlay: Overlay) -> tuple[float, float]:
    """Return the range of x that holds data, with a margin."""
    curves = [line.curve for line in overlay.lines] + ([] if overlay.reference is None else [overlay.reference])
    spans = [_inside(entry, overlay.is_density) for entry in curves]
    low, high = min(entry[0] for entry in spans), max(entry[1] for entry in spans)
    margin = 0.03 * (high - low) if overlay.is_density else 0.0
    first, last = min(float(entry.x[0]) for entry in curves), max(float(entry.x[-1]) for entry in curves)
    return (max(low - margin, first), min(high + margin, last)) if high > low else (low - 0.5, high + 0.5)


def _inside(curve: Curve, is_density: bool) -> tuple[float, float]:
    if not is_density:
        return float(curve.x[0]), float(curve.x[-1])
    filled = np.flatnonzero(curve.y > 1e-3 * np.nanmax(curve.y))
    return float(curve.x[filled[0]]), float(curve.x[filled[-1]])


LETTER = 0.64  # width of a digit over the size of the text; most letters are narrower
HANDLE, GAP = 2.2, 1.4  # width of a line and the space between two names, in sizes of the text


def add_legend(figure: Figure, handles: Sequence[Patch | Line2D], layout: Layout) -> None:
    """Put a legend above the panels, where it covers no data."""
    names = [str(handle.get_label()) for handle in handles]
    figure.legend(
        handles=list(handles),
        frameon=False,
        loc="outside upper right" if layout.is_wide else "outside upper left",
        ncols=min(len(handles), _columns(names, layout)),
        handlelength=HANDLE,
        columnspacing=GAP,
    )


def run_handles(
    labels: Sequence[tuple[str, int]], layout: Layout, palette: Palette, dashed: bool = True
) -> list[Patch | Line2D]:
    """Return the entries of a legend for runs.

    Args:
        labels: name and place of each run.
        layout: of the figure.
        palette: its colors.
        dashed: whether the lines of the figure are.
    """
    return [
        Line2D(
            [], [], color=palette.series[place % 6], linewidth=1.6, label=_shortened(label, layout),
            linestyle=dash_of(place if dashed else 0),
        )
        for label, place in labels
    ]  # fmt: skip


def legend_height(names: Sequence[str], layout: Layout) -> float:
    """Return the height in pixels of a legend beyond its first line."""
    return (-(-len(names) // _columns(names, layout)) - 1) * 1.5 * layout.text


def dash_of(place: int) -> Literal["-"] | tuple[float, tuple[float, ...]]:
    """Return the dashes of a run; lines of several runs differ in them, too."""
    dashes = DASHES[place % len(DASHES)]
    return (0.0, dashes) if dashes else "-"


def _columns(names: Sequence[str], layout: Layout) -> int:
    longest = max(len(_shortened(name, layout)) for name in names)
    entry = layout.text * (LETTER * longest + HANDLE + 0.8 + GAP)
    return max(int(layout.width / entry), 1)


def _shortened(label: str, layout: Layout) -> str:
    """Shorten a long name in its middle."""
    most = int((layout.width / layout.text - HANDLE - 3) / LETTER)
    half = (most - 1) // 2
    return label if len(label) <= most else f"{label[:half]}\N{HORIZONTAL ELLIPSIS}{label[-half:]}"


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
    """Draw running means of several runs; replicas of one run in one color."""
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
    """Return times and means over a fiftieth of the series."""
    finite = np.isfinite(values)
    times, values = times[finite], values[finite]
    width = max(len(values) // 50, 1)
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    stops = np.arange(width, len(values) + 1, max(width // 10, 1))
    return times[stops - 1 - width // 2], (sums[stops] - sums[stops - width]) / width
