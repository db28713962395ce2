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

DOTS_PER_INCH = 200  # of PNG files
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
    """Return an empty figure with a given height in pixels, on a white background."""
    size = (layout.width / PIXELS_PER_INCH, height / PIXELS_PER_INCH)
    return Figure(figsize=size, layout=ConstrainedLayoutEngine(wspace=0.08, hspace=0.04))


def dress(axes: Axes, palette: Palette) -> None:
    """Style axes without a box and with a light grid behind the data."""
    axes.patch.set_alpha(0.0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=3, width=0.8)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color=palette.grid, linewidth=0.8)
    axes.set_axisbelow(True)


@dataclass(frozen=True)
class Pictures:
    """A figure in the forms of the files and of the page.

    Attributes:
        plot: Figure.
        png: PNG file on a white background.
        svg: Text of an SVG file on a white background.
        wide: ``<svg>`` element of the page.
        narrow: ``<svg>`` element of the page for phones.
    """

    plot: Plot
    png: bytes
    svg: str
    wide: str
    narrow: str


def pictures_of(plot: Plot) -> Pictures:
    """Draw a figure once for each layout, and return all its forms."""
    with drawing(WIDE, LIGHT):
        figure = plot.draw(WIDE, LIGHT)
        text = _svg(figure)
        figure.set_layout_engine("none")  # the positions found for the SVG file
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=DOTS_PER_INCH, facecolor="white", metadata={"Software": None})
    return Pictures(plot, stream.getvalue(), text, _of_page(plot, WIDE, text), page_svg(plot, NARROW))


def page_svg(plot: Plot, layout: Layout) -> str:
    """Return the figure as an ``<svg>`` element whose ids begin with its name and the width of the layout."""
    return _of_page(plot, layout, _drawn(plot, layout))


def notebook_svg(plot: Plot) -> str:
    """Return the figure as an ``<svg>`` element on a white background, with ids that no other output shares."""
    text = _drawn(plot, WIDE)
    return _element(plot, text, f"{plot.name}-{sha256(text.encode()).hexdigest()[:12]}")


def _of_page(plot: Plot, layout: Layout, text: str) -> str:
    """Return an element without background, whose colors are CSS variables, to support dark mode."""
    text = _element(plot, text, f"{plot.name}-{layout.width}").replace("fill: #ffffff", "fill: none", 1)
    for field in fields(LIGHT):
        text = text.replace(getattr(LIGHT, field.name), f"var(--{field.name})")
    return text


def _element(plot: Plot, text: str, name: str) -> str:
    """Return only the ``<svg>`` element, with ids that begin with ``name`` so that they are unique on the page."""
    text = text[text.index("<svg") :]
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(plot.title)}" ', 1)


def _drawn(plot: Plot, layout: Layout) -> str:
    with drawing(layout, LIGHT):
        return _svg(plot.draw(layout, LIGHT))


def _svg(figure: Figure) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", facecolor="white", metadata={"Date": None})
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", stream.getvalue(), flags=re.DOTALL)
    # Two digits give a hundredth of a pixel.
    return re.sub(r'\bd="[^"]+"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path.group()), text)
