"""Figures of overlays: panels side by side, and one with the difference from the reference below."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from piwsl.analysis.report.legends import add_legend, dash_of, legend_height, run_handles
from piwsl.analysis.report.overlays import ALONE, Overlay, axis_label
from piwsl.analysis.report.style import Layout, Palette, dress, new_figure
from piwsl.analysis.statistics.curves import Curve
from piwsl.typing import FloatArray

MOST_POINTS = 600  # largest number of points of a band, more than a figure resolves
LARGE_PANEL, SMALL_PANEL = 300, 170  # pixels
FULL_TURN = 360.0  # degrees
NOISE = "95 % of noise"
REFERENCE_WIDTH = 3.0  # of its line, which must show below that of a run


def draw_with_difference(overlay: Overlay, layout: Layout, palette: Palette) -> Figure:
    """Draw the curves of runs and reference, and the differences below."""
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
    """Draw one panel per overlay; a single panel is large.

    Args:
        overlays: Contents of the panels.
        layout: Layout of the figure.
        palette: Colors of the figure.
        named: Whether to write the name of a single overlay above the panel, too; False if the title contains it.
    """
    rows = -(-len(overlays) // layout.columns)
    columns = -(-len(overlays) // rows)  # rows as equal as possible
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
            label = _folded(axis_label(overlays[0].vertical), SMALL_PANEL * rows - 40, layout)
            figure.supylabel(label, fontsize=layout.text, color=palette.muted)
    return figure


def _folded(label: str, pixels: float, layout: Layout) -> str:
    """Return a label in two lines where it is longer than a number of pixels."""
    if 0.55 * layout.text * len(label) <= pixels:
        return label
    spaces = [place for place, letter in enumerate(label) if letter == " " and label[place - 1] != " "]
    middle = min(spaces, key=lambda place: abs(place - len(label) / 2), default=None)
    return label if middle is None else f"{label[:middle]}\n{label[middle:].lstrip()}"


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
    """Draw the reference as an area or a broad line, and the runs as lines, with bands."""
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
    """Thin a band with many points to local minima and maxima. matplotlib thins lines automatically."""
    if len(x) <= MOST_POINTS:
        return x, low, high
    starts = np.linspace(0, len(x), MOST_POINTS, endpoint=False).astype(int)
    return x[starts], np.fmin.reduceat(low, starts), np.fmax.reduceat(high, starts)


def _support(overlay: Overlay) -> tuple[float, float]:
    """Return the range of x that contains data, with a margin."""
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
