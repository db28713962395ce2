"""The report as one HTML page that needs nothing but itself."""

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from piwsl._version import __version__
from piwsl.md.analysis.comparison import Comparison, Observable
from piwsl.md.analysis.results import Measurement, significant
from piwsl.md.analysis.verdict import judge, picoseconds
from piwsl.md.report.figures import Drawing, draw_bonds, draw_distances, draw_energies
from piwsl.md.report.style import NARROW, WIDE
from piwsl.md.report.svg import page_svg


@dataclass(frozen=True)
class PageFigure:
    """A figure of the page in its two widths, and what is said about it."""

    title: str
    caption: str
    wide: Markup
    narrow: Markup


def render_page(comparison: Comparison) -> str:
    """The report of a comparison, HTML."""
    return _template().render(
        comparison=comparison,
        run=comparison.run,
        summary=comparison.run.summary,
        reference=comparison.reference,
        verdict=judge(comparison),
        highlights=_highlights(comparison),
        figures=_figures(comparison),
        made=_how_made(comparison),
        version=__version__,
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("piwsl.md", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        measurement=_measurement,
        difference=_difference,
        limit=_limit,
        formula=_formula,
        name=_name,
        subscript=_subscript,
        ps=picoseconds,
    )
    return environment.get_template("report.html")


def _highlights(comparison: Comparison) -> list[tuple[str, str, str]]:
    """The few numbers that a reader wants at once: (value, what it is, how to see it)."""
    run = comparison.run
    if not comparison.stable:
        end = f"of {picoseconds(run.requested_time)}, then no longer physics"
    elif not comparison.complete:
        end = f"of {picoseconds(run.requested_time)} asked for"
    else:
        end = "to the end of the run"
    rows = [(picoseconds(comparison.stable_time.value), "stable time", end)]
    if comparison.distances is not None:
        found = comparison.distances.difference
        noise = "noise unknown" if found.limit is None else f"noise alone: up to {significant(found.threshold)}"
        rows.append((found.measured.text(), "h(r) error, ∫|h \N{MINUS SIGN} h_ref| dr", noise))
    if comparison.temperature is not None:
        target = comparison.temperature.target
        rows.append(
            (
                comparison.temperature.mean.text(),
                "temperature",
                "constant energy" if target is None else f"thermostat at {target:g} K",
            )
        )
    if comparison.drift is not None:
        drift = comparison.drift.per_10_ps
        rows.append((Measurement(drift.value, drift.uncertainty, "", 1).text(), "energy drift", drift.unit))
    speed = run.summary.get("speed") or {}
    if comparison.drift is None and speed.get("steps_per_second"):
        rows.append((f"{speed['steps_per_second']:.4g} steps/s", "speed", f"{speed.get('ns_per_day', 0):.3g} ns/day"))
    return rows


def _figures(comparison: Comparison) -> list[PageFigure]:
    drawings: list[tuple[Drawing, str, str, str]] = []
    if comparison.distances is not None:
        drawings.append(
            (
                draw_distances,
                "distances",
                "Interatomic distances",
                "h(r), the distribution of all interatomic distances over the stable frames. Below, what the run has "
                "more (or less) than the reference; the grey band holds 95 % of what noise alone would show.",
            )
        )
    if comparison.bonds:
        drawings.append(
            (
                draw_bonds,
                "bonds",
                "Bond lengths",
                "All bonds of one kind together; every area is 1. An overlap of 1 means equal distributions; the band "
                "around the line is its 95 % interval.",
            )
        )
    if comparison.run.thermo is not None:
        drawings.append(
            (
                draw_energies,
                "energies",
                "Temperature and energy",
                "Grey, the values of the run; blue, their running mean over a fiftieth of it.",
            )
        )
    return [
        PageFigure(
            title,
            caption,
            Markup(page_svg(draw, comparison, WIDE, f"{name}-wide", title)),
            Markup(page_svg(draw, comparison, NARROW, f"{name}-narrow", title)),
        )
        for draw, name, title, caption in drawings
    ]


def _how_made(comparison: Comparison) -> list[tuple[str, str]]:
    """Names and values for the last section; what the summary does not say is left out."""
    summary = comparison.run.summary
    model, speed, versions = (summary.get(key) or {} for key in ("model", "speed", "versions"))
    force = " - ".join(str(summary[key]) for key in ("force", "force_reason") if summary.get(key))
    steps = f"{summary['steps_done']:,} of {summary['steps_requested']:,}, {summary['timestep_fs']:g} fs each"
    ensemble = f"{comparison.run.ensemble.upper()}, {summary['temperature_K']:g} K"
    if comparison.run.ensemble == "nve":
        ensemble += " at the start"
    reference = f"{comparison.reference.name}, {comparison.reference.frames:,} frames"
    if comparison.reference.length is not None:
        reference += f" over {picoseconds(comparison.reference.length)}"
    entries: list[tuple[str, Any]] = [
        ("Command", summary.get("command")),
        ("Model", model.get("path")),
        ("SHA-256 of the model", model.get("sha256")),
        ("Engine", " on ".join(str(summary[key]) for key in ("engine", "platform") if summary.get(key))),
        ("Force", force),
        ("Ensemble", ensemble),
        ("Steps", steps),
        ("Frames", f"{len(comparison.run.frames):,}, one every {summary['trajectory_interval']:,} steps"),
        ("Seed", summary.get("seed")),
        ("Speed", f"{speed['steps_per_second']:.4g} steps/s" if speed.get("steps_per_second") else None),
        ("Started", summary.get("started")),
        ("Finished", summary.get("finished")),
        ("Result", summary.get("result")),
        ("Reference", reference),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items() if version)),
        ("piwsl", f"{summary.get('piwsl_version', 'not known')} (run), {__version__} (analysis)"),
    ]
    return [(name, str(value)) for name, value in entries if value not in (None, "")]


def _measurement(found: Measurement | None) -> Markup:
    """Value and error, with the unit in a quieter colour."""
    if found is None:
        return Markup("")
    text = escape(found.number.replace("-", "\N{MINUS SIGN}")).replace(" ± ", Markup("&nbsp;±&nbsp;"))
    unit = found.symbol.replace(" ", "\N{NO-BREAK SPACE}")
    return text + (Markup('&nbsp;<span class="unit">{}</span>').format(unit) if unit else Markup(""))


def _difference(row: Observable) -> Markup:
    return _measurement(None if row.difference is None else row.difference.measured)


def _limit(row: Observable) -> str:
    return "" if row.difference is None else significant(row.difference.threshold)


def _formula(text: str) -> Markup:
    """``C9H8O4`` with its numbers set low."""
    return Markup(re.sub(r"(\d+)", r"<sub>\1</sub>", str(escape(text))))


def _name(text: str) -> str:
    """Bonds are written with a dash, C\N{EN DASH}H, and angstroms stay with their number."""
    text = text.replace(" Å", "\N{NO-BREAK SPACE}Å")
    return re.sub(r"\b([A-Z][a-z]?)-([A-Z][a-z]?)\b", "\\1\N{EN DASH}\\2", text)


def _subscript(text: str) -> Markup:
    """``h_ref`` with its index set low."""
    return Markup(re.sub(r"_(\w+)", r"<sub>\1</sub>", str(escape(text))))
