"""HTML representations of results in notebooks: tables, pictures and lines, with all text escaped.

The HTML is self-contained: pictures are embedded, and the notebook determines the colors.
"""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any


def table(rows: Iterable[Sequence[object]], header: Sequence[object] = ()) -> str:
    """Return a table; the first column is left-aligned, and the other columns are right-aligned."""
    head = f"<thead>{_row('th', header)}</thead>" if header else ""
    return f"<table>{head}<tbody>{''.join(_row('td', row) for row in rows)}</tbody></table>"


def _row(tag: str, cells: Sequence[object]) -> str:
    sides = ("left", *("right" for _ in cells[1:]))
    texts = (
        f'<{tag} style="text-align: {side}">{escape(str(cell))}</{tag}>'
        for cell, side in zip(cells, sides, strict=True)
    )
    return f"<tr>{''.join(texts)}</tr>"


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """Return a left-aligned table of names and values; empty values are omitted."""
    rows = (
        f'<tr><th style="text-align: left">{escape(name)}</th>'
        f'<td style="text-align: left">{escape(str(value))}</td></tr>'
        for name, value in pairs
        if value is not None and value != ""
    )
    return f"<table><tbody>{''.join(rows)}</tbody></table>"


def heading(text: str) -> str:
    """Return a line in bold."""
    return f"<p><b>{escape(text)}</b></p>"


def lines(texts: Iterable[str]) -> str:
    """Return lines of text as a paragraph; empty if there are no lines."""
    content = "<br>".join(escape(text) for text in texts)
    return f"<p>{content}</p>" if content else ""


def picture(figure: Any, name: str) -> str:
    """Return a matplotlib figure as an embedded image; ``name`` is the alternative text."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    encoded = base64.b64encode(content.getvalue()).decode()
    return f'<img alt="{escape(name)}" style="max-width: 100%" src="data:image/png;base64,{encoded}">'


def block(*parts: str) -> str:
    """Return the parts of a result as one block."""
    return f"<div>{''.join(parts)}</div>"
