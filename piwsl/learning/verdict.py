"""The verdict of a learning job: one sentence about its result."""

from piwsl.learning.directory import LearnSummary, RoundRecord, StudentLabelsRecord, StudentRecord


def verdict_of(summary: LearnSummary) -> str:
    """Return one sentence about the result."""
    last = summary.students[-1]
    assert last.survival is not None
    own = summary.student_labels
    errors = f", {error_text(last)} on {summary.held_back} held-back labels" if last.energy_mae is not None else ""
    if own is not None:
        measured = f"{error_text(own)} on {own.labels} labels" if own.labels else f"no label of {own.bought} succeeded"
        errors += f", {measured} in its own dynamics"
    facts = f"{last.survival.text()}{errors}; {summary.labels_used} labels"
    if not last.stable:
        return f"not stable: {facts}: raise labels.budget or minutes"
    if not last.faithful:
        return (
            f"stable, but less accurate than the teachers: {facts}: the forces differ from theirs by "
            f"{milli(last.own_force_mae)} meV/A, and theirs from the labels by {milli(last.largest_own_force_mae)}: "
            "raise minutes"
        )
    if own and not own.labels:
        return f"stable, but its errors in its own dynamics are unknown: {facts}"
    if own and own.exceeds:
        return f"stable, but less accurate in its own dynamics: {facts}: raise labels.budget"
    return f"stable: {facts}"


def error_text(record: StudentRecord | StudentLabelsRecord) -> str:
    """Return the error of the forces, or of the energies if labels have no forces."""
    energy = f"{milli(record.energy_mae)} meV"
    return energy if record.force_mae is None else f"{milli(record.force_mae)} meV/A"


def errors_text(record: RoundRecord | StudentRecord | StudentLabelsRecord) -> str:
    """Return the errors of energies and, if labels have forces, of forces."""
    forces = "" if record.force_mae is None else f", {milli(record.force_mae)} meV/A"
    return f"{milli(record.energy_mae)} meV{forces}"


def milli(value: float | None) -> str:
    """Return a value in thousandths, as in messages."""
    return "-" if value is None else f"{1e3 * value:.1f}"
