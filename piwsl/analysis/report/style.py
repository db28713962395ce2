"""Colors and sizes of figures, in files and on the page."""

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from hashlib import sha256

import matplotlib
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

PIXELS_PER_INCH = 72  # resolution of matplotlib's SVG: one point of the figure is one pixel of the page


@dataclass(frozen=True)
class Palette:
    """Colors by role. Run and reference also differ in lightness and in shape (line, area)."""

    ink: str
    muted: str
    grid: str
    run: str
    reference: str
    outline: str  # outline of the reference
    alert: str
    second: str  # color of further runs
    third: str
    fourth: str
    fifth: str
    sixth: str

    @property
    def series(self) -> tuple[str, ...]:
        """Colors of several runs in order."""
        return (self.run, self.second, self.third, self.fourth, self.fifth, self.sixth)


# The colors of Okabe and Ito, which are distinguishable with every kind of color vision.
LIGHT = Palette(
    "#1b1f24", "#59636e", "#dfe3e8", "#0072b2", "#c8cfd6", "#8a949e", "#b34700",
    "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9",
)  # fmt: skip
# Colors of the page: placeholders that `page_svg` replaces by CSS variables, to support dark mode.
PAGE = Palette(*(f"#0101{number:02x}" for number in range(1, len(fields(Palette)) + 1)))
DASHES: tuple[tuple[float, ...], ...] = (
    (),
    (5, 1.5),
    (1.2, 1.2),
    (6, 1.5, 1.2, 1.5),
    (3, 1),
    (9, 2),
)  # of several runs


@dataclass(frozen=True)
class Layout:
    """Size and layout of a figure.

    Attributes:
        width: Width on the page, pixels.
        text: Font size, pixels.
        columns: Largest number of panels side by side.
    """

    width: int
    text: float
    columns: int

    @property
    def is_wide(self) -> bool:
        """Whether the figure is wider than a phone screen."""
        return self.columns > 2


WIDE = Layout(width=820, text=12.5, columns=4)
NARROW = Layout(width=350, text=12.0, columns=2)


Drawing = Callable[[Layout, Palette], Figure]


@dataclass(frozen=True)
class Plot:
    """A figure of the report.

    Attributes:
        name: Name of its files, without suffix.
        title: Title above the figure.
        caption: Caption below the figure.
        draw: Function that draws the figure in a layout and a palette.
    """

    name: str
    title: str
    caption: str
    draw: Drawing


@contextmanager
def drawing(layout: Layout, palette: Palette) -> Iterator[None]:
    """Configure matplotlib while a figure is drawn and written, and restore its settings afterwards."""
    with matplotlib.rc_context(
        {
            "text.parse_math": False,  # run and file names may contain dollar signs
            "font.size": layout.text,
            "axes.titlesize": layout.text,
            "axes.labelsize": layout.text,
            "xtick.labelsize": layout.text - 1,
            "ytick.labelsize": layout.text - 1,
            "legend.fontsize": layout.text,
            "text.color": palette.ink,
            "axes.labelcolor": palette.muted,
            "axes.edgecolor": palette.muted,
            "xtick.color": palette.muted,
            "ytick.color": palette.muted,
            "axes.unicode_minus": True,
            "axes.linewidth": 0.8,
            "lines.solid_capstyle": "round",
            "path.simplify_threshold": 0.25,  # in pixels
            "svg.fonttype": "none",  # text remains searchable, with the font of the page
            "svg.hashsalt": "piwsl",  # equal figures give equal files
        }
    ):
        yield


def new_figure(layout: Layout, height: float) -> Figure:
    """Return an empty figure with a given height in pixels and a transparent background."""
    size = (layout.width / PIXELS_PER_INCH, height / PIXELS_PER_INCH)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(wspace=0.08, hspace=0.04))
    figure.patch.set_alpha(0.0)
    return figure


def dress(axes: Axes, palette: Palette) -> None:
    """Style axes without a box and with a light grid behind the data."""
    axes.patch.set_alpha(0.0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=3, width=0.8)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color=palette.grid, linewidth=0.8)
    axes.set_axisbelow(True)


def file_svg(plot: Plot) -> str:
    """Return the figure as the text of an SVG file on a white background."""
    return _drawn(plot, WIDE, LIGHT, ground="white")


def page_svg(plot: Plot, layout: Layout) -> str:
    """Return the figure as an ``<svg>`` element whose ids begin with its name and the width of the layout."""
    text = _element(plot, _drawn(plot, layout, PAGE, ground="none"), f"{plot.name}-{layout.width}")
    for field in fields(PAGE):
        text = text.replace(getattr(PAGE, field.name), f"var(--{field.name})")
    return text


def notebook_svg(plot: Plot) -> str:
    """Return the figure as an ``<svg>`` element on a white background, with ids that no other output shares."""
    text = _drawn(plot, WIDE, LIGHT, ground="white")
    return _element(plot, text, f"{plot.name}-{sha256(text.encode()).hexdigest()[:12]}")


def _element(plot: Plot, text: str, name: str) -> str:
    """Return only the ``<svg>`` element, with ids that begin with ``name`` so that they are unique on the page."""
    text = text[text.index("<svg") :]
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(plot.title)}" ', 1)


def _drawn(plot: Plot, layout: Layout, palette: Palette, ground: str) -> str:
    stream = io.StringIO()
    with drawing(layout, palette):
        figure = plot.draw(layout, palette)
        figure.savefig(stream, format="svg", facecolor=ground, metadata={"Date": None})
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", stream.getvalue(), flags=re.DOTALL)
    # Two digits give a hundredth of a pixel.
    return re.sub(r'\bd="[^"]+"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path.group()), text)
