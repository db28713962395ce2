"""Analyze molecular dynamics runs: the function behind `piwsl analyze`, and its result."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from piwsl.analysis.compare_run import compare_run, structure_weights
from piwsl.analysis.comparison import Comparison
from piwsl.analysis.groups import Line, RunGroup, side_by_side
from piwsl.analysis.names import named_groups
from piwsl.analysis.quantity import Quantity, checked_quantities
from piwsl.analysis.reference import Reference, bundled_reference, read_reference
from piwsl.analysis.reference_statistics import (
    ReferenceStatistics,
    is_reference_statistics,
    read_reference_statistics,
    save_statistics,
)
from piwsl.analysis.run_directory import Run, read_run, replica_directories
from piwsl.analysis.statistics.curves import CurveComparison
from piwsl.analysis.statistics.survival import survival, survival_curve
from piwsl.analysis.verdict import verdict_of
from piwsl.errors import ConfigError, DataError, RunDirectoryError, public
from piwsl.runs.progress import Step, reporting
from piwsl.trajectories.frame_source import Progress, first_frame

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Reading(NamedTuple):
    """Progress of `analyze`.

    Attributes:
        name: ``reference``, or the name of the run that is being read.
        done: Number of frames read in this pass.
        total: Number of frames in this pass.
    """

    name: str
    done: int
    total: int


@dataclass(frozen=True, eq=False)
class Analysis:
    """Runs compared with one reference. Notebooks display the verdict, the table and a plot.

    Attributes:
        groups: One group for each path given to `analyze`: a run, or the replicas of a run.
        files: Paths of the written files by name; empty without an output directory.
    """

    groups: tuple[RunGroup, ...]
    files: Mapping[str, Path] = field(default_factory=dict)

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Comparisons of all runs; replicas are listed individually."""
        return tuple(member for group in self.groups for member in group.members)

    @property
    def reference(self) -> ReferenceStatistics:
        """Statistics of the reference, which is the same for all runs."""
        return self.groups[0].members[0].reference

    @property
    def verdict(self) -> str:
        """Verdict with one line per group: how long it was stable, and how many observables agree."""
        sentences = [" ".join(filter(None, verdict_of(group))) for group in self.groups]
        if len(self.groups) == 1:
            return sentences[0]
        return "\n".join(f"{group.name}: {text}" for group, text in zip(self.groups, sentences, strict=True))

    @property
    def rows(self) -> tuple[Line, ...]:
        """Rows of the table: one row per observable, with one cell per group."""
        return side_by_side(self.groups)

    @property
    def curves(self) -> dict[str, tuple[CurveComparison, ...]]:
        """Curves by key (``rdf.Cu-Cu``, ``spectrum``, ...), one for each run that has the curve."""
        curves: dict[str, list[CurveComparison]] = {}
        for group in self.groups:
            for curve in [*(curve for member in group.members for curve in member.curves), *group.curves]:
                curves.setdefault(curve.key, []).append(curve)
        return {key: tuple(entries) for key, entries in curves.items()}

    def to_dict(self) -> dict[str, Any] | list[dict[str, Any]]:
        """Return the contents of ``analysis.json``: a dictionary for one group, a list for several groups."""
        from piwsl.analysis.report.write import numbers_of

        return numbers_of(self.groups)

    def save(self, output: str | Path, report: bool = True) -> dict[str, Path]:
        """Write numbers, tables, figures and the report. An earlier analysis in the directory is replaced.

        Args:
            output: Output directory.
            report: Also write ``report.html`` and the figures.

        Returns:
            Paths of the files by name.

        Raises:
            RunDirectoryError: The directory contains unrelated files or cannot be written.
        """
        from piwsl.analysis.report import write_analysis

        return write_analysis(self.groups, Path(output), report)

    def plot(self, name: str | None = None) -> "Figure":
        """Draw a figure of the report.

        Args:
            name: Name of the figure, as in its file name (``bond_lengths``, ``rdf``, ...). By default the first figure:
                h(r) of a molecule, g(r) of a periodic cell.

        Raises:
            ConfigError: The analysis has no figure with this name.
        """
        from piwsl.analysis.report.plots import plots_of
        from piwsl.analysis.report.style import LIGHT, WIDE, drawing

        plots = {plot.name: plot for plot in plots_of(self.groups)}
        chosen = next(iter(plots), None) if name is None else name
        if chosen not in plots:
            raise ConfigError(f"no figure {chosen!r} in this analysis: use one of {', '.join(plots) or '(none)'}")
        with drawing(WIDE, LIGHT):
            return plots[chosen].draw(WIDE, LIGHT)

    def _repr_html_(self) -> str:
        from piwsl.analysis.report.notebook import notebook_html

        return notebook_html(self.groups)


@public
def analyze(
    runs: str | Path | Sequence[str | Path],
    *,
    reference: str | Path | Reference | ReferenceStatistics | None = None,
    reference_topology: str | Path | None = None,
    units: str | None = None,
    accept_mapping: bool = False,
    quantities: Sequence[Quantity[Any]] | None = None,
    skip: float | None = None,
    output: str | Path | None = None,
    report: bool = True,
    save_reference: str | Path | None = None,
    progress: Callable[[Reading], None] | bool | None = None,
) -> Analysis:
    """Compare runs with a reference.

    Args:
        runs: A run directory, a directory of replicas, or a sequence of these.
        reference: Trajectory, npz, extended XYZ, run directory or saved statistics; by default the reference of the
            bundled system of the first run.
        reference_topology: PDB file for a reference that contains only positions (DCD, XTC, ...).
        units: Length unit of an npz or XYZ reference that is not in angstrom, such as ``nm``.
        accept_mapping: Accept an order of atoms that differs from the reference, and map the atoms by the bonds of the
            first frame.
        quantities: Custom quantities, measured in addition to the standard quantities. They appear in table, JSON, CSV
            and report.
        skip: Time in ps to skip at the start of each run; by default the time during which energies, temperature or
            volume drift. The first note of a comparison states the choice.
        output: Directory for numbers, figures and report; None writes no files.
        report: Write ``report.html`` and figures to ``output``.
        save_reference: Path of an npz file for the statistics of the reference. The file can be passed as ``reference``
            instead of the frames.
        progress: Function called with a `Reading` after each piece of frames; True or False shows or hides a progress
            bar. By default, a bar is shown in notebooks and interactive sessions.

    Returns:
        Observables with uncertainties, differences from the reference, and noise limits of the differences.

    Raises:
        RunDirectoryError: A directory contains no run, or ``output`` contains unrelated files.
        DataError: A run or the reference cannot be read, or they are different molecules.
        ConfigError: A run is given twice, a unit is unknown, the topology of the reference is missing, ``quantities``
            contains an object of another type, or ``skip`` leaves no frame.

    Example:
        >>> analysis = analyze("runs/md-aspirin")  # doctest: +SKIP
        >>> print(analysis.verdict)  # doctest: +SKIP
        >>> analysis.plot()  # doctest: +SKIP
    """
    paths = [Path(runs)] if isinstance(runs, (str, Path)) else [Path(path) for path in runs]
    if not paths:
        raise ConfigError("runs=[] is empty: give at least one run directory")
    if (reference is None or not isinstance(reference, (str, Path))) and (reference_topology or units):
        raise ConfigError("reference_topology and units apply only to a reference file: give reference=FILE")
    if output is not None:
        from piwsl.analysis.report import check_output

        check_output(Path(output))  # fail before the work, not after it
    own = tuple(quantities or ())
    checked_quantities((), own)
    names = unique_names(paths)
    directories = [replica_directories(path) for path in paths]
    count = sum(len(members) for members in directories)
    first = _read_run(directories[0][0], None)
    topology = None if reference_topology is None else Path(reference_topology)
    groups, number = [], 0
    with reporting(progress, "frame", _step) as callback:
        statistics = _reference_statistics(first, reference, topology, units, own, _progress_of(callback, "reference"))
        for name, members in zip(names, directories, strict=True):
            comparisons = []
            for path in members:
                number += 1
                label = f"run {path.name}, {number} of {count}" if count > 1 else "run"
                run = _read_run(path, _progress_of(callback, label))
                comparisons.append(_compare(run, statistics, accept_mapping, own, skip, is_named=count > 1))
            groups.append(RunGroup(name, tuple(comparisons), _survival(comparisons)))
    if save_reference is not None:
        save_statistics(statistics, save_reference, own)
    analysis = Analysis(named_groups(groups, paths))
    return analysis if output is None else Analysis(analysis.groups, analysis.save(output, report))


def _step(state: Reading) -> Step:
    return Step(state.done, state.total, f"reading the {state.name}")


def _progress_of(callback: Callable[[Reading], None] | None, name: str) -> Progress | None:
    """Return a progress function for the frames of one source."""
    return None if callback is None else lambda done, total: callback(Reading(name, done, total))


def _read_run(path: Path, progress: Progress | None) -> Run:
    try:
        return read_run(path, progress)
    except OSError as error:
        raise RunDirectoryError(f"{path}: cannot be read ({error.strerror})") from None


def _reference_statistics(
    run: Run,
    reference: str | Path | Reference | ReferenceStatistics | None,
    topology: Path | None,
    units: str | None,
    quantities: Sequence[Quantity[Any]],
    progress: Progress | None,
) -> ReferenceStatistics:
    if isinstance(reference, ReferenceStatistics):
        return reference
    if reference is None:
        reference = bundled_reference(run.name, progress)
    elif not isinstance(reference, Reference):
        path = Path(reference)
        if is_reference_statistics(path):
            return read_reference_statistics(path, quantities)
        reference = read_reference(path, topology, units, progress)
    in_vacuum = first_frame(run.frames)[1] is None
    return (reference.in_vacuum() if in_vacuum else reference).measured(quantities, structure_weights(run, reference))


def _compare(
    run: Run,
    reference: ReferenceStatistics,
    accept_mapping: bool,
    quantities: Sequence[Quantity[Any]],
    skip: float | None,
    is_named: bool,
) -> Comparison:
    try:
        return compare_run(run, reference, accept_mapping, quantities, skip)
    except (DataError, ConfigError) as error:
        if not is_named:
            raise
        raise type(error)(f"{run.path}: {error}") from None


def _survival(comparisons: Sequence[Comparison]) -> tuple[CurveComparison, ...]:
    """Return the survival curve of replicas; empty for a single run."""
    if len(comparisons) < 2:
        return ()
    times = [comparison.stable_time.value for comparison in comparisons]
    return (survival_curve(survival(times, [not comparison.stable for comparison in comparisons])),)


def unique_names(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return a short, unique name for each directory, from as few of its last path components as possible.

    Raises:
        ConfigError: A directory is given twice.
    """
    resolved = [path.resolve() for path in paths]
    for index, path in enumerate(resolved):
        if path in resolved[:index]:
            raise ConfigError(f"{paths[index]}: given twice: give each run once")
    parts = 1
    while len({path.parts[-parts:] for path in resolved}) < len(resolved):
        parts += 1
    return tuple("/".join(path.parts[-parts:]) for path in resolved)
