"""What is known of the structure of one trajectory: found in two passes over its frames, in bounded memory."""

from dataclasses import dataclass

import numpy as np
from ase.data import atomic_masses

from piwsl.md.analysis.bond_graph import BondGraph
from piwsl.md.analysis.bonds import BondCounter, Bonds, BondStatistics
from piwsl.md.analysis.contacts import Contact, ContactWatch
from piwsl.md.analysis.distances import DistanceCounter, DistanceHistograms
from piwsl.md.analysis.distributions import Histogram
from piwsl.md.analysis.frame_source import FrameSource
from piwsl.md.analysis.internal import InternalCounter, InternalStatistics
from piwsl.md.analysis.shape import ShapeCounter, ShapeStatistics
from piwsl.md.analysis.slow_motion import ModeSampler, SlowModes
from piwsl.md.analysis.spectrum import PowerSpectrum, longest_interval
from piwsl.md.analysis.stability import BrokenBond, Stability, StabilityWatch
from piwsl.typing import FloatArray


@dataclass(frozen=True, eq=False)
class StructureStatistics:
    """Histograms and moments over the frames of a trajectory, block by block.

    Attributes:
        frames: number of frames they are of.
        distances: h(r).
        bonds: bond lengths by type.
        internal: angles and dihedrals.
        shape: of the molecule, against the first frame of the reference.
        spectrum: power of its vibrations; None where frames have no equal intervals, or too long ones.
    """

    frames: int
    distances: DistanceHistograms
    bonds: dict[str, BondStatistics]
    internal: InternalStatistics
    shape: ShapeStatistics
    spectrum: Histogram | None


@dataclass(frozen=True, eq=False)
class StableFrames:
    """How far a run is a molecule.

    Attributes:
        stability: by the bond rule.
        contact: the first collapse within the frames whose bonds hold, or None.
        modes: slow motions over the stable frames.
    """

    stability: Stability
    contact: Contact | None
    modes: SlowModes

    @property
    def count(self) -> int:
        """Number of stable frames: those before the first that is broken or collapsed."""
        return self.stability.frames if self.contact is None else self.contact.frame


def find_stable_frames(source: FrameSource, times: FloatArray, bonds: Bonds) -> StableFrames:
    """First pass over a run; it ends at the first broken frame.

    Args:
        source: frames of the run.
        times: (frames,) fs since its start.
        bonds: of the reference.
    """
    watch, contacts = StabilityWatch(bonds, times), ContactWatch(source.species, bonds.pairs)
    sampler = ModeSampler(len(source.species))
    broken: BrokenBond | None = None
    contact: Contact | None = None
    for first, positions in source.pieces():
        found = watch.find(positions, first)
        # Bonds that break after the first collapse still say when: the bond rule is a measure of its own.
        broken = broken or found
        holding = positions if found is None else positions[: found.frame - first]
        if contact is None:
            contact = contacts.find(holding, first, times)
            sampler.add(holding if contact is None else holding[: contact.frame - first], first)
        if broken:
            break
    return StableFrames(watch.stability(broken), contact, sampler.modes())


def structure_of(
    source: FrameSource, bonds: Bonds, modes: SlowModes, frames: int, start: FloatArray
) -> StructureStatistics:
    """Second pass, over the first ``frames`` frames.

    Args:
        source: of a run or of a reference.
        bonds: of the reference.
        modes: slow motions of these frames.
        frames: one at least.
        start: (atoms, 3) angstrom, the first frame of the reference.
    """
    masses, graph = atomic_masses[source.species], BondGraph(source.species, bonds)
    distances = DistanceCounter(source.species, frames, modes)
    lengths, internal = BondCounter(bonds, frames), InternalCounter(graph, frames)
    shape = ShapeCounter(start, masses, graph.rings(), frames)
    interval = frame_interval(source.times)
    seen = interval is not None and interval <= longest_interval(source.species)
    spectrum = PowerSpectrum(masses, source.species, interval) if interval is not None and seen else None
    for first, positions in source.pieces(frames):
        distances.add(positions, first)
        lengths.add(positions, first)
        internal.add(positions, first)
        shape.add(positions, first)
        if spectrum is not None:
            spectrum.add(positions, first)
    power = spectrum.histogram if spectrum else None
    return StructureStatistics(
        frames, distances.histograms(), lengths.statistics(), internal.statistics(), shape.statistics(), power
    )


def frame_interval(times: FloatArray | None) -> float | None:
    """Time between frames, fs; None where they have no times, or not at equal intervals."""
    if times is None or len(times) < 2:
        return None
    steps = np.diff(times)
    interval = float(steps.mean())
    return interval if interval > 0 and np.abs(steps - interval).max() < 1e-3 * interval else None
