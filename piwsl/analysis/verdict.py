"""The outcome of a comparison in sentences, for the terminal and the report."""

from dataclasses import dataclass
from math import isnan

from scipy.stats import binom

from piwsl.analysis.comparison import Comparison
from piwsl.analysis.quantity import Observable
from piwsl.analysis.statistics.results import significant
from piwsl.analysis.statistics.uncertainty import CONFIDENCE
from piwsl.units import PICOSECOND

FAR_OUTSIDE = 1.5  # times its threshold: no longer put down to chance


@dataclass(frozen=True)
class Verdict:
    """What a reader should know first.

    Attributes:
        stability: one sentence, how long the run stayed what it was.
        agreement: one sentence, how much of it is like the reference.
        agreeing, differing, undecided: the observables that were compared.
    """

    stability: str
    agreement: str
    agreeing: tuple[Observable, ...]
    differing: tuple[Observable, ...]
    undecided: tuple[Observable, ...]


def judge(comparison: Comparison) -> Verdict:
    """Put a comparison into words."""
    compared = [one for one in comparison.observables if one.difference is not None]
    agreeing = tuple(one for one in compared if one.agrees is True)
    differing = tuple(one for one in compared if one.agrees is False)
    undecided = tuple(one for one in compared if one.agrees is None)
    return Verdict(
        _stability(comparison),
        _agreement(
            len(agreeing), len(differing), len(undecided), _by_chance(len(agreeing) + len(differing), differing)
        ),
        agreeing,
        differing,
        undecided,
    )


def picoseconds(time: float) -> str:
    """``12.35 ps`` of a time in fs."""
    return f"{time / PICOSECOND:.6g} ps"


def _stability(comparison: Comparison) -> str:
    run, broken = comparison.run, comparison.stability.broken
    if broken is not None:
        i, j = broken.atoms
        length = f"is {significant(broken.length, 3)} Å long instead of {significant(broken.reference_length, 3)} Å"
        if isnan(broken.length):
            length = "has no length: positions are no numbers"
        if i == j:
            length = "positions are no numbers"
        bond = length if i == j else f"the {broken.kind} bond of atoms {i} and {j} {length}"
        if broken.frame == 0:
            return f"Not stable: broken in the first frame, at {picoseconds(broken.time)}; {bond}."
        return f"Not stable: broken at {picoseconds(broken.time)} of {picoseconds(run.requested_time)}; {bond}."
    contact = comparison.stability.contact
    if contact is not None:
        i, j = contact.atoms
        return (
            f"Not stable: collapsed at {picoseconds(contact.time)} of {picoseconds(run.requested_time)}; "
            f"the {contact.kind} pair of atoms {i} and {j}{'' if contact.of_metal else ', which are not bonded,'} "
            f"is {significant(contact.distance, 2)} Å apart."
        )
    time = picoseconds(comparison.stability.time.value)
    if run.summary["result"] == "stopped":
        stop = run.summary.get("stop") or {}
        reason = str(stop.get("message") or stop.get("rule") or "a stop rule").rstrip(".")
        return f"Not stable: stopped after {picoseconds(run.done_time)} of {picoseconds(run.requested_time)}; {reason}."
    if not comparison.complete:
        return f"Stable for the {time} that the trajectory holds, of {picoseconds(run.requested_time)} asked for."
    return f"Stable for all {picoseconds(run.requested_time)}."


def _agreement(agreeing: int, differing: int, undecided: int, chance: bool) -> str:
    judged = agreeing + differing
    if not judged:
        return "Too few independent samples to tell whether the run is like the reference."
    if not differing:
        which = f"All {judged} observables compared agree" if judged > 1 else "The one observable compared agrees"
        sentence = f"{which} with the reference within noise."
    elif not agreeing:
        sentence = f"None of the {judged} observables compared agrees with the reference within noise."
    else:
        sentence = f"{agreeing} of {judged} observables agree with the reference within noise."
    if differing and chance:
        sentence += " One in twenty falls outside by chance, and these are not far outside."
    return sentence + (f" On {undecided} more the data do not say." if undecided else "")


def _by_chance(compared: int, differing: tuple[Observable, ...]) -> bool:
    """Whether so many differences, none far beyond its threshold, are to be expected of equal distributions."""
    ratios = [
        abs(one.difference.measured.value) / one.difference.threshold
        for one in differing
        if one.difference is not None and one.difference.threshold
    ]
    few = binom.sf(len(differing) - 1, compared, 1 - CONFIDENCE) > 1 - CONFIDENCE
    return bool(few) and len(ratios) == len(differing) and max(ratios, default=0.0) < FAR_OUTSIDE
