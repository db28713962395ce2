"""Curves that are drawn over each other: those of one run or of several, and that of the reference."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from piwsl.analysis.groups import RunGroup
from piwsl.analysis.quantity import Panel
from piwsl.analysis.statistics.curves import Axis, Curve, CurveComparison
from piwsl.analysis.statistics.results import SYMBOLS, Difference, Distribution, significant
from piwsl.typing import FloatArray

_Entry = tuple[str, int, list[Panel | CurveComparison]]  # label, place, one for each replica
ALONE = "run"  # label of a run that is not compared with others
TWO_SIDED = 1.96  # standard errors that hold 95 of 100 cases


@dataclass(frozen=True, eq=False)
class Line:
    """The curve of a run.

    Attributes:
        label: for the legend.
        place: of the run among all runs: it has the same color in every figure.
        curve: what is drawn; the band of a distribution holds 95 of 100 cases, others one standard error.
    """

    label: str
    place: int
    curve: Curve


@dataclass(frozen=True, eq=False)
class Overlay:
    """What one pair of axes shows.

    Attributes:
        key: as of the `CurveComparison`; ``h_of_r`` and ``bond.C-H`` for the distributions.
        name: for people.
        horizontal, vertical: the axes.
        lines: one of each run that has it.
        reference: drawn below them, or None.
        is_density: its area is 1, and it is drawn from 0.
        is_steps: whether it is constant between its points.
        remark: a few words beside the name, such as the overlap.
        notes: sentences that belong to it.
    """

    key: str
    name: str
    horizontal: Axis
    vertical: Axis
    lines: tuple[Line, ...]
    reference: Curve | None
    is_density: bool = False
    is_steps: bool = False
    remark: str = ""
    notes: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """The part of the key before its first dot; overlays of one family are panels of one figure."""
        return self.key.partition(".")[0]


def overlays_of(groups: Sequence[RunGroup]) -> dict[str, list[Overlay]]:
    """Return everything that is drawn against something else than time, by family, in the order of the page."""
    entries: dict[str, list[_Entry]] = {}
    for place, group in enumerate(groups):
        label = group.name if len(groups) > 1 or not group.is_single else ALONE
        for key, drawn in _drawn(group).items():
            entries.setdefault(key, []).append((label, place, drawn))
    families: dict[str, list[Overlay]] = {}
    for key, runs in entries.items():
        overlay = _overlay(key, runs)
        families.setdefault(overlay.family, []).append(overlay)
    return families


def axis_label(axis: Axis) -> str:
    """``Wavenumber  [1/cm]``."""
    unit = SYMBOLS.get(axis.unit, axis.unit)
    return f"{axis.name}  [{unit}]" if unit else axis.name


def curve_of(distribution: Distribution) -> Curve:
    """Return a distribution as a curve through the centers of its bins, with a band that holds 95 of 100 cases."""
    density, error = distribution.density, distribution.error
    low = high = None
    if error is not None:
        low, high = np.maximum(density - TWO_SIDED * error, 0.0), density + TWO_SIDED * error
    return Curve(distribution.centers, density, low, high, distribution.samples)


def pooled(curves: Sequence[Curve], width: float) -> Curve:
    """Return the mean curve of replicas on the points of the first, with ``width`` standard errors of their spread."""
    first = curves[0]
    if len(curves) == 1:
        return first
    values = np.stack([_on(first.x, curve) for curve in curves])
    mean = values.mean(axis=0)
    half = width * values.std(axis=0, ddof=1) / np.sqrt(len(curves))
    return Curve(first.x, mean, mean - half, mean + half, sum(curve.samples for curve in curves))


def _on(points: FloatArray, curve: Curve) -> FloatArray:
    if np.array_equal(points, curve.x):
        return curve.y
    return np.asarray(np.interp(points, curve.x, curve.y, left=np.nan, right=np.nan))


def _drawn(group: RunGroup) -> dict[str, list[Panel | CurveComparison]]:
    """Return what is drawn by key, one for each member that has it; curves of the group stand for themselves."""
    drawn: dict[str, list[Panel | CurveComparison]] = {}
    for item in (*(item for member in group.members for item in member.drawn), *group.curves):
        drawn.setdefault(item.key, []).append(item)
    return drawn


def _overlay(key: str, runs: list[_Entry]) -> Overlay:
    first = runs[0][2][0]
    is_alone = len(runs) == 1 and len(runs[0][2]) == 1
    if isinstance(first, Panel):
        panels = [(label, place, [item for item in drawn if isinstance(item, Panel)]) for label, place, drawn in runs]
        unit = first.distribution.run.unit
        return Overlay(
            key,
            first.name,
            Axis(first.horizontal, unit),
            Axis(first.vertical, f"1/{SYMBOLS.get(unit, unit)}"),
            tuple(
                Line(label, place, pooled([curve_of(panel.distribution.run) for panel in entries], TWO_SIDED))
                for label, place, entries in panels
            ),
            curve_of(first.distribution.reference),
            is_density=True,
            remark=f"overlap {first.distribution.overlap.value:.2f}" if is_alone else "",
        )
    curves = [
        (label, place, [item for item in drawn if isinstance(item, CurveComparison)]) for label, place, drawn in runs
    ]
    return Overlay(
        key,
        first.name,
        first.horizontal,
        first.vertical,
        tuple(Line(label, place, pooled([curve.run for curve in entries], 1.0)) for label, place, entries in curves),
        first.reference,
        is_steps=first.is_steps,
        remark=_remark(first.difference) if is_alone else "",
        notes=tuple(dict.fromkeys(note for _, _, entries in curves for curve in entries for note in curve.notes)),
    )


def _remark(difference: Difference | None) -> str:
    if difference is None:
        return ""
    words = {True: "within noise", False: "differs", None: "too few samples to tell"}[difference.agrees]
    value = significant(difference.measured.value).replace("-", "\N{MINUS SIGN}")
    return f"{value} {difference.measured.symbol}".rstrip() + f", {words}"
