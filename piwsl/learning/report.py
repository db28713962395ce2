"""The report of a learning job: a self-contained HTML page that is rewritten after each stage."""

from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Literal

import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup
from matplotlib.figure import Figure

from piwsl._version import __version__
from piwsl.analysis.report.page import formula_html, moment_text
from piwsl.analysis.report.style import NARROW, WIDE, Layout, Palette, Plot, dress, new_figure, page_svg
from piwsl.learning.directory import (
    REPORT_FILE,
    LearnSummary,
    RoundRecord,
    StudentLabelsRecord,
    StudentRecord,
    SurvivalRecord,
)
from piwsl.learning.settings import LearnSettings
from piwsl.runs.files import write_text, writing
from piwsl.runs.progress import rough_duration

MILLI = 1e3
Kind = Literal["force", "energy"]  # of the errors on the labels


def write_report(summary: LearnSummary, settings: LearnSettings, output: Path) -> None:
    """Write the report of a job to its directory.

    Raises:
        RunDirectoryError: The file cannot be written.
    """
    path = output / REPORT_FILE
    with writing(path):
        write_text(path, render_report(summary, settings, output.name))


def render_report(summary: LearnSummary, settings: LearnSettings, name: str) -> str:
    """Return the report as HTML.

    Args:
        summary: Results so far.
        settings: Settings of the job.
        name: Name of the directory, for the command at the end.
    """
    done = summary.result == "completed"
    last = summary.students[-1] if summary.students else None
    kind, own = _kind(settings), summary.student_labels
    return _template().render(
        summary=summary,
        settings=settings,
        done=done,
        verified=summary.verified,
        headline=_headline(summary),
        agreement=last.agreement if last else None,
        highlights=_highlights(summary, settings),
        figures=[
            {
                "title": plot.title,
                "caption": plot.caption,
                "wide": Markup(page_svg(plot, WIDE)),
                "narrow": Markup(page_svg(plot, NARROW)),
            }
            for plot in _plots(summary, kind)
        ],
        round_titles=[title for title, _ in _cells_of_round(RoundRecord(number=1), kind)],
        kind=kind,
        student_titles=[title for title, _ in _cells_of_student(StudentRecord(number=1), kind)],
        rounds=[(record.number, _cells_of_round(record, kind)) for record in summary.rounds],
        failed=[text for record in summary.rounds for text in record.failed] + (own.failed if own else []),
        student_labels=_student_labels(own),
        students=[(record.number, _cells_of_student(record, kind)) for record in summary.students],
        analyses=[(record.number, record.analysis) for record in summary.students if record.analysis],
        command=f"piwsl md --structure {name}/start.extxyz --model {name}/student.pt" if done else None,
        made=_made(summary, settings),
        version=__version__,
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=ChoiceLoader(
            [PackageLoader("piwsl.learning", "templates"), PackageLoader("piwsl.analysis.report", "templates")]
        ),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["formula"] = formula_html
    return environment.get_template("learn.html")


def _headline(summary: LearnSummary) -> str:
    if summary.verdict:
        verdict = summary.verdict.replace("meV/A", "meV/Å")
        return f"{verdict[:1].upper()}{verdict[1:]}."
    if summary.waiting_for:
        return f"Waiting for the labels of {summary.waiting_for}."
    count, what = (len(summary.students), "student") if summary.students else (len(summary.rounds), "round")
    return f"The job is running, or was interrupted: {count} {what}{'' if count == 1 else 's'} finished."


def _highlights(summary: LearnSummary, settings: LearnSettings) -> list[tuple[str, str, str]]:
    """Return the numbers at the top of the page: (value, name, detail)."""
    used = f"{summary.labels} of {summary.budget}" if summary.budget else str(summary.labels_used)
    rows = [(used, "labels used", summary.method)]
    kind, held_back = _kind(settings), f"{summary.held_back} held-back labels"
    if summary.rounds and (error := _error(summary.rounds[-1], kind)):
        rows.append((error, f"{kind} error, teachers", held_back))
    if summary.students:
        last = summary.students[-1]
        own = summary.student_labels if summary.student_labels and summary.student_labels.labels else None
        where = f"{own.labels} labels in its dynamics" if own else held_back
        if error := _error(own or last, kind):
            rows.append((error, f"{kind} error, student", where))
        if last.survival is not None:
            whole = f"{last.survival.survived} of {len(last.survival.times)}"
            rows.append(
                (whole, "replicas survived", f"{last.survival.picoseconds:g} ps at {last.survival.temperature:g} K")
            )
    if len(rows) < 3:
        rows.append((rough_duration(summary.wall_seconds), "time so far", f"{settings.minutes:g} min for training"))
    return rows


def _kind(settings: LearnSettings) -> Kind:
    """Return the kind of the errors on the labels."""
    return "energy" if settings.labels.energies_only else "force"


def _error(record: RoundRecord | StudentRecord | StudentLabelsRecord, kind: Kind) -> str:
    """Return the error of this kind on labels."""
    if kind == "force":
        return _force(record.force_mae)
    return "" if record.energy_mae is None else f"{MILLI * record.energy_mae:.1f} meV"


def _student_labels(record: StudentLabelsRecord | None) -> str:
    """Return a sentence about the errors in the dynamics of the student."""
    if record is None or not record.labels:
        return ""
    errors = " and ".join(filter(None, [_error(record, "energy"), _force(record.force_mae)]))
    return (
        f"On {record.labels} labels of the reference method, from different replicas and times of the last dynamics of "
        f"the student, the MAE is {errors}."
    )


def _force(value: float | None) -> str:
    return "" if value is None else f"{MILLI * value:.1f} meV/Å"


def _cells_of_round(record: RoundRecord, kind: Kind) -> list[tuple[str, str]]:
    forces = [("New", _force(record.new_force_mae)), ("Held back", _force(record.force_mae))]
    return [
        ("Candidates", f"{record.candidates:,}"),
        ("Labeled", str(record.chosen)),
        ("Labels", str(record.labels)),
        *(forces if kind == "force" else []),
        ("Energy", _error(record, "energy")),
        ("Time", rough_duration(record.seconds)),
    ]


def _cells_of_student(record: StudentRecord, kind: Kind) -> list[tuple[str, str]]:
    survival = record.survival
    whole = f"{survival.survived} of {len(survival.times)} for {survival.picoseconds:g} ps" if survival else ""
    return [
        ("Frames", f"{record.frames:,}"),
        ("Teachers", _force(record.teacher_force_mae)),
        ("Own dynamics", _force(record.own_force_mae)),
        ("Held back", _error(record, kind)),
        ("Survived", whole),
        ("Steps/s", f"{survival.steps_per_second:.0f}" if survival and survival.steps_per_second else ""),
        ("Drift in 10 ps", "" if record.drift is None else f"{record.drift:.2g} meV/atom"),
        ("Time", rough_duration(record.seconds)),
    ]


def _made(summary: LearnSummary, settings: LearnSettings) -> list[tuple[str, str]]:
    entries = [
        ("Start", summary.start),
        ("License of the start model", summary.license),
        ("Command", summary.command if not summary.command.startswith("-") else ""),
        ("Seed", str(settings.seed)),
        ("Time for training", f"{settings.minutes:g} min"),
        ("Total time", rough_duration(summary.wall_seconds)),
        ("Started", moment_text(summary.started)),
        ("Finished", moment_text(summary.finished)),
        ("Versions", ", ".join(f"{name} {version}" for name, version in summary.versions.items() if version)),
    ]
    return [(name, value) for name, value in entries if value]


def _plots(summary: LearnSummary, kind: Kind) -> list[Plot]:
    plots = []
    if summary.rounds:
        plots.append(
            Plot(
                "learning",
                f"{kind.capitalize()} error by the number of labels",
                "On new labels: the model that chose the structures, before it was trained on them. On held-back "
                "labels: the teachers after each round, and the student at the end.",
                partial(_draw_learning, summary.rounds, summary.students, kind),
            )
        )
    survivals = _survivals(summary)
    if survivals:
        plots.append(
            Plot(
                "survival",
                "Survival of replicas",
                "Fraction of the replicas that no stop rule has ended.",
                partial(_draw_survival, survivals),
            )
        )
    last = summary.students[-1] if summary.students else None
    own = summary.student_labels.force_mae_by_atom if summary.student_labels else {}
    if last is not None and last.own_force_mae_by_atom:
        plots.append(
            Plot(
                "difference",
                "Where the student differs",
                "Force MAE of the last student on frames of its own dynamics, relative to the teachers"
                + (", and to labels of the reference method" if own else "")
                + (
                    ". The line is the force error of the teachers on the held-back labels."
                    if last.largest_own_force_mae is not None
                    else "."
                ),
                partial(_draw_differences, last, own),
            )
        )
    return plots


def _draw_learning(
    rounds: Sequence[RoundRecord],
    students: Sequence[StudentRecord],
    kind: Kind,
    layout: Layout,
    palette: Palette,
) -> Figure:
    figure = new_figure(layout, 300)
    axes = figure.subplots()
    dress(axes, palette)
    before = [0, *(record.labels for record in rounds)]
    new = [(start, record.new_force_mae) for start, record in zip(before, rounds, strict=False)]
    held = [(record.labels, getattr(record, f"{kind}_mae")) for record in rounds]
    for points, name, color in ((new, "new labels", palette.second), (held, "held-back labels", palette.run)):
        known = [(labels, MILLI * error) for labels, error in points if error is not None]
        if known:
            axes.plot(*zip(*known, strict=True), "o-", color=color, label=name)
    last = students[-1] if students else None
    error = None if last is None else getattr(last, f"{kind}_mae")
    if error is not None:
        axes.plot([rounds[-1].labels], [MILLI * error], "D", color=palette.third, label="student, held-back labels")
    axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
    axes.set_xlim(left=-2)
    axes.set_xlabel("labels that the model was trained on")
    axes.set_ylabel("force MAE [meV/Å]" if kind == "force" else "energy MAE [meV]")
    axes.legend(frameon=False)
    return figure


def _survivals(summary: LearnSummary) -> list[tuple[str, SurvivalRecord]]:
    """Return the survival of each model at the target temperature, the lowest of its dynamics."""
    entries = []
    for record in summary.rounds:
        if record.exploration:
            coolest = min(record.exploration, key=lambda survival: survival.temperature)
            entries.append((f"before round {record.number}", coolest))
    entries += [(f"student {record.number}", record.survival) for record in summary.students if record.survival]
    return entries


def _draw_survival(survivals: Sequence[tuple[str, SurvivalRecord]], layout: Layout, palette: Palette) -> Figure:
    figure = new_figure(layout, 280)
    axes = figure.subplots()
    dress(axes, palette)
    for place, (name, survival) in enumerate(survivals):
        ends = np.sort([time for time in survival.times if time < survival.picoseconds])
        times = np.concatenate([[0.0], ends, [survival.picoseconds]])
        fractions = 1.0 - np.arange(len(ends) + 1) / max(1, len(survival.times))
        color = palette.series[place % len(palette.series)]
        axes.step(times, [*fractions, fractions[-1]], where="post", color=color, label=name)
    axes.set_ylim(-0.03, 1.05)
    axes.set_xlabel("time [ps]")
    axes.set_ylabel("fraction of replicas")
    axes.legend(frameon=False)
    return figure


def _draw_differences(record: StudentRecord, own: dict[str, float], layout: Layout, palette: Palette) -> Figure:
    figure = new_figure(layout, 280)
    axes = figure.subplots()
    dress(axes, palette)
    names, values = list(record.own_force_mae_by_atom), list(record.own_force_mae_by_atom.values())
    places, width = np.arange(len(names)), 0.4 if own else 0.7
    offset = 0.5 * width if own else 0.0
    axes.bar(places - offset, [MILLI * value for value in values], width, color=palette.run, label="teachers")
    if own:
        labels = [MILLI * own.get(name, np.nan) for name in names]
        axes.bar(places + offset, labels, width, color=palette.third, label="reference method")
        axes.set_ylim(top=1.25 * axes.get_ylim()[1])  # room for the legend
        axes.legend(frameon=False, ncols=2, loc="upper left")
    if record.largest_own_force_mae is not None:
        axes.axhline(MILLI * record.largest_own_force_mae, color=palette.alert, linestyle="--", linewidth=1)
    step = 1 if layout.is_wide or len(names) <= 24 else 2  # labels must not overlap
    axes.set_xticks(range(0, len(names), step), names[::step], rotation=90 if len(names) > 8 else 0)
    axes.set_ylabel("force MAE [meV/Å]")
    return figure
