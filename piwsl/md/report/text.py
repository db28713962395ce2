"""How names and numbers are written on the page."""

import re

from markupsafe import Markup, escape

from piwsl.md.analysis.statistics.results import Measurement


def measurement_html(found: Measurement | None) -> Markup:
    """Value and error, with the unit in a quieter colour."""
    if found is None:
        return Markup("")
    text = escape(found.number.replace("-", "\N{MINUS SIGN}")).replace(" ± ", Markup("&nbsp;±&nbsp;"))
    unit = found.symbol.replace(" ", "\N{NO-BREAK SPACE}")
    return text + (Markup('&nbsp;<span class="unit">{}</span>').format(unit) if unit else Markup(""))


def formula_html(text: str) -> Markup:
    """``C9H8O4`` with its numbers set low."""
    return Markup(re.sub(r"(\d+)", r"<sub>\1</sub>", str(escape(text))))


def name_text(text: str) -> str:
    """Bonds are written with a dash, C\N{EN DASH}H, and angstroms stay with their number."""
    text = text.replace(" Å", "\N{NO-BREAK SPACE}Å")
    return re.sub(r"\b([A-Z][a-z]?)-([A-Z][a-z]?)\b", "\\1\N{EN DASH}\\2", text)


def sentence_text(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def subscript_html(text: str) -> Markup:
    """``h_ref`` with its index set low."""
    return Markup(re.sub(r"_(\w+)", r"<sub>\1</sub>", str(escape(text))))
