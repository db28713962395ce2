"""Overlaid curves of one or several runs and the reference."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from piwsl.analysis.groups import RunGroup
from piwsl.analysis.quantity import Panel
from piwsl.analysis.statistics.curves import Axis, Curve, CurveComparison
from piwsl.analysis.statistics.results import SYMBOLS, Difference, Distribution, significant
from piwsl.typing import FloatArray

_Entry = tuple[str, int, list[Panel | CurveComparison]]  # label, place, one panel or curve per replica
ALONE = "run"  # label of a single run
TWO_SIDED = 1.96  # standard errors of a 95 % interval


@dataclass(frozen=True, eq=False)
class Line:
    """Curve of a run.

    Attributes:
        label: Label in the legend.
        place: Index of the run, which determines its color in every figure.
        curve: Curve to draw. Bands are 95 % intervals for distributions, and otherwise one standard error.
    """

    label: str
    place: int
    curve: Curve


@dataclass(frozen=True, eq=False)
class Overlay:
    """Contents of one panel.

    Attributes:
        key: Key of the `CurveComparison` or distribution, such as ``h_of_r`` or ``bond.C-H``.
        name: Display name.
        horizontal, vertical: Labels of the axes.
        lines: One line for each run that has the curve.
        reference: Curve of the reference, drawn behind the lines, or None.
        is_density: Whether the area is 1 and the axis starts at 0.
        is_steps: Whether the curves are step functions.
        remark: Short remark next to the name, such as the overlap.
        notes: Remarks for the caption.
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
        """Part of the key before the first dot; overlays of the same family are panels of one figure."""
        return self.key.partition(".")[0]


def overlays_of(groups: Sequence[RunGroup]) -> dict[str, list[Overlay]]:
    """Return all overlays except series over simulation time, by family, in the order of the page."""
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
    """Return the label of an axis, such as ``Wavenumber  [1/cm]``."""
    unit = SYMBOLS.get(axis.unit, axis.unit)
    return f"{axis.name}  [{unit}]" if unit else axis.name


def curve_of(distribution: Distribution) -> Curve:
    """Return a distribution as a curve through the centers of its bins, with a 95 % band."""
    density, error = distribution.density, distribution.error
    low = high = None
    if error is not None:
        low, high = np.maximum(density - TWO_SIDED * error, 0.0), density + TWO_SIDED * error
    return Curve(distribution.centers, density, low, high, distribution.samples)


def pooled(curves: Sequence[Curve], width: float) -> Curve:
    """Return the mean curve of replicas at the points of the first, with a band of ``width`` standard errors."""
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
    """Return panels and curves by key, one for each member that has the curve, and the curves of the group."""
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
    words = {True: "within noise", False: "differs", None: "too few samples to decide"}[difference.agrees]
    value = significant(difference.measured.value).replace("-", "\N{MINUS SIGN}")
    return f"{value} {difference.measured.symbol}".rstrip() + f", {words}"
