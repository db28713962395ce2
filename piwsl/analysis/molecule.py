"""What is known of the structure of one trajectory: found in two passes over its frames, in bounded memory."""

from dataclasses import dataclass

from ase.data import atomic_masses

from piwsl.analysis.quantities.angles import InternalCounter, InternalStatistics
from piwsl.analysis.quantities.bond_lengths import BondCounter, BondStatistics
from piwsl.analysis.quantities.distances import DistanceCounter, DistanceHistograms
from piwsl.analysis.quantities.shape import ShapeCounter, ShapeStatistics
from piwsl.analysis.quantities.slow_motion import ModeSampler, SlowModes
from piwsl.analysis.quantities.spectrum import VibrationCounter, Vibrations
from piwsl.analysis.quantities.stability import BrokenBond, Stability, StabilityWatch
from piwsl.structures.bonds import BondGraph, Bonds, bond_lengths
from piwsl.structures.contacts import Contact, ContactWatch
from piwsl.trajectories.source import FrameSource
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
        vibrations: None where frames have no equal intervals, too long ones, or end before one segment.
    """

    frames: int
    distances: DistanceHistograms
    bonds: dict[str, BondStatistics]
    internal: InternalStatistics
    shape: ShapeStatistics
    vibrations: Vibrations | None


@dataclass(frozen=True, eq=False)
class StableFrames:
    """How far a run is what it began as.

    Attributes:
        stability: by the bond rule.
        contact: the first collapse within the frames whose bonds hold, or None.
    """

    stability: Stability
    contact: Contact | None

    @property
    def count(self) -> int:
        """Number of stable frames: those before the first that is broken or collapsed."""
        return self.stability.frames if self.contact is None else self.contact.frame


@dataclass(frozen=True, eq=False)
class StableMolecule(StableFrames):
    """The same of a molecule.

    Attributes:
        modes: slow motions over the stable frames.
    """

    modes: SlowModes


def find_stable_frames(source: FrameSource, times: FloatArray, bonds: Bonds) -> StableMolecule:
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
    return StableMolecule(watch.stability(broken), contact, sampler.modes())


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
    vibrations = VibrationCounter(source, frames)
    for first, positions in source.pieces(frames):
        distances.add(positions, first)
        lengths.add(bond_lengths(positions, bonds.pairs), first)
        internal.add(positions, first)
        shape.add(positions, first)
        vibrations.add(positions, first)
    return StructureStatistics(
        frames,
        distances.histograms(),
        lengths.statistics(),
        internal.statistics(),
        shape.statistics(),
        vibrations.vibrations(),
    )
