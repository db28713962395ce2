"""The report as one HTML page that needs nothing but itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from piwsl._version import __version__
from piwsl.md.analysis.groups import RunGroup, mean_of, side_by_side, verdict_of
from piwsl.md.analysis.statistics.results import Measurement, significant
from piwsl.md.analysis.verdict import judge, picoseconds
from piwsl.md.report.facts import highlights, how_all_made, how_made
from piwsl.md.report.picture import picture_svg
from piwsl.md.report.plots import Plot
from piwsl.md.report.scene import MOST_NUMBERS, Scene, scene_of
from piwsl.md.report.style import NARROW, WIDE
from piwsl.md.report.svg import page_svg
from piwsl.md.report.text import formula_html, measurement_html, name_text, sentence_text, subscript_html
from piwsl.md.report.view import LIBRARY_NAME, allowed_scripts, library, license_text, scenes_json, script


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
        groups: what was analysed.
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
        loader=PackageLoader("piwsl.md.report", "templates"),
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
