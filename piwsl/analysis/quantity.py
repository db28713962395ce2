"""Interface of quantities, which collect statistics over frames and compare a run with a reference.

Each module in `piwsl.analysis.quantities` implements one quantity. To implement a custom quantity, derive a class from
`Quantity`, or from `piwsl.analysis.ScalarQuantity` for one number per frame.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np

from piwsl.analysis.run_directory import Run
from piwsl.analysis.statistics.arrays import flatten, restore
from piwsl.analysis.statistics.curves import CurveComparison
from piwsl.analysis.statistics.distributions import DistributionComparison
from piwsl.analysis.statistics.results import Difference, Measurement
from piwsl.analysis.statistics.uncertainty import block_average
from piwsl.errors import ConfigError
from piwsl.structures.bonds import BondGraph, Bonds, bond_lengths
from piwsl.structures.periodic import image_vectors
from piwsl.trajectories.frame_source import FrameSource
from piwsl.trajectories.thermo import Thermo
from piwsl.typing import FloatArray, IntArray

S = TypeVar("S")  # statistics of a quantity over the frames of one trajectory
C = TypeVar("C", covariant=True)
D = TypeVar("D")  # typed result of a comparison

NO_BONDS = Bonds(np.zeros((0, 2), dtype=np.int64), np.zeros(0), ())


@dataclass(frozen=True, eq=False)
class Frames:
    """A piece of a trajectory.

    Attributes:
        first: Index of the first frame.
        positions: Positions (f, atoms, 3), angstrom; unwrapped in a periodic cell.
        cells: Cells (f, 3, 3), angstrom; None in vacuum.
        bonds: Bonds of the reference, with periodic images for this trajectory.
    """

    first: int
    positions: FloatArray
    cells: FloatArray | None = None
    bonds: Bonds = NO_BONDS

    def __len__(self) -> int:
        return len(self.positions)

    @cached_property
    def bond_vectors(self) -> FloatArray:
        """Vectors (f, bonds, 3) from the first to the second atom of each bond in a periodic cell, angstrom."""
        assert self.cells is not None
        return image_vectors(self.positions, self.cells, self.bonds)

    @cached_property
    def bond_lengths(self) -> FloatArray:
        """Bond lengths (f, bonds), angstrom."""
        if self.cells is None:
            return bond_lengths(self.positions, self.bonds.pairs)
        return np.asarray(np.linalg.norm(self.bond_vectors, axis=-1))

    def before(self, frame: int) -> "Frames":
        """Return the frames of this piece that come before a frame of the trajectory."""
        count = frame - self.first
        return Frames(
            self.first, self.positions[:count], None if self.cells is None else self.cells[:count], self.bonds
        )


def frames_of(source: FrameSource, bonds: Bonds, stop: int | None = None) -> Iterator[Frames]:
    """Yield the pieces of a source, up to the frame ``stop``."""
    for first, positions, cells in source.pieces_with_cells(stop):
        yield Frames(first, positions, cells, bonds)


class Survey(Protocol):
    """Interface for collecting positions in a first pass, before the collectors."""

    def add(self, positions: FloatArray, first: int) -> None:
        """Add positions (f, atoms, 3), angstrom, of the stable frames from ``first`` on."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Frames of a run or a reference on which quantities are measured.

    Attributes:
        source: Source of the frames; unwrapped in a periodic cell.
        frames: Number of frames to use from the start of the source; for a run, the stable frames.
        bonds: Bonds of the reference, with periodic images for this source.
        start: Positions (atoms, 3) of the first frame of the reference, angstrom.
        cell: Cell (3, 3) of the first frame, angstrom; None in vacuum.
        reference_name: Name of the reference.
        surveys: Results of the first pass, by key of the quantity.
        run: Run that is measured; None for a reference.
        end: Time at which the stable part of the run ends, fs.
        begin: Time up to which the run is skipped, fs.
        weights: Masses (atoms,) used as weights for structural quantities of run and reference, amu; by default the
            masses of the source.
    """

    source: FrameSource
    frames: int
    bonds: Bonds
    start: FloatArray
    cell: FloatArray | None
    reference_name: str
    surveys: Mapping[str, Survey] = field(default_factory=dict)
    run: Run | None = None
    end: float = np.inf
    begin: float = -np.inf
    weights: FloatArray | None = None

    @property
    def species(self) -> IntArray:
        """Atomic numbers (atoms,)."""
        return self.source.species

    @property
    def masses(self) -> FloatArray:
        """Masses (atoms,) used as weights for structural quantities, amu; dynamics uses ``source.masses``."""
        return self.source.masses if self.weights is None else self.weights

    @property
    def times(self) -> FloatArray | None:
        """Times (frames,) of all frames of the source, fs; None for frames without times."""
        return self.source.times

    @cached_property
    def graph(self) -> BondGraph:
        """Bond graph of a molecule."""
        return BondGraph(self.species, self.bonds)

    @cached_property
    def thermo(self) -> Thermo | None:
        """Energies and temperatures of the stable part of the run; None if the run has none."""
        if self.run is None or self.run.thermo is None:
            return None
        thermo = self.run.thermo
        inside = (thermo.times < self.end) & (thermo.times > self.begin)
        return thermo.chosen(inside & np.isfinite(thermo.total) & np.isfinite(thermo.temperature))

    @cached_property
    def temperature(self) -> float | None:
        """Thermostat temperature, or otherwise the mean temperature of the run, K; None if unknown."""
        if self.run is not None and self.run.target_temperature:
            return self.run.target_temperature
        if self.thermo is None or not len(self.thermo.times):
            return None
        return block_average(self.thermo.temperature, "K").value

    def pieces(self) -> Iterator[Frames]:
        """Yield the frames to use, in pieces."""
        return frames_of(self.source, self.bonds, self.frames)


class Collector(Protocol[C]):
    """Interface for collecting the statistics of one quantity from pieces of a trajectory in bounded memory."""

    def add(self, frames: Frames) -> None:
        """Add the next piece."""

    def statistics(self) -> C | None:
        """Return the statistics of all frames; None if the frames are insufficient."""


@dataclass(frozen=True)
class Observable:
    """One row of the table: values of run and reference, and their difference; each may be missing.

    Attributes:
        key: Stable identifier, such as ``bond.C-H.mean``.
        name: Display name.
    """

    key: str
    name: str
    run: Measurement | None = None
    reference: Measurement | None = None
    difference: Difference | None = None

    @property
    def agrees(self) -> bool | None:
        """Whether run and reference agree within noise; None if not compared or undecided."""
        return None if self.difference is None else self.difference.agrees

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        parts = {"run": self.run, "reference": self.reference, "difference": self.difference}
        return {"name": self.name} | {key: part.as_dict() for key, part in parts.items() if part is not None}


@dataclass(frozen=True, eq=False)
class Panel:
    """A distribution to draw. Its points are also written to ``curves.csv``.

    Attributes:
        key: Stable identifier, such as ``bond.C-H``. Panels of the same family (the part before the dot) share a
            figure.
        name: Display name, shown above the panel.
        distribution: Distributions of run and reference.
        horizontal, vertical: Labels of the axes.
    """

    key: str
    name: str
    distribution: DistributionComparison
    horizontal: str
    vertical: str = "Probability density"


@dataclass(frozen=True)
class FigureText:
    """Title and captions of a figure.

    Attributes:
        title: Title of a figure with several panels.
        file: Name of the files; by default the name of the family.
        caption: Caption for one run; by default derived from the panels.
        caption_of_several: Caption for several runs.
        shows_difference: Draw only the first panel, with the difference from the reference below.
    """

    title: str
    file: str | None = None
    caption: str | None = None
    caption_of_several: str | None = None
    shows_difference: bool = False


@dataclass(frozen=True)
class Highlight:
    """A number at the top of the report, with its name and an explanation."""

    value: str
    name: str
    detail: str

    @classmethod
    def of_difference(cls, difference: Difference, name: str) -> "Highlight":
        """Create a highlight from a difference and its noise limit."""
        return cls(difference.measured.text(), name, difference.noise_text())


@dataclass(frozen=True, eq=False)
class QuantityComparison(Generic[D]):
    """Comparison of one quantity between run and reference.

    Attributes:
        key: Key of the quantity.
        details: Typed result for use in Python.
        rows: Rows of the table, stored in ``analysis.json`` under ``observables``.
        curves: Curves to draw, stored in ``analysis.json`` under ``curves``.
        panels: Distributions to draw.
        plain: Additional keys of ``analysis.json``.
        highlights: Numbers at the top of the report.
        notes: Remarks on the results.
        figures: Titles and captions of the figures by family.
    """

    key: str
    details: D
    rows: Sequence[Observable] = ()
    curves: Sequence[CurveComparison] = ()
    panels: Sequence[Panel] = ()
    plain: Mapping[str, Any] = field(default_factory=dict)
    highlights: Sequence[Highlight] = ()
    notes: Sequence[str] = ()
    figures: Mapping[str, FigureText] = field(default_factory=dict)


def undecided(comparison: QuantityComparison[D]) -> QuantityComparison[D]:
    """Return a comparison without verdicts, except in ``details``."""

    def without(difference: Difference | None) -> Difference | None:
        return None if difference is None else replace(difference, judged=False)

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: None if key == "within_noise" else plain(entry) for key, entry in value.items()}
        return [plain(entry) for entry in value] if isinstance(value, list) else value

    panels = []
    for panel in comparison.panels:
        distances = {
            name: replace(getattr(panel.distribution, name), judged=False) for name in ("difference", "wasserstein")
        }
        panels.append(replace(panel, distribution=replace(panel.distribution, **distances)))
    return replace(
        comparison,
        rows=[replace(row, difference=without(row.difference)) for row in comparison.rows],
        curves=[replace(curve, difference=without(curve.difference)) for curve in comparison.curves],
        panels=panels,
        plain=plain(comparison.plain),
    )


class Quantity(ABC, Generic[S]):
    """Base class of quantities measured on the frames of a trajectory.

    Attributes:
        key: Unique name in saved statistics and in `Comparison`.
        statistics: Return type of the collector: a frozen dataclass of arrays, numbers, strings and dictionaries of
            these, or such a dictionary. Type hints determine how it is saved and loaded.
        needs_frames: Whether the quantity requires stable frames.
        needs_reference: Whether the quantity requires statistics of the reference.
        absent: Keys of ``analysis.json``, with their values if the quantity was not compared.
    """

    key: ClassVar[str]
    statistics: ClassVar[Any]
    needs_frames: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = True
    absent: ClassVar[Mapping[str, Any]] = {}

    def survey(self, species: IntArray) -> Survey | None:
        """Return a survey for a first pass over the stable frames; None by default.

        Args:
            species: Atomic numbers (atoms,).
        """
        return None

    @abstractmethod
    def collector(self, sample: Sample) -> Collector[S] | None:
        """Return a new collector for a trajectory; None if the quantity does not apply to the trajectory.

        Times, velocities, cells and energies are available in ``sample``.
        """

    @abstractmethod
    def compare(self, run: S, reference: S | None, sample: Sample) -> QuantityComparison[Any]:
        """Compare the statistics of a run with the statistics of the reference.

        Args:
            run: Statistics of the stable frames.
            reference: Statistics of the reference; None only if ``needs_reference`` is False.
            sample: Sample from which the statistics of the run were collected.
        """

    def missing_note(self, sample: Sample) -> str | None:
        """Return a note on why a run has no statistics of this quantity; None if no note is needed."""
        return None

    def save(self, statistics: S) -> dict[str, Any]:
        """Return the statistics as named arrays."""
        return flatten(statistics)

    def load(self, arrays: Mapping[str, Any]) -> S:
        """Restore statistics from the arrays that `save` returned.

        Raises:
            KeyError: An array is missing.
        """
        restored: S = restore(self.statistics, arrays)
        return restored


def survey_frames(quantities: Sequence[Quantity[Any]], species: IntArray) -> dict[str, Survey]:
    """Return the surveys by key, for the quantities that need a first pass."""
    surveys = {quantity.key: quantity.survey(species) for quantity in quantities}
    return {key: survey for key, survey in surveys.items() if survey is not None}


def measure(sample: Sample, quantities: Sequence[Quantity[Any]]) -> dict[str, Any]:
    """Measure all applicable quantities in one pass over the frames, and return their statistics by key.

    Raises:
        DataError: The frames cannot be read.
    """
    collectors: dict[str, Collector[Any]] = {}
    for quantity in quantities:
        if sample.frames or not quantity.needs_frames:
            collector = quantity.collector(sample)
            if collector is not None:
                collectors[quantity.key] = collector
    for frames in sample.pieces():
        for collector in collectors.values():
            collector.add(frames)
    measured = {key: collector.statistics() for key, collector in collectors.items()}
    return {key: statistics for key, statistics in measured.items() if statistics is not None}


def checked_quantities(standard: Sequence[Quantity[Any]], additional: Sequence[object]) -> tuple[Quantity[Any], ...]:
    """Return the standard quantities and the validated custom quantities.

    Raises:
        ConfigError: An object is not a `Quantity`, or two quantities have the same key.
    """
    checked = list(standard)
    keys = {quantity.key for quantity in standard}
    for quantity in additional:
        if not isinstance(quantity, Quantity):
            kind = quantity.__name__ if isinstance(quantity, type) else type(quantity).__name__
            raise ConfigError(f"quantities: {kind} is not an instance of a class derived from Quantity")
        if quantity.key in keys or "/" in quantity.key:
            raise ConfigError(
                f"quantities: the key {quantity.key!r} is already used or contains a slash: choose another key"
            )
        keys.add(quantity.key)
        checked.append(quantity)
    return tuple(checked)
