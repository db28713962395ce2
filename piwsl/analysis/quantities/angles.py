"""Angles and dihedrals of a molecule: their distributions by type, and free energies of rotation."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from piwsl.analysis.statistics.autocorrelation import SeriesMeans
from piwsl.analysis.statistics.curves import Axis, Curve, CurveComparison
from piwsl.analysis.statistics.distributions import DistributionComparison, Histogram, compare
from piwsl.analysis.statistics.results import Difference, Measurement
from piwsl.analysis.statistics.uncertainty import MicroBlocks, Statistic, difference_of
from piwsl.structures.bonds import BondGraph
from piwsl.typing import FloatArray, IntArray
from piwsl.units import BOLTZMANN

ANGLE_BIN = 1.0  # degrees
DIHEDRAL_BIN = 5.0
DEGREE = "degree"
MOST_WATCHED = 4  # dihedrals of a type whose correlation is looked at
MILLI = 1000.0  # eV to meV


def angle_values(positions: FloatArray, atoms: IntArray) -> FloatArray:
    """Angles (frames, k) in degrees at the middle of triples (k, 3)."""
    middle = positions[:, atoms[:, 1]]
    return angles_between(positions[:, atoms[:, 0]] - middle, positions[:, atoms[:, 2]] - middle)


def angles_between(one: FloatArray, other: FloatArray) -> FloatArray:
    """Angles (...) in degrees between vectors (..., 3)."""
    across = np.linalg.norm(np.cross(one, other), axis=-1)
    return np.asarray(np.degrees(np.arctan2(across, (one * other).sum(-1))))


def dihedral_values(positions: FloatArray, atoms: IntArray) -> FloatArray:
    """Dihedrals (frames, k) in degrees, -180 to 180, of quadruples (k, 4); 0 is cis, as IUPAC has it."""
    first, axis, last = (positions[:, atoms[:, i + 1]] - positions[:, atoms[:, i]] for i in range(3))
    before, after = np.cross(first, axis), np.cross(axis, last)
    along = np.linalg.norm(axis, axis=-1) * (first * after).sum(-1)
    return np.asarray(np.degrees(np.arctan2(along, (before * after).sum(-1))))


@dataclass(frozen=True, eq=False)
class InternalStatistics:
    """Histograms of a trajectory, block by block.

    Attributes:
        angles, dihedrals: by type.
        rotations: by the name of a bond that can rotate.
    """

    angles: dict[str, Histogram]
    dihedrals: dict[str, Histogram]
    rotations: dict[str, Histogram]


class InternalCounter:
    """Collects angles and dihedrals of frames that come in pieces.

    Args:
        graph: of the molecule.
        frames: how many will come.
    """

    def __init__(self, graph: BondGraph, frames: int) -> None:
        blocks = MicroBlocks(frames)
        self._angle_atoms, self._dihedral_atoms = graph.angles(), graph.dihedrals()
        self._rotation_atoms = {name: np.array([atoms], dtype=np.int64) for name, atoms in graph.rotatable().items()}
        self._angles = {kind: AngleCounter(blocks) for kind in self._angle_atoms}
        self._dihedrals = {kind: DihedralCounter(len(atoms), blocks) for kind, atoms in self._dihedral_atoms.items()}
        self._rotations = {name: DihedralCounter(1, blocks) for name in self._rotation_atoms}

    def add(self, positions: FloatArray, first: int) -> None:
        """Positions (f, atoms, 3), angstrom, of the frames from ``first`` on."""
        for kind, angles in self._angle_atoms.items():
            self._angles[kind].add(angle_values(positions, angles), first)
        for kind, dihedrals in self._dihedral_atoms.items():
            self._dihedrals[kind].add(dihedral_values(positions, dihedrals), first)
        for name, dihedrals in self._rotation_atoms.items():
            self._rotations[name].add(dihedral_values(positions, dihedrals), first)

    def statistics(self) -> InternalStatistics:
        """In blocks of several times the correlation of each."""
        return InternalStatistics(
            *(
                {name: one.histogram() for name, one in counters.items()}
                for counters in (self._angles, self._dihedrals, self._rotations)
            )
        )


class _Counter:
    """A histogram of one type, in equal bins of degrees."""

    def __init__(self, low: float, high: float, width: float, blocks: MicroBlocks, columns: int) -> None:
        self._edges = np.linspace(low, high, round((high - low) / width) + 1)
        self._blocks = blocks
        self._counts = np.zeros((len(blocks), len(self._edges) - 1), dtype=np.int64)
        self._series = SeriesMeans(blocks.frames, columns)

    def histogram(self) -> Histogram:
        """In blocks of several times what forgets slowest."""
        counts = self._blocks.merged(self._counts, self._series.inefficiency())
        return Histogram(self._edges, counts, 0, DEGREE)

    def _count(self, values: FloatArray, first: int) -> None:
        width = self._edges[1] - self._edges[0]
        places = ((values - self._edges[0]) / width).astype(np.int64).clip(0, len(self._edges) - 2)
        for block, start, stop in self._blocks.parts(first, len(values)):
            self._counts[block] += np.bincount(places[start:stop].ravel(), minlength=self._counts.shape[1])


class AngleCounter(_Counter):
    """Angles of one type; their sums tell how fast they are forgotten.

    Args:
        blocks: of the frames that will come.
    """

    def __init__(self, blocks: MicroBlocks) -> None:
        super().__init__(0.0, 180.0, ANGLE_BIN, blocks, 2)

    def add(self, values: FloatArray, first: int) -> None:
        """Angles (f, k), degrees, of the frames from ``first`` on."""
        radians = np.radians(values)
        self._series.add(np.stack([radians.sum(1), (radians**2).sum(1)], axis=1), first)
        self._count(values, first)


class DihedralCounter(_Counter):
    """Dihedrals of one type; what each of them forgets, on the circle, is looked at.

    Args:
        count: of such dihedrals in the structure.
        blocks: of the frames that will come.
    """

    def __init__(self, count: int, blocks: MicroBlocks) -> None:
        self._watched = np.unique(np.linspace(0, count - 1, min(count, MOST_WATCHED)).astype(np.int64))
        super().__init__(-180.0, 180.0, DIHEDRAL_BIN, blocks, 2 * len(self._watched))

    def add(self, values: FloatArray, first: int) -> None:
        """Dihedrals (f, k), degrees, of the frames from ``first`` on."""
        watched = np.radians(values[:, self._watched])
        self._series.add(np.concatenate([np.sin(watched), np.cos(watched)], axis=1), first)
        self._count(values, first)


@dataclass(frozen=True, eq=False)
class AngleComparison:
    """Angles of one type, run against reference.

    Attributes:
        mean, width: mean and standard deviation of the run, degrees; of the reference; and their difference.
        distribution: of all angles of the type.
    """

    mean: tuple[Measurement, Measurement, Difference]
    width: tuple[Measurement, Measurement, Difference]
    distribution: DistributionComparison


@dataclass(frozen=True, eq=False)
class InternalComparison:
    """Angles and dihedrals by type."""

    angles: dict[str, AngleComparison]
    dihedrals: dict[str, DistributionComparison]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "angles": {kind: one.distribution.as_dict() for kind, one in self.angles.items()},
            "dihedrals": {kind: one.as_dict() for kind, one in self.dihedrals.items()},
        }


def compare_internal(run: InternalStatistics, reference: InternalStatistics) -> InternalComparison:
    """Run over reference."""
    return InternalComparison(
        {kind: _compare_angles(one, reference.angles[kind]) for kind, one in run.angles.items()},
        {kind: compare(one, reference.dihedrals[kind]) for kind, one in run.dihedrals.items()},
    )


def _compare_angles(run: Histogram, reference: Histogram) -> AngleComparison:
    centers = (run.edges[1:] + run.edges[:-1]) / 2

    def mean(counts: FloatArray) -> FloatArray:
        return np.asarray(counts @ centers / counts.sum(-1))

    def width(counts: FloatArray) -> FloatArray:
        return np.asarray(np.sqrt(np.maximum(counts @ centers**2 / counts.sum(-1) - mean(counts) ** 2, 0.0)))

    def both(statistic: Statistic) -> tuple[Measurement, Measurement, Difference]:
        measured = (one.blocks.measure(statistic, DEGREE) for one in (run, reference))
        return *measured, difference_of(run.blocks, reference.blocks, statistic, DEGREE)  # type: ignore[return-value]

    return AngleComparison(both(mean), both(width), compare(run, reference))


def torsion_profiles(
    run: InternalStatistics, reference: InternalStatistics, temperature: float
) -> tuple[CurveComparison, ...]:
    """Free energy of rotation about each bond, -kT ln p less its lowest value, in meV; empty bins are NaN.

    Args:
        run, reference: to be shown over each other.
        temperature: K, of both.
    """
    return tuple(
        CurveComparison(
            f"torsion.{name}",
            name,
            Axis("Dihedral", "°"),
            Axis("Free energy", "meV"),
            _profile(one, temperature),
            _profile(reference.rotations[name], temperature),
            compare(one, reference.rotations[name]).difference,
            notes=(f"-kT ln p at {temperature:g} K; the difference is that of the distributions",),
        )
        for name, one in run.rotations.items()
    )


def _profile(histogram: Histogram, temperature: float) -> Curve:
    found = histogram.distribution()
    seen = found.density > 0
    energy = np.full(len(found.density), np.nan)
    heat = MILLI * BOLTZMANN * temperature
    energy[seen] = -heat * np.log(found.density[seen] / found.density.max())
    low = high = None
    if found.error is not None:
        error = np.full_like(energy, np.nan)
        error[seen] = heat * found.error[seen] / found.density[seen]
        low, high = energy - error, energy + error
    return Curve(found.centers, energy, low, high, found.samples)
