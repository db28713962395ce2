"""The report as one HTML page that needs nothing but itself."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from piwsl._version import __version__
from piwsl.md.analysis.comparison import Comparison
from piwsl.md.analysis.groups import RunGroup, side_by_side, verdict_of
from piwsl.md.analysis.results import Measurement, significant
from piwsl.md.analysis.verdict import judge, picoseconds
from piwsl.md.report.picture import picture_svg
from piwsl.md.report.plots import Plot
from piwsl.md.report.scene import MOST_NUMBERS, Scene, scene_of
from piwsl.md.report.style import NARROW, WIDE
from piwsl.md.report.svg import page_svg
from piwsl.md.report.view import LIBRARY_NAME, allowed_scripts, library, license_text, scenes_json, script


@dataclass(frozen=True)
class PageFigure:
    """A figure of the page in its two widths, and what is said about it."""

    name: str
    title: str
    caption: str
    wide: Markup
    narrow: Markup


@dataclass(frozen=True)
class Origin:
    """How one run was made: names and values."""

    name: str
    entries: list[tuple[str, str]]


def render_page(groups: Sequence[RunGroup], plots: Sequence[Plot]) -> str:
    """The report of one run, or of several side by side, HTML.

    Args:
        groups: what was analysed.
        plots: its figures.
    """
    alone = len(groups) == 1 and groups[0].is_single
    scenes = _scenes(groups, alone)
    common = {
        "figures": [_figure(plot) for plot in plots],
        "scenes": scenes,
        "scenes_json": scenes_json(scenes),
        "picture": picture_svg(scenes[0]) if scenes else "",
        "script": script(),
        "allowed_scripts": allowed_scripts() if scenes else "",
        "library": library(),
        "library_name": LIBRARY_NAME,
        "license_text": license_text(),
        "reference": groups[0].members[0].reference.name,
        "version": __version__,
    }
    if not alone:
        return _template("several.html").render(
            title=" and ".join([", ".join(group.name for group in groups[:-1]), groups[-1].name]).removeprefix(" and "),
            groups=groups,
            run=groups[0].members[0].run,
            verdicts=[verdict_of(group) for group in groups],
            table=side_by_side(groups),
            origins=[Origin(group.name, _how_all_made(group)) for group in groups],
            notes=_notes(groups),
            **common,
        )
    comparison = groups[0].members[0]
    return _template("one.html").render(
        title=comparison.run.name,
        comparison=comparison,
        run=comparison.run,
        verdict=judge(comparison),
        highlights=_highlights(comparison),
        numbers=_numbers(comparison),
        made=_how_made(comparison),
        **common,
    )


@cache
def _template(name: str) -> Template:
    environment = Environment(
        loader=PackageLoader("piwsl.md.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        measurement=_measurement,
        limit=significant,
        formula=_formula,
        name=_name,
        sentence=_sentence,
        subscript=_subscript,
        ps=picoseconds,
    )
    return environment.get_template(name)


def _figure(plot: Plot) -> PageFigure:
    wide, narrow = (Markup(page_svg(plot, layout)) for layout in (WIDE, NARROW))
    return PageFigure(plot.name, plot.title, plot.caption, wide, narrow)


def _scenes(groups: Sequence[RunGroup], alone: bool) -> list[Scene]:
    """One of each run; of replicas the one that broke first."""
    found = []
    for group in groups:
        member = min(group.members, key=lambda one: one.stable_time.value)
        name = group.name if group.is_single else f"{group.name}/{member.run.path.name}"
        found.append(scene_of(member, member.run.name if alone else name, MOST_NUMBERS // len(groups)))
    return [one for one in found if one is not None]


def _numbers(comparison: Comparison) -> list[tuple[str, str, Measurement | None, Measurement | None]]:
    """What is read from the curves: (curve, number, of the run, of the reference)."""
    return [(curve.name, name, *pair) for curve in comparison.curves for name, pair in curve.numbers.items()]


def _notes(groups: Sequence[RunGroup]) -> list[tuple[str, list[str]]]:
    """Each note once, with the runs that have it; no names where all do."""
    found: dict[str, list[str]] = {}
    for group in groups:
        for note in dict.fromkeys(note for one in group.members for note in one.notes):
            found.setdefault(note, []).append(group.name)
    return [(note, [] if len(names) == len(groups) else names) for note, names in found.items()]


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


def _how_made(comparison: Comparison) -> list[tuple[str, str]]:
    """Names and values for the last section; what the summary does not say is left out."""
    summary = comparison.run.summary
    model, speed, versions = (summary.get(key) or {} for key in ("model", "speed", "versions"))
    force = " - ".join(str(summary[key]) for key in ("force", "force_reason") if summary.get(key))
    steps = f"{summary['steps_done']:,} of {summary['steps_requested']:,}, {summary['timestep_fs']:g} fs each"
    ensemble = f"{comparison.run.ensemble.upper()}, {summary['temperature_K']:g} K"
    if comparison.run.ensemble == "nve":
        ensemble += " at the start"
    reference = f"{comparison.reference.name}, {len(comparison.reference.positions):,} frames"
    if comparison.reference.times is not None:
        reference += f" over {picoseconds(float(comparison.reference.times[-1] - comparison.reference.times[0]))}"
    entries: list[tuple[str, Any]] = [
        ("Command", summary.get("command")),
        ("Model", model.get("path")),
        ("SHA-256 of the model", model.get("sha256")),
        ("Engine", " on ".join(str(summary[key]) for key in ("engine", "platform") if summary.get(key))),
        ("Force", force),
        ("Ensemble", ensemble),
        ("Steps", steps),
        ("Frames", f"{len(comparison.run.positions):,}, one every {summary['trajectory_interval']:,} steps"),
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


def _how_all_made(group: RunGroup) -> list[tuple[str, str]]:
    """Of replicas what all share once, the rest one after the other."""
    found: dict[str, dict[str, None]] = {}
    for member in group.members:
        for name, value in _how_made(member):
            found.setdefault(name, {})[value] = None
    return [(name, "; ".join(values)) for name, values in found.items()]


def _measurement(found: Measurement | None) -> Markup:
    """Value and error, with the unit in a quieter colour."""
    if found is None:
        return Markup("")
    text = escape(found.number.replace("-", "\N{MINUS SIGN}")).replace(" ± ", Markup("&nbsp;±&nbsp;"))
    unit = found.symbol.replace(" ", "\N{NO-BREAK SPACE}")
    return text + (Markup('&nbsp;<span class="unit">{}</span>').format(unit) if unit else Markup(""))


def _formula(text: str) -> Markup:
    """``C9H8O4`` with its numbers set low."""
    return Markup(re.sub(r"(\d+)", r"<sub>\1</sub>", str(escape(text))))


def _name(text: str) -> str:
    """Bonds are written with a dash, C\N{EN DASH}H, and angstroms stay with their number."""
    text = text.replace(" Å", "\N{NO-BREAK SPACE}Å")
    return re.sub(r"\b([A-Z][a-z]?)-([A-Z][a-z]?)\b", "\\1\N{EN DASH}\\2", text)


def _sentence(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _subscript(text: str) -> Markup:
    """``h_ref`` with its index set low."""
    return Markup(re.sub(r"_(\w+)", r"<sub>\1</sub>", str(escape(text))))
