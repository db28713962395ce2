"""The names of several runs above their figure."""

from collections.abc import Sequence
from typing import Literal

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from piwsl.md.report.style import DASHES, Layout, Palette

LETTER = 0.64  # width of a digit over the size of the text; most letters are narrower
HANDLE, GAP = 2.2, 1.4  # width of a line and the space between two names, in sizes of the text


def add_legend(
    figure: Figure,
    labels: Sequence[tuple[str, int]],
    layout: Layout,
    palette: Palette,
    first: Patch | Line2D | None,
    dashed: bool = True,
) -> None:
    """Put the names of the runs above the panels.

    Args:
        figure: gets the legend.
        labels: name and place of each run.
        layout: of the figure.
        palette: its colours.
        first: what stands before the runs, such as the reference.
        dashed: whether the lines of the figure are.
    """
    handles: list[Patch | Line2D] = [] if first is None else [first]
    for label, place in labels:
        dash = dash_of(place if dashed else 0)
        text = _shortened(label, layout)
        handles.append(Line2D([], [], color=palette.series[place % 6], linewidth=1.6, label=text, linestyle=dash))
    figure.legend(
        handles=handles,
        frameon=False,
        loc="outside upper right" if layout.is_wide else "outside upper left",
        ncols=min(len(handles), _columns(labels, layout)),
        handlelength=HANDLE,
        columnspacing=GAP,
    )


def legend_height(labels: Sequence[tuple[str, int]], layout: Layout) -> float:
    """Pixels that the names take beyond their first line, with one more entry for the reference."""
    return (-(-(len(labels) + 1) // _columns(labels, layout)) - 1) * 1.5 * layout.text


def dash_of(place: int) -> Literal["-"] | tuple[float, tuple[float, ...]]:
    """Lines of several runs differ in their dashes, too."""
    dashes = DASHES[place % len(DASHES)]
    return (0.0, dashes) if dashes else "-"


def _columns(labels: Sequence[tuple[str, int]], layout: Layout) -> int:
    longest = max(len(_shortened(label, layout)) for label, _ in [*labels, ("reference", 0)])
    entry = layout.text * (LETTER * longest + HANDLE + 0.8 + GAP)
    return max(int(layout.width / entry), 1)


def _shortened(label: str, layout: Layout) -> str:
    """A long name without its middle."""
    most = int((layout.width / layout.text - HANDLE - 3) / LETTER)
    half = (most - 1) // 2
    return label if len(label) <= most else f"{label[:half]}\N{HORIZONTAL ELLIPSIS}{label[-half:]}"
