"""Which figures a report has: their names, titles and captions."""

import re
from collections.abc import Sequence
from functools import partial

from piwsl.analysis.groups import RunGroup
from piwsl.analysis.report.figures import draw_panels, draw_with_difference
from piwsl.analysis.report.overlays import Overlay, overlays_of
from piwsl.analysis.report.style import Drawing, Plot
from piwsl.analysis.report.traces import draw_energies, draw_several_energies

# Titles of the figures whose panels are of one family; others are called as their first panel, or as their key.
TITLES = {
    "h_of_r": "Interatomic distances",
    "bond": "Bond lengths",
    "angle": "Bond angles",
    "dihedral": "Dihedral angles",
    "torsion": "Torsion profiles",
    "rdf": "Radial distribution functions",
    "msd": "Mean square displacements",
    "vacf": "Velocity autocorrelation",
    "rmsd": "RMSD",
    "spectrum": "Vibrational spectrum",
    "survival": "Survival",
}
DISTANCES = (
    "h(r), the distribution of all interatomic distances over the stable frames. Below, what the run has "
    "more (or less) than the reference; the gray band holds 95 % of what noise alone would show."
)
SEVERAL_DISTANCES = (
    "h(r), the distribution of all interatomic distances over the stable frames of each run. Below, what each has "
    "more (or less) than the reference."
)
BONDS = (
    "All bonds of one kind together; every area is 1. An overlap of 1 means equal distributions; the band "
    "around the line is its 95 % interval."
)
SEVERAL_BONDS = "All bonds of one kind together; every area is 1. The bands around the lines are their 95 % intervals."
ENERGIES = "Gray, the values of the run; blue, their running mean over a fiftieth of it."
SEVERAL_ENERGIES = (
    "Running means over a fiftieth of each run; a dotted line ends the stable part of a run that left physics."
)


def plots_of(groups: Sequence[RunGroup]) -> list[Plot]:
    """The figures of one run, or of several over each other, in the order of the page."""
    alone = len(groups) == 1 and groups[0].is_single
    plots = [_plot(family, overlays, alone) for family, overlays in overlays_of(groups).items()]
    if alone and groups[0].members[0].run.thermo is not None:
        draw: Drawing = partial(draw_energies, groups[0].members[0])
        plots.append(Plot("energy", "Temperature and energy", ENERGIES, draw))
    elif any(one.run.thermo is not None for group in groups for one in group.members):
        plots.append(Plot("energy", "Temperature and energy", SEVERAL_ENERGIES, partial(draw_several_energies, groups)))
    return plots


def _plot(family: str, overlays: list[Overlay], alone: bool) -> Plot:
    first = overlays[0]
    if family == "h_of_r":
        return Plot(
            "h_of_r", TITLES[family], DISTANCES if alone else SEVERAL_DISTANCES, partial(draw_with_difference, first)
        )
    draw: Drawing = partial(draw_panels, overlays)
    if family == "bond":
        return Plot("bond_lengths", TITLES[family], BONDS if alone else SEVERAL_BONDS, draw)
    known = TITLES.get(family) or family.replace("_", " ").capitalize()
    title = first.name if len(overlays) == 1 else known
    return Plot(re.sub(r"[^A-Za-z0-9-]+", "_", family), title, _caption(overlays), draw)


def _caption(overlays: list[Overlay]) -> str:
    curves = [line.curve for one in overlays for line in one.lines]
    curves += [one.reference for one in overlays if one.reference is not None]
    sentences = []
    if any(one.reference is not None for one in overlays):
        sentences.append("Gray, the reference.")
    if all(one.is_density for one in overlays):
        sentences.append("Every area is 1. Bands are 95 % intervals.")
    elif any(one.low is not None for one in curves):
        sentences.append("Bands are one standard error.")
    notes = dict.fromkeys(note for one in overlays for note in one.notes)
    sentences += [f"{note[:1].upper()}{note[1:].rstrip('.')}." for note in notes if note]
    return " ".join(sentences)
