"""The report as one HTML page that needs nothing but itself."""

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from piwsl._version import __version__
from piwsl.analysis.comparison import Comparison
from piwsl.analysis.groups import RunGroup, mean_of, side_by_side, verdict_of
from piwsl.analysis.report.scene import MOST_NUMBERS, Scene, picture_svg, scene_of
from piwsl.analysis.report.style import NARROW, WIDE, Plot, page_svg
from piwsl.analysis.statistics.results import Measurement, significant
from piwsl.analysis.verdict import judge, picoseconds
from piwsl.units import PICOSECOND


@dataclass(frozen=True)
class PageFigure:
    """A figure of the page in its two widths, and what is said about it."""

    name: str
    title: str
    caption: str
    wide: Markup
    narrow: Markup


def render_page(groups: Sequence[RunGroup], plots: Sequence[Plot]) -> str:
    """The report of one run, or of several side by side, HTML.

    Args:
        groups: what was analyzed.
        plots: its figures.
    """
    alone = len(groups) == 1 and groups[0].is_single
    scenes = _scenes(groups, alone)
    common = {
        "figures": [_figure(plot) for plot in plots],
        "groups": groups,
        "numbers": _numbers(groups),
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
            run=groups[0].members[0].run,
            verdicts=[verdict_of(group) for group in groups],
            table=side_by_side(groups),
            origins=[(group.name, how_all_made(group)) for group in groups],
            notes=_notes(groups),
            **common,
        )
    comparison = groups[0].members[0]
    return _template("one.html").render(
        title=comparison.run.name,
        comparison=comparison,
        run=comparison.run,
        verdict=judge(comparison),
        highlights=highlights(comparison),
        made=how_made(comparison),
        **common,
    )


@cache
def _template(name: str) -> Template:
    environment = Environment(
        loader=PackageLoader("piwsl.analysis.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        measurement=measurement_html,
        limit=significant,
        formula=formula_html,
        name=name_text,
        sentence=sentence_text,
        subscript=subscript_html,
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


def _numbers(groups: Sequence[RunGroup]) -> list[tuple[str, str, Measurement | None, list[Measurement | None]]]:
    """What is read from the curves: (curve, number, of the reference, of each run; of replicas the mean)."""
    references: dict[tuple[str, str], Measurement | None] = {}
    found: dict[tuple[str, str], list[list[Measurement]]] = {}
    for place, group in enumerate(groups):
        for curve in [*(curve for one in group.members for curve in one.curves), *group.curves]:
            for name, (ours, theirs) in curve.numbers.items():
                key = (curve.name, name)
                references[key] = references.get(key) or theirs
                columns = found.setdefault(key, [[] for _ in groups])
                if ours is not None:
                    columns[place].append(ours)
    return [
        (*key, references[key], [mean_of(one) if one else None for one in columns]) for key, columns in found.items()
    ]


def _notes(groups: Sequence[RunGroup]) -> list[tuple[str, list[str]]]:
    """Each note once, with the runs that have it; no names where all do."""
    found: dict[str, list[str]] = {}
    for group in groups:
        for note in dict.fromkeys(note for one in group.members for note in one.notes):
            found.setdefault(note, []).append(group.name)
    return [(note, [] if len(names) == len(groups) else names) for note, names in found.items()]


def measurement_html(found: Measurement | None) -> Markup:
    """Value and error, with the unit in a quieter color."""
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


MOST_HIGHLIGHTS = 4  # with the speed, which comes last


def highlights(comparison: Comparison) -> list[tuple[str, str, str]]:
    """The few numbers that a reader wants at once: (value, what it is, how to see it)."""
    run = comparison.run
    if not comparison.stable:
        end = f"of {picoseconds(run.requested_time)}, then no longer physics"
    elif not comparison.complete:
        end = f"of {picoseconds(run.requested_time)} asked for"
    else:
        end = "to the end of the run"
    rows = [(picoseconds(comparison.stable_time.value), "stable time", end)]
    rows += [(entry.value, entry.name, entry.detail) for part in comparison.compared for entry in part.highlights]
    speed = run.summary.get("speed") or {}
    if len(rows) < MOST_HIGHLIGHTS and speed.get("steps_per_second"):
        rows.append((f"{speed['steps_per_second']:.4g} steps/s", "speed", f"{speed.get('ns_per_day', 0):.3g} ns/day"))
    return rows


def how_made(comparison: Comparison) -> list[tuple[str, str]]:
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
        ("SHA-256 of the reference", comparison.reference.digest),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items() if version)),
        ("piwsl", f"{summary.get('piwsl_version', 'not known')} (run), {__version__} (analysis)"),
    ]
    return [(name, str(value)) for name, value in entries if value not in (None, "")]


def how_all_made(group: RunGroup) -> list[tuple[str, str]]:
    """Of replicas what all share once, the rest one after the other."""
    found: dict[str, dict[str, None]] = {}
    for member in group.members:
        for name, value in how_made(member):
            found.setdefault(name, {})[value] = None
    return [(name, "; ".join(values)) for name, values in found.items()]


LIBRARY_NAME = "3Dmol.js 2.5.5"
LIBRARY_FILE = "3Dmol-2.5.5.min.js"
LICENSE_FILE = "3Dmol-LICENSE.txt"
OWN_FILE = "viewer.js"


@cache
def _text(name: str) -> str:
    return (files("piwsl.analysis.report") / "viewer" / name).read_text(encoding="utf-8")


@cache
def library() -> str:
    """3Dmol.js, deflated, base64."""
    return base64.b64encode(zlib.compress(_text(LIBRARY_FILE).encode(), 9)).decode("ascii")


def license_text() -> str:
    """Of 3Dmol.js and its parts: it goes wherever they go."""
    return _text(LICENSE_FILE)


def script() -> Markup:
    """What runs the view; its own file, with nothing that ends a script element."""
    return Markup(_text(OWN_FILE))


def allowed_scripts() -> str:
    """For the content security policy of the page: the view and 3Dmol.js by their hashes, nothing else."""
    hashes = (hashlib.sha256(_text(name).encode()).digest() for name in (OWN_FILE, LIBRARY_FILE))
    return " ".join(f"'sha256-{base64.b64encode(one).decode('ascii')}'" for one in hashes)


def scenes_json(scenes: Sequence[Scene]) -> Markup:
    """The frames for the script, safe inside a script element."""
    text = json.dumps([_plain(scene) for scene in scenes], separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))


def _plain(scene: Scene) -> dict[str, Any]:
    times = scene.times / PICOSECOND
    interval = float(np.diff(times).min()) if len(times) > 1 else float(times[0])
    return {
        "name": scene.name,
        "symbols": scene.symbols,
        "bonds": scene.bonds.tolist(),
        "times": [round(float(time), 6) for time in times],
        # The fewest that tell the frames apart.
        "digits": next((n for n in range(6) if abs(round(interval, n) - interval) < 1e-3 * interval), 6),
        "cell": [[[round(float(x), 3) for x in end] for end in edge] for edge in scene.edges],
        "end": None if scene.end is None else round(scene.end / PICOSECOND, 6),
        "positions": scene.encoded(),
    }
