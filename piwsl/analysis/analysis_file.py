"""Typed content of ``analysis.json``, for programs that read the results of `piwsl analyze`.

Numbers that are not finite are None. Keys of a later version are ignored; the keys of quantities of your own are kept
among the extra fields of `AnalysisRecord`. A change that removes a key or alters its meaning increases
``format_version``.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from piwsl.errors import DataError, RunDirectoryError, shortened
from piwsl.runs.summary import ViolationRecord

ANALYSIS_FILE = "analysis.json"

_Count = Annotated[int, Field(ge=0)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, strict=True, frozen=True)


class MeasurementRecord(_Record):
    """A number.

    Attributes:
        value: Value in ``unit``; None if the value is not finite.
        uncertainty: One standard error; None with fewer than two independent samples.
        unit: Unit, such as ``angstrom``, ``fs`` or ``K``; empty for a pure number.
        samples: Number of independent samples.
    """

    value: float | None
    uncertainty: float | None
    unit: str
    samples: _Count


class DifferenceRecord(MeasurementRecord):
    """A difference between run and reference.

    Attributes:
        noise_limit_95: Limit below which noise alone stays in 95 of 100 cases; None if it cannot be estimated.
        noise_floor: Difference between the two halves of the reference, scaled to the lengths that are compared.
        threshold: Larger value of ``noise_limit_95`` and ``noise_floor``.
        within_noise: Whether the difference is within the threshold; None if there are too few samples.
    """

    noise_limit_95: float | None
    noise_floor: float | None
    threshold: float | None
    within_noise: bool | None


class DistributionRecord(_Record):
    """A normalized histogram.

    Attributes:
        unit: Unit of the edges.
        edges: (bins + 1,).
        density: (bins,) in 1/``unit``.
        error: (bins,) standard error of the density, or None.
        samples: Number of independent samples.
        beyond: Fraction of the values outside the edges.
    """

    unit: str
    edges: list[float]
    density: list[float]
    error: list[float] | None
    samples: _Count
    beyond: float


class DistributionComparisonRecord(_Record):
    """Distributions of run and reference: integral of the absolute difference, Wasserstein distance, overlap."""

    difference: DifferenceRecord
    wasserstein: DifferenceRecord
    overlap: MeasurementRecord
    run: DistributionRecord
    reference: DistributionRecord


class ComparedRecord(_Record):
    """A number of the run, that of the reference, and their difference."""

    run: MeasurementRecord
    reference: MeasurementRecord
    difference: DifferenceRecord


class BondRecord(_Record):
    """Lengths of the bonds of one type: their number, mean, standard deviation and distribution."""

    bonds: _Count
    mean: ComparedRecord
    width: ComparedRecord
    distribution: DistributionComparisonRecord


class CoordinationRecord(ComparedRecord):
    """Neighbors within the first shell.

    Attributes:
        shell_angstrom: Radius of the shell.
    """

    shell_angstrom: float


class TemperatureRecord(_Record):
    """Temperature of the run, K.

    Attributes:
        mean: Mean over the stable part of the run.
        deviation: Standard deviation.
        target: Temperature of the thermostat; None in nve and for a temperature schedule.
        difference: Mean minus target.
        canonical_deviation: Standard deviation in the canonical ensemble.
    """

    mean: MeasurementRecord
    deviation: MeasurementRecord
    target: float | None
    difference: DifferenceRecord | None
    canonical_deviation: float | None


class EnergyDriftRecord(_Record):
    """Total energy in nve: slope of a straight line per 10 ps and per ns, and the standard deviation about it."""

    per_10_ps: MeasurementRecord
    per_ns: MeasurementRecord
    fluctuation: MeasurementRecord


class AxisRecord(_Record):
    """Name and unit of an axis."""

    name: str
    unit: str


class CurveRecord(_Record):
    """A function at points: (points,) each, with the band of one standard error, or None."""

    samples: _Count
    x: list[float | None]
    y: list[float | None]
    low: list[float | None] | None
    high: list[float | None] | None


class CurveComparisonRecord(_Record):
    """A curve of the run and that of the reference.

    Attributes:
        name: Display name.
        x, y: Axes.
        run: Curve of the run.
        reference: Curve of the reference, or None.
        difference: Difference between the curves, if it is defined.
        numbers: Values derived from the curves of the run and the reference, by name.
        notes: Remarks on the results.
    """

    name: str
    x: AxisRecord
    y: AxisRecord
    run: CurveRecord
    reference: CurveRecord | None
    difference: DifferenceRecord | None
    numbers: dict[str, list[MeasurementRecord | None]]
    notes: list[str]


class ObservableRecord(_Record):
    """A line of the table; an entry that does not exist is None."""

    name: str
    run: MeasurementRecord | None = None
    reference: MeasurementRecord | None = None
    difference: DifferenceRecord | None = None


class BrokenRecord(_Record):
    """The first frame with a broken bond.

    Attributes:
        frame: Index of the frame.
        time: Time, fs.
        atoms: Indices of both atoms.
        kind: Bond type, such as ``C-H``.
        length: Bond length, angstrom; None if a position is not finite.
        reference_length: Mean length in the reference, angstrom.
    """

    frame: _Count
    time: float
    atoms: list[_Count]
    kind: str
    length: float | None
    reference_length: float | None


class ContactRecord(_Record):
    """The first frame in which atoms are too close: distance and limit in angstrom, time in fs."""

    frame: _Count
    time: float
    atoms: list[_Count]
    kind: str
    distance: float
    limit: float
    of_metal: bool = False


class StabilityRecord(_Record):
    """Stability by the bond rule.

    Attributes:
        time: Time until the first broken bond, or until the end of the run.
        lower_bound: Whether no bond broke.
        resolution_fs: Interval between frames.
        stable_frames: Number of frames before the first broken bond.
        frames: Number of all frames.
        largest_deviation_angstrom: Limit of the bond rule.
        broken: Broken bond, or None.
    """

    time: MeasurementRecord
    lower_bound: bool
    resolution_fs: float
    stable_frames: _Count
    frames: _Count
    largest_deviation_angstrom: float
    broken: BrokenRecord | None


class RunRecord(_Record):
    """The run: directory, system, protocol and result.

    Attributes:
        temperature_K: a text such as ``300:500`` if the temperature changes.
    """

    directory: str
    system: str
    formula: str
    ensemble: str
    temperature_K: float | str
    requested_fs: float
    done_fs: float
    frames: _Count
    result: str
    stop: ViolationRecord | None


class ReferenceRecord(_Record):
    """The reference: name, number of frames, length if its frames have times, and hash of its file if it is one."""

    name: str
    frames: _Count
    length_fs: float | None
    sha256: str | None


class SkippedRecord(_Record):
    """The start of the run that is left out, whether the energies decided it, and why."""

    time_fs: float
    frames: _Count
    automatic: bool
    reason: str


class AnalysisRecord(_Record):
    """Results of one run.

    Attributes:
        format, format_version: Type and version of the record.
        piwsl_version: Version of piwsl that wrote the record.
        name: Name of the run among several runs; None for a single run and for a replica.
        run, reference: Compared trajectories.
        skipped: Start of the run that is not analyzed.
        no_verdict: Reason why there is no verdict; None if there is a verdict.
        stable: Whether the run was stable to its end.
        stable_time: Time until the first violation, or until the end of the run.
        stability: Stability according to the bond rule.
        contact: First pair of atoms that collapsed, or None.
        h_of_r: Distribution of all interatomic distances; None for a periodic cell.
        h_of_r_by_pair: Distributions of distances by pair of elements, such as ``C-H``.
        bonds, angles, dihedrals: Distributions by type, such as ``C-H``, ``C-C-O`` and ``C-C-O-H``.
        coordination: Numbers of neighbors by elements, such as ``O around Ti``.
        temperature, energy_drift: Results from the table of energies; None if there is no table.
        observables: Rows of the table by key.
        within_noise: Verdicts of the table by key.
        curves: Curves by key, such as ``rdf.O-Ti``, ``torsion.C0-C1-O3-C4`` and ``spectrum``.
        notes: Remarks on the results.
    """

    model_config = ConfigDict(extra="allow", allow_inf_nan=False, strict=True, frozen=True)

    name: str | None = None
    format: Literal["piwsl-analysis"]
    format_version: Literal[1]
    piwsl_version: str
    run: RunRecord
    reference: ReferenceRecord
    skipped: SkippedRecord
    no_verdict: str | None
    stable: bool
    stable_time: MeasurementRecord
    stability: StabilityRecord
    contact: ContactRecord | None
    h_of_r: DistributionComparisonRecord | None
    h_of_r_by_pair: dict[str, DistributionComparisonRecord]
    bonds: dict[str, BondRecord]
    angles: dict[str, DistributionComparisonRecord]
    dihedrals: dict[str, DistributionComparisonRecord]
    coordination: dict[str, CoordinationRecord]
    temperature: TemperatureRecord | None
    energy_drift: EnergyDriftRecord | None
    observables: dict[str, ObservableRecord]
    within_noise: dict[str, bool | None]
    curves: dict[str, CurveComparisonRecord]
    notes: list[str]


class ReplicaObservableRecord(_Record):
    """A line of the table of replicas.

    Attributes:
        name: Display name.
        run, reference, difference: Means over the replicas, with the standard error from their spread.
        threshold: Mean of the thresholds.
        judged: Number of replicas with enough samples for a verdict.
        agreeing: Number of these replicas that agree with the reference.
        within_noise: Verdict for all replicas together.
    """

    name: str
    run: MeasurementRecord | None
    reference: MeasurementRecord | None
    difference: MeasurementRecord | None
    threshold: float | None
    judged: _Count
    agreeing: _Count
    within_noise: bool | None


class ReplicasRecord(_Record):
    """Results of the replicas of one run.

    Attributes:
        name: Name of the group.
        format, format_version: Type and version of the record.
        piwsl_version: Version of piwsl that wrote the record.
        stable: Whether all replicas are stable.
        stable_replicas: Number of stable replicas.
        observables: Rows of the table by key.
        curves: Curves of the replicas together, such as their survival, by key.
        replicas: Results of each replica.
    """

    name: str
    format: Literal["piwsl-analysis-replicas"]
    format_version: Literal[1]
    piwsl_version: str
    stable: bool
    stable_replicas: _Count
    observables: dict[str, ReplicaObservableRecord]
    curves: dict[str, CurveComparisonRecord]
    replicas: list[AnalysisRecord]


_Entry = Annotated[AnalysisRecord | ReplicasRecord, Field(discriminator="format")]
_CONTENT: TypeAdapter[AnalysisRecord | ReplicasRecord] = TypeAdapter(_Entry)


def read_analysis(path: str | Path) -> tuple[AnalysisRecord | ReplicasRecord, ...]:
    """Read the results that `piwsl analyze` wrote.

    Args:
        path: ``analysis.json``, or the directory that contains it.

    Returns:
        One record for each run that was analyzed, or for its replicas.

    Raises:
        RunDirectoryError: there is no such file, or it cannot be read.
        DataError: the file is damaged, or of another version of the format.
    """
    path = Path(path)
    file = path / ANALYSIS_FILE if path.is_dir() else path
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunDirectoryError(
            f"{file}: cannot be read ({error.strerror}): name the output of piwsl analyze"
        ) from None
    except (ValueError, RecursionError):
        raise DataError(f"{file}: not valid JSON: repeat the analysis") from None
    return tuple(_record(entry, file) for entry in (content if isinstance(content, list) else [content]))


def _record(entry: Any, file: Path) -> AnalysisRecord | ReplicasRecord:
    try:
        return _CONTENT.validate_python(entry)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise DataError(
            f"{file}: not an analysis of this version: {shortened(key)}: {shortened(first['msg'].lower())}: "
            "repeat the analysis"
        ) from None
