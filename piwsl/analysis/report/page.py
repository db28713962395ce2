"""The report as a self-contained HTML page."""

import base64
import hashlib
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from piwsl._version import __version__
from piwsl.analysis.comparison import Comparison
from piwsl.analysis.groups import RunGroup, mean_of, side_by_side
from piwsl.analysis.names import RANDOM_NAME, is_temporary, system_name
from piwsl.analysis.report.scene import MOST_NUMBERS, Scene, picture_svg, scene_of
from piwsl.analysis.report.style import Pictures
from piwsl.analysis.statistics.results import Measurement, significant
from piwsl.analysis.verdict import judge, picoseconds, verdict_of
from piwsl.runs.json_text import json_text
from piwsl.trajectories.frame_source import first_frame
from piwsl.units import PICOSECOND


@dataclass(frozen=True)
class PageFigure:
    """A figure of the page in two widths, with title and caption."""

    name: str
    title: str
    caption: str
    wide: Markup
    narrow: Markup


def render_page(groups: Sequence[RunGroup], pictures: Sequence[Pictures], coordinates: int = MOST_NUMBERS) -> str:
    """Render the report of one or several runs as HTML.

    Args:
        groups: Analyzed runs and replicas.
        pictures: Figures of the report.
        coordinates: Largest number of coordinates in the animated scenes of all runs together.
    """
    alone = len(groups) == 1 and groups[0].is_single
    scenes = _scenes(groups, alone, coordinates // len(groups))
    common = {
        "figures": [_figure(picture) for picture in pictures],
        "groups": groups,
        "numbers": _numbers(groups),
        "scenes": scenes,
        "scenes_json": scenes_json(scenes),
        "picture": picture_svg(scenes[0]) if scenes else "",
        "script": script(),
        "allowed_scripts": allowed_scripts() if scenes else "",
        "library": library(),
        "library_name": LIBRARY_NAME,
        "in_cell": first_frame(groups[0].members[0].run.frames)[1] is not None,
        "license_text": license_text(),
        "reference": groups[0].members[0].reference.name,
        "version": __version__,
    }
    if not alone:
        systems = dict.fromkeys(system_name(member.run) for group in groups for member in group.members)
        names = [group.name for group in groups]
        return _template("several.html").render(
            title=" and ".join(filter(None, [", ".join(names[:-1]), names[-1]])),
            systems=list(systems),
            run=groups[0].members[0].run,
            has_replicas=any(not group.is_single for group in groups),
            verdicts=[verdict_of(group) for group in groups],
            table=side_by_side(groups),
            origins=[(group.name, how_all_made(group)) for group in groups],
            notes=_notes(groups),
            **common,
        )
    comparison = groups[0].members[0]
    return _template("one.html").render(
        title=system_name(comparison.run),
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
        difference=difference_html,
        ensemble=ensemble_text,
        limit=limit_html,
        formula=formula_html,
        name=name_text,
        sentence=sentence_text,
        subscript=subscript_html,
        ps=picoseconds,
    )
    return environment.get_template(name)


def _figure(picture: Pictures) -> PageFigure:
    plot = picture.plot
    return PageFigure(plot.name, plot.title, plot.caption, Markup(picture.wide), Markup(picture.narrow))


def _scenes(groups: Sequence[RunGroup], alone: bool, coordinates: int) -> list[Scene]:
    """Return one scene per run; for replicas, the scene of the first replica that broke."""
    scenes = []
    for group in groups:
        member = min(group.members, key=lambda entry: entry.stable_time.value)
        name = group.name if group.is_single else f"{group.name}/{member.run.path.name}"
        scenes.append(scene_of(member, system_name(member.run) if alone else name, coordinates))
    return [entry for entry in scenes if entry is not None]


def _numbers(groups: Sequence[RunGroup]) -> list[tuple[str, str, Measurement | None, list[Measurement | None]]]:
    """Return the numbers read from curves: (curve, name, reference value, one value per run or mean of replicas)."""
    references: dict[tuple[str, str], Measurement | None] = {}
    numbers: dict[tuple[str, str], list[list[Measurement]]] = {}
    for place, group in enumerate(groups):
        for curve in [*(curve for entry in group.members for curve in entry.curves), *group.curves]:
            for name, (of_run, of_reference) in curve.numbers.items():
                key = (curve.name, name)
                references[key] = references.get(key) or of_reference
                columns = numbers.setdefault(key, [[] for _ in groups])
                if of_run is not None:
                    columns[place].append(of_run)
    return [
        (*key, references[key], [mean_of(entry) if entry else None for entry in columns])
        for key, columns in numbers.items()
    ]


def _notes(groups: Sequence[RunGroup]) -> list[tuple[str, list[str]]]:
    """Return each distinct note with the names of its runs; no names if the note applies to all runs."""
    names_by_note: dict[str, list[str]] = {}
    for group in groups:
        for note in dict.fromkeys(note for member in group.members for note in member.notes):
            names_by_note.setdefault(note, []).append(group.name)
    return [(note, [] if len(names) == len(groups) else names) for note, names in names_by_note.items()]


def measurement_html(measurement: Measurement | None) -> Markup:
    """Format value and error, with the unit in a muted color."""
    return Markup("") if measurement is None else number_html(measurement.number, measurement.symbol)


def difference_html(measurement: Measurement | None, threshold: float | None) -> Markup:
    """Format a difference; one without an error has the decimals of its noise limit."""
    if measurement is None or "±" in measurement.number or not threshold:
        return measurement_html(measurement)
    _, _, decimals = significant(threshold).partition(".")
    if not decimals.isdecimal() or not isfinite(measurement.value):
        return measurement_html(measurement)
    return number_html(f"{round(measurement.value, len(decimals)) + 0.0:.{len(decimals)}f}", measurement.symbol)


def limit_html(threshold: float | None, unit: str = "") -> Markup:
    """Format a noise limit to two significant digits."""
    return number_html(significant(threshold), unit)


def number_html(number: str, unit: str) -> Markup:
    """Return a number and its unit as HTML; a line may break before the unit where the style sheet allows it."""
    text = Markup(str(escape(number.replace("-", "\N{MINUS SIGN}"))).replace(" ± ", "&nbsp;±&nbsp;"))
    space = "" if not unit or unit == "°" else " "
    unit = unit.replace(" ", "\N{NO-BREAK SPACE}")
    return Markup('<span class="quantity">{}{}<span class="unit">{}</span></span>').format(text, space, unit)


def formula_html(text: str) -> Markup:
    """Format a chemical formula such as ``C9H8O4`` with subscripts."""
    return Markup(re.sub(r"(\d+)", r"<sub>\1</sub>", str(escape(text))))


def name_text(text: str) -> str:
    """Format a name, with en dashes for bonds (C\N{EN DASH}H) and nonbreaking spaces before angstroms."""
    text = text.replace(" Å", "\N{NO-BREAK SPACE}Å")
    return re.sub(r"\b([A-Z][a-z]?\d*)-(?=[A-Z][a-z]?\d*\b)", "\\1\N{EN DASH}", text)


THERMOSTATS = {"langevin": "Langevin", "nose-hoover": "Nosé\N{EN DASH}Hoover", "csvr": "CSVR"}


def ensemble_text(ensemble: str) -> str:
    """Return ``NVT (Langevin)`` of ``nvt-langevin``."""
    name, _, thermostat = ensemble.partition("-")
    return f"{name.upper()} ({THERMOSTATS.get(thermostat, thermostat)})" if thermostat else name.upper()


def moment_text(moment: str | None) -> str | None:
    """Return ``2026-11-22 12:00:00 UTC`` of a time in ISO 8601, and any other text unchanged."""
    try:
        time = datetime.fromisoformat(moment or "")
    except ValueError:
        return moment
    return f"{time:%Y-%m-%d %H:%M:%S} {time:%Z}".rstrip()


def file_text(path: str) -> str:
    """Return a path as text, or only the file name if the file is in a temporary directory."""
    return Path(path).name if is_temporary(Path(path)) else path


def sentence_text(text: str) -> str:
    """Format a text as a sentence, with a capital letter and a period."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def subscript_html(text: str) -> Markup:
    """Format a symbol such as ``h_ref`` with a subscript."""
    return Markup(re.sub(r"_(\w+)", r"<sub>\1</sub>", str(escape(text))))


MOST_HIGHLIGHTS = 4  # including the speed, which comes last


def highlights(comparison: Comparison) -> list[tuple[str, str, str]]:
    """Return the numbers at the top of the page: (value, name, detail)."""
    run = comparison.run
    if not comparison.stable:
        end = f"of {picoseconds(run.requested_time)}, then unphysical"
    elif not comparison.complete:
        end = f"of {picoseconds(run.requested_time)} requested"
    else:
        end = "to the end of the run"
    rows = [(picoseconds(comparison.stable_time.value), "stable time", end)]
    rows += [(entry.value, entry.name, entry.detail) for part in comparison.compared for entry in part.highlights]
    speed = run.summary.speed
    if len(rows) < MOST_HIGHLIGHTS and speed.steps_per_second:
        per_day = "" if speed.ns_per_day is None else f"{speed.ns_per_day:.3g} ns/day"
        rows.append((f"{speed.steps_per_second:.3g} steps/s", "speed", per_day))
    return rows


def how_made(comparison: Comparison) -> list[tuple[str, str]]:
    """Return names and values for the last section, without entries missing in the summary."""
    summary, reference_length = comparison.run.summary, comparison.reference.length
    model, speed = summary.model, summary.speed.steps_per_second
    temperature = summary.temperature_K
    kelvin = f"{temperature} K" if isinstance(temperature, str) else f"{temperature:g} K"
    at_start = " at the start" if comparison.run.ensemble == "nve" else ""
    reference = f"{comparison.reference.name}, {comparison.reference.frames:,} frames"
    if reference_length is not None:
        reference += f" over {picoseconds(reference_length)}"
    command = "" if summary.command.startswith("-") else summary.command  # of python -c
    entries: list[tuple[str, Any]] = [
        ("Directory", None if RANDOM_NAME.fullmatch(comparison.run.path.name) else comparison.run.path.name),
        ("Command", command),
        ("Model", file_text(model.path) if model.path else None),
        ("SHA-256 of the model", model.sha256),
        ("Engine", " on ".join(filter(None, (summary.engine, summary.platform)))),
        ("Force", ": ".join(filter(None, (summary.force, summary.force_reason)))),
        ("Ensemble", f"{ensemble_text(comparison.run.ensemble)}, {kelvin}{at_start}"),
        ("Steps", f"{summary.steps_done:,} of {summary.steps_requested:,}, {summary.timestep_fs:g} fs each"),
        ("Frames", f"{len(comparison.run.frames):,}, one every {summary.trajectory_interval:,} steps"),
        ("Seed", summary.seed),
        ("Speed", f"{speed:.3g} steps/s" if speed else None),
        ("Started", moment_text(summary.started)),
        ("Finished", moment_text(summary.finished)),
        ("Result", summary.result),
        ("Reference", reference),
        ("SHA-256 of the reference", comparison.reference.digest),
        ("Versions", ", ".join(f"{name} {version}" for name, version in summary.versions.items() if version)),
        ("piwsl", f"{summary.piwsl_version or 'unknown'} (run), {__version__} (analysis)"),
    ]
    return [(name, str(value)) for name, value in entries if value not in (None, "")]


def how_all_made(group: RunGroup) -> list[tuple[str, str]]:
    """Return the entries for replicas; shared values are listed once."""
    values_by_name: dict[str, dict[str, None]] = {}
    for member in group.members:
        for name, value in how_made(member):
            values_by_name.setdefault(name, {})[value] = None
    return [(name, "; ".join(values)) for name, values in values_by_name.items()]


LIBRARY_NAME = "3Dmol.js 2.5.5"
LIBRARY_FILE = "3Dmol-2.5.5.min.js"
LICENSE_FILE = "3Dmol-LICENSE.txt"
OWN_FILE = "viewer.js"


@cache
def _text(name: str) -> str:
    return (files("piwsl.analysis.report") / "viewer" / name).read_text(encoding="utf-8")


@cache
def library() -> str:
    """Return 3Dmol.js, deflated and base64-encoded."""
    return base64.b64encode(zlib.compress(_text(LIBRARY_FILE).encode(), 9)).decode("ascii")


def license_text() -> str:
    """Return the licenses of 3Dmol.js and its components, which must be included."""
    return _text(LICENSE_FILE)


def script() -> Markup:
    """Return the script of the 3-D view, which contains no text that ends a script element."""
    return Markup(_text(OWN_FILE))


def allowed_scripts() -> str:
    """Return the hashes of the two scripts for the content security policy of the page."""
    hashes = (hashlib.sha256(_text(name).encode()).digest() for name in (OWN_FILE, LIBRARY_FILE))
    return " ".join(f"'sha256-{base64.b64encode(digest).decode('ascii')}'" for digest in hashes)


def scenes_json(scenes: Sequence[Scene]) -> Markup:
    """Return the frames as JSON that is safe inside a script element."""
    text = json_text([_plain(scene) for scene in scenes], compact=True)
    return Markup(text.replace("<", "\\u003c"))


def _plain(scene: Scene) -> dict[str, Any]:
    times = scene.times / PICOSECOND
    interval = float(np.diff(times).min()) if len(times) > 1 else float(times[0])
    return {
        "name": scene.name,
        "symbols": scene.symbols,
        "bonds": scene.bonds.tolist(),
        "times": [round(float(time), 6) for time in times],
        # The smallest number of digits that distinguishes the frames.
        "digits": next((n for n in range(6) if abs(round(interval, n) - interval) < 1e-3 * interval), 6),
        "cell": [[[round(float(x), 3) for x in end] for end in edge] for edge in scene.edges],
        "end": None if scene.end is None else round(scene.end / PICOSECOND, 6),
        "positions": scene.encoded(),
    }
