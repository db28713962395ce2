"""Figures as SVG: files of their own, and elements of a page with its fonts, its colours, its dark mode."""

import io
import re
from dataclasses import fields

from markupsafe import escape

from piwsl.md.report.plots import Plot
from piwsl.md.report.style import LIGHT, PAGE, WIDE, Layout, Palette, drawing


def file_svg(plot: Plot) -> str:
    """The figure as the text of an SVG file on a white ground."""
    return _drawn(plot, WIDE, LIGHT, ground="white")


def page_svg(plot: Plot, layout: Layout) -> str:
    """The figure as an ``<svg>`` element whose ids begin with its name and the width of the layout."""
    text = _drawn(plot, layout, PAGE, ground="none")
    text = text[text.index("<svg") :]
    for field in fields(PAGE):
        text = text.replace(getattr(PAGE, field.name), f"var(--{field.name})")
    # Two figures of one page must not share ids.
    name = f"{plot.name}-{layout.width}"
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
    # A hundredth of a pixel is enough.
    return re.sub(r'\bd="[^"]+"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path.group()), text)
