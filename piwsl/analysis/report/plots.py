"""Figures of a report: curves of runs and reference by figure, with titles and captions."""

import re
from collections.abc import Sequence
from functools import partial

from piwsl.analysis.groups import RunGroup
from piwsl.analysis.quantity import FigureText
from piwsl.analysis.report.energies import draw_energies, draw_several_energies, has_running_mean
from piwsl.analysis.report.figures import draw_panels, draw_with_difference
from piwsl.analysis.report.overlays import Overlay, overlays_of
from piwsl.analysis.report.style import Drawing, Plot

ENERGIES = "Values in thermo.csv."
RUNNING_MEAN = "Gray: values in thermo.csv. Blue: running mean over a fiftieth of the run."
SEVERAL_ENERGIES = "Running means over a fiftieth of each run."
END_OF_STABILITY = " A dotted line marks the time at which a run became unphysical."


def plots_of(groups: Sequence[RunGroup]) -> list[Plot]:
    """Return the figures of one or several overlaid runs, in the order of the page."""
    is_alone = len(groups) == 1 and groups[0].is_single
    texts = {
        family: text
        for group in groups
        for member in group.members
        for entry in member.compared
        for family, text in entry.figures.items()
    }
    plots = [_plot(family, overlays, texts.get(family), is_alone) for family, overlays in overlays_of(groups).items()]
    if is_alone and groups[0].members[0].run.thermo is not None:
        draw: Drawing = partial(draw_energies, groups[0].members[0])
        caption = RUNNING_MEAN if has_running_mean(groups[0].members[0]) else ENERGIES
        plots.append(Plot("energy", "Temperature and energy", caption, draw))
    elif any(member.run.thermo is not None for group in groups for member in group.members):
        caption = SEVERAL_ENERGIES + ("" if all(group.stable for group in groups) else END_OF_STABILITY)
        plots.append(Plot("energy", "Temperature and energy", caption, partial(draw_several_energies, groups)))
    return plots


def _plot(family: str, overlays: list[Overlay], text: FigureText | None, is_alone: bool) -> Plot:
    first = overlays[0]
    text = text or FigureText(family.replace("_", " ").capitalize())
    caption = text.caption if is_alone else text.caption_of_several
    # A single panel needs no name.
    title = first.name if len(overlays) == 1 and caption is None else text.title
    draw: Drawing = (
        partial(draw_with_difference, first)
        if text.shows_difference
        else partial(draw_panels, overlays, named=first.name not in title)
    )
    name = text.file or re.sub(r"[^A-Za-z0-9-]+", "_", family)
    return Plot(name, title, _caption(overlays) if caption is None else caption, draw)


def _caption(overlays: list[Overlay]) -> str:
    curves = [line.curve for entry in overlays for line in entry.lines]
    curves += [entry.reference for entry in overlays if entry.reference is not None]
    sentences = []
    if any(entry.reference is not None for entry in overlays):
        sentences.append("Gray: the reference.")
    if all(entry.is_density for entry in overlays):
        sentences.append("Every area is 1. Bands are 95 % intervals.")
    elif any(entry.low is not None for entry in curves):
        sentences.append("Bands are one standard error.")
    notes = dict.fromkeys(note for entry in overlays for note in entry.notes)
    sentences += [f"{note[:1].upper()}{note[1:].rstrip('.')}." for note in notes if note]
    return re.sub(r"(^| )-(?=\w)", "\\1\N{MINUS SIGN}", " ".join(sentences))
