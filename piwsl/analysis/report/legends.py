"""Legends above the panels of a figure, where they cover no data."""

from collections.abc import Sequence
from typing import Literal

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from piwsl.analysis.report.style import DASHES, Layout, Palette

LETTER = 0.64  # ratio of digit width to font size; most letters are narrower
HANDLE, GAP = 2.2, 1.4  # length of a legend line and space between names, in units of the font size


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
    """Return the dash pattern of a run, which distinguishes runs in addition to color."""
    dashes = DASHES[place % len(DASHES)]
    return (0.0, dashes) if dashes else "-"


def _columns(names: Sequence[str], layout: Layout) -> int:
    longest = max(len(_shortened(name, layout)) for name in names)
    entry = layout.text * (LETTER * longest + HANDLE + 0.8 + GAP)
    return max(int(layout.width / entry), 1)


def _shortened(label: str, layout: Layout) -> str:
    """Shorten a long name by removing its middle."""
    most = int((layout.width / layout.text - HANDLE - 3) / LETTER)
    half = (most - 1) // 2
    return label if len(label) <= most else f"{label[:half]}\N{HORIZONTAL ELLIPSIS}{label[-half:]}"
