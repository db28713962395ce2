"""Verdict on a comparison in sentences, for terminal, report and notebook."""

from dataclasses import dataclass
from math import isnan

from scipy.stats import binom

from piwsl.analysis.comparison import Comparison
from piwsl.analysis.groups import RunGroup
from piwsl.analysis.quantity import Observable
from piwsl.analysis.statistics.results import significant
from piwsl.analysis.statistics.uncertainty import CONFIDENCE
from piwsl.units import PICOSECOND

FAR_OUTSIDE = 1.5  # multiple of the threshold beyond which chance is not an explanation


@dataclass(frozen=True)
class Verdict:
    """Outcome of a comparison.

    Attributes:
        stability: Sentence that states how long the run was stable.
        agreement: Sentence that states how many observables agree with the reference.
        agreeing, differing, undecided: Compared observables by outcome.
    """

    stability: str
    agreement: str
    agreeing: tuple[Observable, ...]
    differing: tuple[Observable, ...]
    undecided: tuple[Observable, ...]


def judge(comparison: Comparison) -> Verdict:
    """Return the verdict on a comparison."""
    compared = [row for row in comparison.observables if row.difference is not None]
    agreeing = tuple(row for row in compared if row.agrees is True)
    differing = tuple(row for row in compared if row.agrees is False)
    undecided = tuple(row for row in compared if row.agrees is None)
    return Verdict(
        _stability(comparison),
        _agreement(len(agreeing), len(differing), len(undecided), _by_chance(len(agreeing) + len(differing), differing))
        if comparison.skip.obstacle is None
        else _no_verdict(comparison.skip.obstacle),
        agreeing,
        differing,
        undecided,
    )


def picoseconds(time: float) -> str:
    """Format a time in fs as picoseconds, such as ``12.35 ps``."""
    return f"{time / PICOSECOND:.6g} ps"


def _stability(comparison: Comparison) -> str:
    run, broken = comparison.run, comparison.stability.broken
    if broken is not None:
        i, j = broken.atoms
        length = f"is {significant(broken.length, 3)} Å long instead of {significant(broken.reference_length, 3)} Å"
        if isnan(broken.length):
            length = "has no length: positions are not finite numbers"
        if i == j:
            length = "positions are not finite numbers"
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
    if run.summary.result == "stopped":
        stop = run.summary.stop
        reason = "a stop rule" if stop is None else (stop.message or stop.rule).rstrip(".")
        return f"Not stable: stopped after {picoseconds(run.done_time)} of {picoseconds(run.requested_time)}; {reason}."
    if not comparison.complete:
        return f"Stable for the {time} in the trajectory, of {picoseconds(run.requested_time)} requested."
    return f"Stable for all {picoseconds(run.requested_time)}."


def _agreement(agreeing: int, differing: int, undecided: int, chance: bool) -> str:
    judged = agreeing + differing
    if not judged:
        return "Too few independent samples to decide whether the run agrees with the reference."
    if not differing:
        which = f"All {judged} observables compared agree" if judged > 1 else "The one observable compared agrees"
        sentence = f"{which} with the reference within noise."
    elif not agreeing:
        sentence = f"None of the {judged} observables compared agrees with the reference within noise."
    else:
        sentence = f"{agreeing} of {judged} observables agree with the reference within noise."
    if differing and chance:
        sentence += " One in twenty falls outside by chance, and these are not far outside."
    return sentence + (f" {undecided} more cannot be decided: too few samples." if undecided else "")


def _no_verdict(obstacle: str) -> str:
    return f"No verdict: {obstacle.removesuffix(': no verdict').removesuffix(' for a verdict')}."


def _by_chance(compared: int, differing: tuple[Observable, ...]) -> bool:
    """Return whether equal distributions would give as many differences by chance, none far beyond its threshold."""
    ratios = [
        abs(row.difference.measured.value) / row.difference.threshold
        for row in differing
        if row.difference is not None and row.difference.threshold
    ]
    few = binom.sf(len(differing) - 1, compared, 1 - CONFIDENCE) > 1 - CONFIDENCE
    return bool(few) and len(ratios) == len(differing) and max(ratios, default=0.0) < FAR_OUTSIDE


def verdict_of(group: RunGroup) -> tuple[str, str]:
    """Return two sentences: how long a group was stable, and how many observables agree with the reference.

    The second sentence is empty if structure was not compared.
    """
    if group.is_single:
        comparison = group.members[0]
        verdict = judge(comparison)
        return verdict.stability, verdict.agreement if comparison.compares_structure else ""
    broken = [member for member in group.members if not member.stable]
    count = len(group.members)
    if broken:
        first = min(member.stable_time.value for member in broken)
        stability = (
            f"{count - len(broken)} of {count} replicas stable; the first to break did so at {picoseconds(first)}."
        )
    else:
        shortest = min(member.stable_time.value for member in group.members)
        stability = f"All {count} replicas stable, for {picoseconds(shortest)} or longer."
    verdicts = [row.agrees for row in group.rows if row.agrees is not None]
    obstacles = {member.skip.obstacle for member in group.members}
    if None not in obstacles:
        return stability, _no_verdict(str(min(obstacles, key=str)))
    if not verdicts:
        return stability, ""
    return stability, f"{sum(verdicts)} of {len(verdicts)} observables agree with the reference within noise."
