"""Radial distribution functions g(r) of periodic cells, and coordination numbers."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from piwsl.analysis.quantity import (
    FigureText,
    Frames,
    Highlight,
    Observable,
    Quantity,
    QuantityComparison,
    Sample,
)
from piwsl.analysis.statistics.autocorrelation import SeriesMeans
from piwsl.analysis.statistics.curves import Axis, Curve, CurveComparison
from piwsl.analysis.statistics.distributions import Histogram, compare
from piwsl.analysis.statistics.results import Difference, Distribution, Measurement
from piwsl.analysis.statistics.uncertainty import MicroBlocks, Statistic, difference_of
from piwsl.structures.neighbors import PairSearch
from piwsl.structures.pairs import pair_kind
from piwsl.typing import FloatArray, IntArray

RANGE = 8.0  # angstrom
BIN_WIDTH = 0.02  # angstrom
SMALL_CELL = 6.0  # angstrom
BANDS = 8  # per pair of elements; their counts form the series that determine the correlation time
SMOOTH = 0.06  # angstrom; width of the Gaussian that smooths g(r) before the first shell is located
PROMINENT = 0.3  # smallest prominence in g(r) for a peak to count as a shell


@dataclass(frozen=True, eq=False)
class RadialHistogram(Histogram):
    """Histogram of the distances between two elements, including all images, with the ideal-gas normalization.

    The last two columns of the blocks are sums over frames: pairs per volume (1/angstrom^3), and ones.

    Attributes:
        per_first, per_second: Number of neighbors that each counted pair adds per atom of the first and of the second
            element.
    """

    per_first: float
    per_second: float

    @property
    def area_unit(self) -> str:
        """Unit of an area under g(r)."""
        return self.unit

    def density(self, counts: FloatArray) -> FloatArray:
        """Return g(r) (..., bins) from sums (..., bins + 2)."""
        shells = 4 / 3 * np.pi * np.diff(self.edges**3)
        return np.asarray(counts[..., :-2] / (np.maximum(counts[..., -2:-1], 1e-300) * shells))

    def distribution(self) -> Distribution:
        """Return g(r) with the standard error of each bin. Its area is not normalized."""
        error = self.blocks.deviations(self.density).std(axis=0) if self.blocks.has_error else None
        return Distribution(self.edges, self.density(self.blocks.total), error, self.unit, self.blocks.samples, 0.0)

    def coordination(self, edge: float, of_second: bool) -> Statistic:
        """Return a function of sums for the number of neighbors within ``edge`` angstrom of an atom of one element."""
        bins = int(np.searchsorted(self.edges, edge + 1e-9)) - 1
        factor = self.per_second if of_second else self.per_first

        def statistic(sums: FloatArray) -> FloatArray:
            return np.asarray(factor * sums[..., :bins].sum(axis=-1) / sums[..., -1])

        return statistic


class RadialCounter:
    """Accumulate pairs within 8 angstrom, including all images, from pieces of a trajectory. Cells may be small.

    Args:
        species: Atomic numbers (atoms,).
        frames: Number of frames in the trajectory.
        cell: Cell (3, 3) of the first frame, angstrom. If a lattice vector is shorter than 6 angstrom, the images of an
            atom count as its neighbors. Otherwise they are excluded, because their distances are lattice vectors.
    """

    def __init__(self, species: IntArray, frames: int, cell: FloatArray) -> None:
        self._numbers = species
        self._search = PairSearch(RANGE)
        around = np.stack(np.meshgrid(*[np.arange(-1, 2)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
        lengths = np.linalg.norm(around[np.any(around, axis=1)] @ cell, axis=1)
        self._counts_own = bool(lengths.min() < SMALL_CELL)
        elements = np.unique(species)
        names = {(int(a), int(b)): pair_kind(int(a), int(b)) for a in elements for b in elements}
        self.kinds = sorted(set(names.values()))
        self._kind = np.zeros((int(elements.max()) + 1,) * 2, dtype=np.int64)
        for pair, name in names.items():
            self._kind[pair] = self.kinds.index(name)
        counts = {int(number): int((species == number).sum()) for number in elements}
        self._pairs = np.zeros(len(self.kinds))
        self._first, self._second = np.zeros(len(self.kinds)), np.zeros(len(self.kinds))
        for (a, b), name in names.items():
            kind = self.kinds.index(name)
            if a == b:
                self._pairs[kind] = counts[a] * (counts[a] - (0 if self._counts_own else 1)) / 2
            else:
                self._pairs[kind] = counts[a] * counts[b]
            ordered = pair_kind(a, b).split("-")[0] == pair_kind(a, a).split("-")[0]
            if ordered:
                self._first[kind] = (2 if a == b else 1) / counts[a]
                self._second[kind] = (2 if a == b else 1) / counts[b]
        self._edges = np.linspace(0.0, RANGE, round(RANGE / BIN_WIDTH) + 1)
        self._blocks = MicroBlocks(frames)
        self._sums = np.zeros((len(self._blocks), len(self.kinds), len(self._edges) + 1))
        self._series = SeriesMeans(frames, len(self.kinds) * BANDS)

    def add(self, frames: Frames) -> None:
        """Add the pairs of the next piece."""
        positions, cells, first = frames.positions, frames.cells, frames.first
        assert cells is not None
        bins = len(self._edges) - 1
        counts = np.zeros((len(positions), len(self.kinds), bins))
        for frame, (places, cell) in enumerate(zip(positions, cells, strict=True)):
            near = self._search(places, cell, (True, True, True))
            i, j, distances = near.first, near.second, near.distances
            if not self._counts_own:
                others = i != j
                i, j, distances = i[others], j[others], distances[others]
            chosen = np.minimum((distances / BIN_WIDTH).astype(np.int64), bins - 1)
            chosen += bins * self._kind[self._numbers[i], self._numbers[j]]
            counts[frame] = np.bincount(chosen, minlength=bins * len(self.kinds)).reshape(len(self.kinds), bins)
        bands = counts.reshape(len(counts), -1, bins // BANDS).sum(axis=-1)
        self._series.add(bands, first)
        volumes = np.abs(np.linalg.det(cells))
        ideal = self._pairs / volumes[:, None]
        values = np.concatenate([counts, ideal[..., None], np.ones_like(ideal)[..., None]], axis=-1)
        self._blocks.add(self._sums, values, first)

    def statistics(self) -> dict[str, RadialHistogram]:
        """Return g(r) by pair of elements such as ``O-Ti``, in blocks of several correlation times."""
        per_sample = self._series.inefficiency()
        return {
            name: RadialHistogram(
                self._edges,
                self._blocks.merged(self._sums[:, kind], per_sample),
                0,
                "angstrom",
                float(self._first[kind]),
                float(self._second[kind]),
            )
            for kind, name in enumerate(self.kinds)
            if self._pairs[kind] > 0
        }


def first_shell(distribution: Distribution) -> float | None:
    """Return the end of the first shell (the first minimum of g(r)), angstrom; None without a second shell."""
    smooth = gaussian_filter1d(distribution.density, SMOOTH / (distribution.edges[1] - distribution.edges[0]))
    shells, _ = find_peaks(smooth, prominence=PROMINENT)
    if len(shells) < 2:
        return None
    between = smooth[shells[0] : shells[1] + 1]
    lowest = np.flatnonzero(between <= between.min() + 1e-6)  # the middle of an empty gap
    return float(distribution.edges[shells[0] + round(float(lowest.mean()))])


@dataclass(frozen=True)
class Coordination:
    """Coordination number within the first shell of the reference.

    Attributes:
        name: Name such as ``O around Ti``.
        shell: End of the shell, angstrom.
        run, reference, difference: Mean number of neighbors in run and reference, and their difference.
    """

    name: str
    shell: float
    run: Measurement
    reference: Measurement
    difference: Difference

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "shell_angstrom": self.shell,
            "run": self.run.as_dict(),
            "reference": self.reference.as_dict(),
            "difference": self.difference.as_dict(),
        }


def compare_coordination(kind: str, run: RadialHistogram, reference: RadialHistogram) -> tuple[Coordination, ...]:
    """Compare the coordination numbers of both elements; empty if the first shell of the reference has no end."""
    shell = first_shell(reference.distribution())
    if shell is None:
        return ()
    first, second = kind.split("-")
    numbers = []
    for around, other, of_second in ((first, second, False), (second, first, True))[: 1 if first == second else 2]:
        statistic = run.coordination(shell, of_second)
        numbers.append(
            Coordination(
                f"{other} around {around}",
                shell,
                run.blocks.measure(statistic, ""),
                reference.blocks.measure(statistic, ""),
                difference_of(run.blocks, reference.blocks, statistic, ""),
            )
        )
    return tuple(numbers)


def compare_radial(kind: str, run: RadialHistogram, reference: RadialHistogram) -> CurveComparison:
    """Compare g(r). The difference is the integral of abs(g - g_ref), angstrom."""
    return CurveComparison(
        f"rdf.{kind}",
        kind,
        Axis("Distance r", "angstrom"),
        Axis("g(r)", ""),
        Curve.of(run.distribution()),
        Curve.of(reference.distribution()),
        compare(run, reference).difference,
    )


@dataclass(frozen=True, eq=False)
class RadialComparison:
    """g(r) and coordination numbers of run and reference.

    Attributes:
        radial: Comparisons of g(r) by pair of elements, such as ``O-Ti``.
        coordination: Coordination numbers of the first shells.
    """

    radial: dict[str, CurveComparison]
    coordination: tuple[Coordination, ...]


class RadialDistributions(Quantity[dict[str, RadialHistogram]]):
    """g(r) and first-shell coordination numbers of a periodic cell."""

    key = "rdf"
    statistics = dict[str, RadialHistogram]
    absent: ClassVar = {"coordination": {}}

    def collector(self, sample: Sample) -> RadialCounter | None:
        """Return a collector of pairs; None without a cell."""
        return None if sample.cell is None else RadialCounter(sample.species, sample.frames, sample.cell)

    def compare(
        self, run: dict[str, RadialHistogram], reference: dict[str, RadialHistogram] | None, sample: Sample
    ) -> QuantityComparison[RadialComparison]:
        """Compare g(r) and coordination numbers of each pair of elements."""
        assert reference is not None
        kinds = [kind for kind in run if kind in reference]
        radial = {kind: compare_radial(kind, run[kind], reference[kind]) for kind in kinds}
        shells = [compare_coordination(kind, run[kind], reference[kind]) for kind in kinds]
        coordination = tuple(entry for shell in shells for entry in shell)
        rows = [
            Observable(curve.key, f"g(r) {kind}", difference=curve.difference)
            for kind, curve in radial.items()
            if curve.difference is not None
        ]
        rows += [
            Observable(f"coordination.{entry.name.replace(' ', '_')}", f"Neighbors {entry.name}", entry.run,
                       entry.reference, entry.difference)
            for entry in coordination
        ]  # fmt: skip
        notes = []
        if not all(shells):
            notes.append(
                "no coordination number for some pairs of elements: the first shell in the reference has no end"
            )
        return QuantityComparison(
            self.key,
            RadialComparison(radial, coordination),
            rows,
            tuple(radial.values()),
            plain={"coordination": {entry.name: entry.as_dict() for entry in coordination}},
            highlights=_highlights(radial),
            notes=notes,
            figures={"rdf": FigureText("Radial distribution functions")},
        )


def _highlights(radial: dict[str, CurveComparison]) -> list[Highlight]:
    """Return the g(r) with the largest difference relative to its noise."""
    differences = {kind: curve.difference for kind, curve in radial.items() if curve.difference is not None}
    if not differences:
        return []
    kind, worst = max(differences.items(), key=lambda entry: entry[1].measured.value / (entry[1].threshold or 1.0))
    return [Highlight.of_difference(worst, f"g(r) error of {kind}, the largest relative to noise")]
