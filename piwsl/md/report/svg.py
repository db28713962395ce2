"""Figures as SVG that belongs to a page: its fonts, its colours, its dark mode."""

import io
import re
from dataclasses import fields

from piwsl.md.analysis.comparison import Comparison
from piwsl.md.report.figures import Drawing
from piwsl.md.report.style import PAGE, Layout, drawing


def page_svg(draw: Drawing, comparison: Comparison, layout: Layout, name: str, title: str) -> str:
    """Draw a figure as an ``<svg>`` element.

    Args:
        draw: of `piwsl.md.report.figures`.
        comparison: what is drawn.
        layout: size.
        name: unique on the page: prefix of all its ids.
        title: what a screen reader says.
    """
    stream = io.StringIO()
    with drawing(layout, PAGE):
        figure = draw(comparison, layout, PAGE)
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    for field in fields(PAGE):
        text = text.replace(getattr(PAGE, field.name), f"var(--{field.name})")
    # Two figures of one page must not share ids.
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)
