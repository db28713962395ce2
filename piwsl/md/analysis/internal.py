"""Angles and dihedrals of a molecule: their distributions by type, and free energies of rotation."""

from dataclasses import dataclass

import numpy as np

from piwsl.md.analysis.bond_graph import BondGraph
from piwsl.md.analysis.curves import Axis, Curve, CurveComparison
from piwsl.md.analysis.distributions import DistributionComparison, Histogram, compare
from piwsl.md.analysis.uncertainty import MicroBlocks, SeriesMeans
from piwsl.typing import FloatArray, IntArray
from piwsl.units import BOLTZMANN

ANGLE_BIN = 1.0  # degrees
DIHEDRAL_BIN = 5.0
DEGREE = "degree"
MILLI = 1000.0  # eV to meV


def angle_values(positions: FloatArray, atoms: IntArray) -> FloatArray:
    """Angles (frames, k) in degrees at the middle of triples (k, 3)."""
    one = positions[:, atoms[:, 0]] - positions[:, atoms[:, 1]]
    other = positions[:, atoms[:, 2]] - positions[:, atoms[:, 1]]
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
        self._angles = {kind: _Counter(atoms, False, blocks) for kind, atoms in graph.angles().items()}
        self._dihedrals = {kind: _Counter(atoms, True, blocks) for kind, atoms in graph.dihedrals().items()}
        self._rotations = {
            name: _Counter(np.array([atoms], dtype=np.int64), True, blocks) for name, atoms in graph.rotatable().items()
        }

    def add(self, positions: FloatArray, first: int) -> None:
        """Positions (f, atoms, 3), angstrom, of the frames from ``first`` on."""
        for counter in (*self._angles.values(), *self._dihedrals.values(), *self._rotations.values()):
            counter.add(positions, first)

    def statistics(self) -> InternalStatistics:
        """In blocks of several times the correlation of each."""
        return InternalStatistics(
            *(
                {name: one.histogram() for name, one in counters.items()}
                for counters in (self._angles, self._dihedrals, self._rotations)
            )
        )


class _Counter:
    """A histogram of one type."""

    def __init__(self, atoms: IntArray, circular: bool, blocks: MicroBlocks) -> None:
        low, high, width = (-180.0, 180.0, DIHEDRAL_BIN) if circular else (0.0, 180.0, ANGLE_BIN)
        self._edges = np.linspace(low, high, round((high - low) / width) + 1)
        self._atoms, self._circular, self._blocks = atoms, circular, blocks
        self._counts = np.zeros((len(blocks), len(self._edges) - 1), dtype=np.int64)
        self._series = SeriesMeans(blocks.frames, 2)

    def add(self, positions: FloatArray, first: int) -> None:
        values = (dihedral_values if self._circular else angle_values)(positions, self._atoms)
        radians = np.radians(values)
        # What forgets slowest: the sum over the type, on the circle where it is one.
        slow = (np.sin(radians), np.cos(radians)) if self._circular else (radians, radians**2)
        self._series.add(np.stack([one.sum(1) for one in slow], axis=1), first)
        width = self._edges[1] - self._edges[0]
        places = ((values - self._edges[0]) / width).astype(np.int64).clip(0, len(self._edges) - 2)
        for block, start, stop in self._blocks.parts(first, len(values)):
            self._counts[block] += np.bincount(places[start:stop].ravel(), minlength=self._counts.shape[1])

    def histogram(self) -> Histogram:
        counts = self._blocks.merged(self._counts, self._series.inefficiency())
        return Histogram(self._edges, counts, 0, DEGREE)


def compare_internal(
    run: InternalStatistics, reference: InternalStatistics
) -> tuple[dict[str, DistributionComparison], dict[str, DistributionComparison]]:
    """Distributions of angles and of dihedrals by type, run over reference."""
    angles = {kind: compare(one, reference.angles[kind]) for kind, one in run.angles.items()}
    dihedrals = {kind: compare(one, reference.dihedrals[kind]) for kind, one in run.dihedrals.items()}
    return angles, dihedrals


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
    return Curve(found.centres, energy, low, high, found.samples)
