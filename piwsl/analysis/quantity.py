"""What a quantity of the analysis is: it collects over frames, keeps statistics, and compares run with reference.

Everything about one quantity is in one file of `piwsl.analysis.quantities`; a quantity of your own is a class that
derives from `Quantity`, or from `piwsl.analysis.ScalarQuantity` for a number per frame.
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
D = TypeVar("D")  # what a quantity compared, typed

NO_BONDS = Bonds(np.zeros((0, 2), dtype=np.int64), np.zeros(0), ())


@dataclass(frozen=True, eq=False)
class Frames:
    """A piece of a trajectory.

    Attributes:
        first: Index of its first frame.
        positions: (f, atoms, 3) angstrom; unwrapped in a periodic cell.
        cells: (f, 3, 3) angstrom, or None in vacuum.
        bonds: Of the reference, with the images that belong to this trajectory.
    """

    first: int
    positions: FloatArray
    cells: FloatArray | None = None
    bonds: Bonds = NO_BONDS

    def __len__(self) -> int:
        return len(self.positions)

    @cached_property
    def bond_vectors(self) -> FloatArray:
        """(f, bonds, 3) angstrom, from the first atom of each bond to the second; of a periodic cell."""
        assert self.cells is not None
        return image_vectors(self.positions, self.cells, self.bonds)

    @cached_property
    def bond_lengths(self) -> FloatArray:
        """(f, bonds) angstrom."""
        if self.cells is None:
            return bond_lengths(self.positions, self.bonds.pairs)
        return np.asarray(np.linalg.norm(self.bond_vectors, axis=-1))

    def before(self, frame: int) -> "Frames":
        """Return the frames of this piece before a frame of the trajectory."""
        count = frame - self.first
        return Frames(
            self.first, self.positions[:count], None if self.cells is None else self.cells[:count], self.bonds
        )


def frames_of(source: FrameSource, bonds: Bonds, stop: int | None = None) -> Iterator[Frames]:
    """Yield the pieces of a source, up to the frame ``stop``."""
    for first, positions, cells in source.pieces_with_cells(stop):
        yield Frames(first, positions, cells, bonds)


class Survey(Protocol):
    """Takes positions in a first pass, before the collectors."""

    def add(self, positions: FloatArray, first: int) -> None:
        """Take positions (f, atoms, 3), angstrom, of the stable frames from ``first`` on."""


@dataclass(frozen=True, eq=False)
class Sample:
    """The frames of one trajectory, of a run or of a reference, over which quantities are measured.

    Attributes:
        source: Frames; unwrapped in a periodic cell.
        frames: Number of frames that count, from the first of the source on: those of a run before it broke.
        bonds: Of the reference, with the images that belong to this source.
        start: (atoms, 3) angstrom, the first frame of the reference.
        cell: (3, 3) angstrom, of the first frame; None in vacuum.
        reference_name: Name of the reference.
        surveys: Results of the first pass, by the key of their quantity.
        run: The run, or None for a reference.
        end: Time at which the stable part of the run ends, fs.
        begin: Time up to which the run is left out, fs.
        weights: (atoms,) amu, by which structure is weighted on both sides of a comparison; None: those of the source.
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
        """(atoms,) atomic numbers."""
        return self.source.species

    @property
    def masses(self) -> FloatArray:
        """(atoms,) amu, by which structure is weighted; dynamics has the masses of ``source``."""
        return self.source.masses if self.weights is None else self.weights

    @property
    def times(self) -> FloatArray | None:
        """(frames,) fs, of all frames of the source; None for frames without times."""
        return self.source.times

    @cached_property
    def graph(self) -> BondGraph:
        """Atoms and bonds of a molecule."""
        return BondGraph(self.species, self.bonds)

    @cached_property
    def thermo(self) -> Thermo | None:
        """Energies and temperatures of the stable part of the run; None where there are none."""
        if self.run is None or self.run.thermo is None:
            return None
        thermo = self.run.thermo
        inside = (thermo.times < self.end) & (thermo.times > self.begin)
        return thermo.chosen(inside & np.isfinite(thermo.total) & np.isfinite(thermo.temperature))

    @cached_property
    def temperature(self) -> float | None:
        """Temperature of the thermostat, or else the mean temperature of the run, K; None if unknown."""
        if self.run is not None and self.run.target_temperature:
            return self.run.target_temperature
        if self.thermo is None or not len(self.thermo.times):
            return None
        return block_average(self.thermo.temperature, "K").value

    def pieces(self) -> Iterator[Frames]:
        """Yield the frames that count."""
        return frames_of(self.source, self.bonds, self.frames)


class Collector(Protocol[C]):
    """Collects one quantity over frames that come in pieces, in bounded memory."""

    def add(self, frames: Frames) -> None:
        """Take the next piece."""

    def statistics(self) -> C | None:
        """Return the statistics of all frames; None where the frames do not suffice."""


@dataclass(frozen=True)
class Observable:
    """One line of the table: a quantity of the run, of the reference, and their difference, where each exists.

    Attributes:
        key: Stable name for programs, such as ``bond.C-H.mean``.
        name: For people.
    """

    key: str
    name: str
    run: Measurement | None = None
    reference: Measurement | None = None
    difference: Difference | None = None

    @property
    def agrees(self) -> bool | None:
        """Within noise or not; None where it is not compared or the data do not suffice."""
        return None if self.difference is None else self.difference.agrees

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        parts = {"run": self.run, "reference": self.reference, "difference": self.difference}
        return {"name": self.name} | {key: part.as_dict() for key, part in parts.items() if part is not None}


@dataclass(frozen=True, eq=False)
class Panel:
    """A distribution that is drawn; its points go to ``curves.csv``.

    Attributes:
        key: Stable name for programs, such as ``bond.C-H``; panels of one family (before the dot) share a figure.
        name: For people, above the panel.
        distribution: Of run and reference.
        horizontal, vertical: Names of the axes.
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
        title: Of several panels together.
        file: Name of its files; by default that of the family.
        caption: Below the figure of one run; by default made from the panels.
        caption_of_several: The same for several runs.
        shows_difference: Draw the first panel alone, with the difference from the reference below.
    """

    title: str
    file: str | None = None
    caption: str | None = None
    caption_of_several: str | None = None
    shows_difference: bool = False


@dataclass(frozen=True)
class Highlight:
    """A number at the top of the report: its value, what it is, and how to read it."""

    value: str
    name: str
    detail: str

    @classmethod
    def of_difference(cls, difference: Difference, name: str) -> "Highlight":
        """Return a difference with its noise limit."""
        return cls(difference.measured.text(), name, difference.noise_text())


@dataclass(frozen=True, eq=False)
class QuantityComparison(Generic[D]):
    """One quantity of a run, compared with the reference.

    Attributes:
        key: Of the quantity.
        details: The typed result, for Python.
        rows: Lines of the table; they are in ``analysis.json`` under ``observables``.
        curves: Functions of one variable, drawn and in ``analysis.json`` under ``curves``.
        panels: Distributions that are drawn.
        plain: Further keys of ``analysis.json``.
        highlights: Numbers at the top of the report.
        notes: Remarks on the numbers.
        figures: Words of the figures, by family.
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
    """Return a comparison without verdicts; ``details`` keeps those of its quantity alone."""

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
    """Something that is measured over the frames of a trajectory.

    Attributes:
        key: Name in saved statistics and in `Comparison`; unique.
        statistics: Type of what the collector returns: a frozen dataclass of arrays, numbers, strings and dictionaries
            of these, or such a dictionary. It is saved and loaded by its type hints.
        needs_frames: Whether there is nothing to measure where no frame of the run is stable.
        needs_reference: Whether there is nothing to compare without statistics of the reference.
        absent: Keys of ``analysis.json`` and their values where the quantity was not compared.
    """

    key: ClassVar[str]
    statistics: ClassVar[Any]
    needs_frames: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = True
    absent: ClassVar[Mapping[str, Any]] = {}

    def survey(self, species: IntArray) -> Survey | None:
        """Return what takes the stable frames in a first pass; most quantities need none.

        Args:
            species: (atoms,) atomic numbers.
        """
        return None

    @abstractmethod
    def collector(self, sample: Sample) -> Collector[S] | None:
        """Return a new collector for a trajectory, or None where the quantity does not apply to it.

        A quantity that needs times, velocities, a cell or energies finds them in ``sample``.
        """

    @abstractmethod
    def compare(self, run: S, reference: S | None, sample: Sample) -> QuantityComparison[Any]:
        """Compare the statistics of a run with those of the reference.

        Args:
            run: Statistics of the stable frames.
            reference: Statistics of the reference; None only where ``needs_reference`` is False.
            sample: What the statistics of the run were measured on.
        """

    def missing_note(self, sample: Sample) -> str | None:
        """Return a note on why a run has no statistics of this quantity; None where no note is needed."""
        return None

    def save(self, statistics: S) -> dict[str, Any]:
        """Return the statistics as named arrays."""
        return flatten(statistics)

    def load(self, arrays: Mapping[str, Any]) -> S:
        """Restore what `save` returned.

        Raises:
            KeyError: An array is missing.
        """
        restored: S = restore(self.statistics, arrays)
        return restored


def survey_frames(quantities: Sequence[Quantity[Any]], species: IntArray) -> dict[str, Survey]:
    """Return the surveys of the quantities that need one, by key."""
    surveys = {quantity.key: quantity.survey(species) for quantity in quantities}
    return {key: survey for key, survey in surveys.items() if survey is not None}


def measure(sample: Sample, quantities: Sequence[Quantity[Any]]) -> dict[str, Any]:
    """Return the statistics of each quantity that applies, by key, in one pass over the frames.

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
    """Return the standard quantities and those of the caller.

    Raises:
        ConfigError: Something is not a `Quantity`, or two have one key.
    """
    checked = list(standard)
    keys = {quantity.key for quantity in standard}
    for quantity in additional:
        if not isinstance(quantity, Quantity):
            kind = quantity.__name__ if isinstance(quantity, type) else type(quantity).__name__
            raise ConfigError(f"quantities: {kind} is not an instance of a class derived from Quantity")
        if quantity.key in keys or "/" in quantity.key:
            raise ConfigError(f"quantities: the key {quantity.key!r} is taken or has a slash: choose another")
        keys.add(quantity.key)
        checked.append(quantity)
    return tuple(checked)
