"""Reading and comparing the runs of `piwsl analyze`, with progress."""

from collections.abc import Sequence
from pathlib import Path

from piwsl.analysis import (
    Comparison,
    Reference,
    ReferenceStatistics,
    Run,
    bundled_reference,
    compare_run,
    is_reference_statistics,
    read_reference,
    read_reference_statistics,
    read_run,
)
from piwsl.analysis.groups import RunGroup, replica_directories, unique_names
from piwsl.analysis.statistics.curves import CurveComparison
from piwsl.analysis.statistics.survival import survival, survival_curve
from piwsl.cli.analyze_display import reading
from piwsl.errors import DataError, RunDirectoryError
from piwsl.trajectories.source import Progress, first_frame


def analyze_runs(
    paths: Sequence[Path],
    reference: Path | None,
    topology: Path | None,
    units: str | None,
    map_atoms: bool = False,
) -> tuple[RunGroup, ...]:
    """Compare run directories, or directories of replicas, with one reference.

    Args:
        paths: at least one.
        reference: file, or None for that of the bundled system of the first run.
        topology: of a reference that holds positions only.
        units: of the reference.
        map_atoms: accept another order of atoms than the reference's.

    Raises:
        PiwslError: one of them cannot be read or compared; where there are several, the message names it.
    """
    names = unique_names(paths)
    members = [replica_directories(path) for path in paths]
    count = sum(len(found) for found in members)
    first = _read(members[0][0], None)
    with reading("reference") as progress:
        against = _reference(first, reference, topology, units, progress)
        if isinstance(against, Reference):
            in_vacuum = first_frame(first.frames)[1] is None
            against = (against.in_vacuum() if in_vacuum else against).statistics
    groups, done = [], 0
    for name, found in zip(names, members, strict=True):
        comparisons = []
        for path in found:
            done += 1
            with reading(f"run {path.name}, {done} of {count}" if count > 1 else "run") as progress:
                comparisons.append(_compare(_read(path, progress), against, map_atoms, named=count > 1))
        groups.append(RunGroup(name, tuple(comparisons), _survival(comparisons)))
    return tuple(groups)


def _survival(comparisons: Sequence[Comparison]) -> tuple[CurveComparison, ...]:
    """Of replicas; a single run has none."""
    if len(comparisons) < 2:
        return ()
    times = [one.stable_time.value for one in comparisons]
    return (survival_curve(survival(times, [not one.stable for one in comparisons])),)


def _read(path: Path, progress: Progress | None) -> Run:
    try:
        return read_run(path, progress)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise RunDirectoryError(f"{path}: cannot be read ({reason})") from None


def _reference(
    run: Run, reference: Path | None, topology: Path | None, units: str | None, progress: Progress | None
) -> Reference | ReferenceStatistics:
    if reference is None:
        return bundled_reference(run.name, progress)
    if is_reference_statistics(reference):
        return read_reference_statistics(reference)
    return read_reference(reference, topology, units, progress)


def _compare(run: Run, reference: ReferenceStatistics, map_atoms: bool, named: bool) -> Comparison:
    try:
        return compare_run(run, reference, map_atoms)
    except DataError as error:
        if not named:
            raise
        raise DataError(f"{run.path}: {error}") from None
