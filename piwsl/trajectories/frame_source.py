"""Sources of frames (files, arrays or unordered sets) that are read in pieces, any number of times."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase.data import atomic_masses

from piwsl.data.frames import FrameSet
from piwsl.data.names import CELL
from piwsl.errors import DataError
from piwsl.structures.cells import complete_cells
from piwsl.structures.files import FARTHEST_POSITION
from piwsl.structures.periodic import Unwrapper
from piwsl.trajectories.decoding import PIECE
from piwsl.typing import FloatArray, IntArray

MIXED_CELLS = "some frames have a cell and others do not: use a trajectory of a single system"
Progress = Callable[[int, int], None]  # called with (frames read, total frames)
# Positions (frames, atoms, 3) and cells (frames, 3, 3), angstrom; None without cells.
Piece = tuple[FloatArray, FloatArray | None]


@dataclass(frozen=True, eq=False)
class FrameSource:
    """Frames of one molecule or crystal that need not fit into memory.

    Attributes:
        species: Atomic numbers (atoms,).
        frames: Number of frames.
        times: Times (frames,), fs; None for frames without times.
        read: Function that opens the source and yields its frames in order, in pieces of at most 1000 frames.
        notes: Remarks of the reader, such as a note on a truncated file.
        progress: Function called with (frames read, total frames) after each piece of every pass.
        read_velocities: Function that yields the velocities (f, atoms, 3) of the same pieces, angstrom/fs; None without
            velocities.
        own_masses: Masses (atoms,), amu, if they differ from the masses of the elements.
        name: Name of the source, used in messages.
    """

    species: IntArray
    frames: int
    times: FloatArray | None
    read: Callable[[], Iterator[Piece]]
    notes: tuple[str, ...] = ()
    progress: Progress | None = None
    read_velocities: Callable[[], Iterator[FloatArray]] | None = None
    own_masses: FloatArray | None = None
    name: str = "the trajectory"

    @property
    def masses(self) -> FloatArray:
        """Masses (atoms,) used to generate the frames, amu."""
        return np.asarray(atomic_masses[self.species]) if self.own_masses is None else self.own_masses

    def __len__(self) -> int:
        return self.frames

    @classmethod
    def of_array(
        cls,
        species: IntArray,
        positions: FloatArray,
        times: FloatArray | None = None,
        cells: FloatArray | None = None,
    ) -> "FrameSource":
        """Create a source from positions (frames, atoms, 3) and cells (frames, 3, 3), angstrom, and times, fs."""

        def read() -> Iterator[Piece]:
            for first in range(0, len(positions), PIECE):
                chosen = slice(first, first + PIECE)
                yield positions[chosen], None if cells is None else cells[chosen]

        return cls(np.asarray(species, dtype=np.int64), len(positions), times, read)

    @classmethod
    def of_frames(cls, frames: FrameSet, name: object, progress: Progress | None = None) -> "FrameSource":
        """Create a source from unordered frames; reading raises a `DataError` if molecules or periodicity differ."""
        species, is_periodic = frames[0].species, any(frames[0].pbc)

        def read() -> Iterator[Piece]:
            for first in range(0, len(frames), PIECE):
                chosen = [frames[index] for index in range(first, min(first + PIECE, len(frames)))]
                for index, frame in enumerate(chosen, start=first):
                    if not np.array_equal(frame.species, species):
                        raise DataError(
                            f"{name}: frames 0 and {index} are different molecules: use a reference of one molecule"
                        )
                    if any(frame.pbc) != is_periodic:
                        raise DataError(f"{name}: {MIXED_CELLS}")
                cells = np.stack([frame.cell for frame in chosen]) if is_periodic else None
                yield np.stack([frame.positions for frame in chosen]), None if cells is None else complete_cells(cells)

        notes = tuple(frames.names.warnings((CELL,)))
        return cls(species, len(frames), None, read, notes, progress)

    def pieces(self, stop: int | None = None) -> Iterator[tuple[int, FloatArray]]:
        """Yield the index of the first frame and the positions (f, atoms, 3), angstrom, of each piece.

        Args:
            stop: Index of the frame to stop before; None reads all.

        Raises:
            DataError: The source is damaged.
        """
        for first, positions, _ in self.pieces_with_cells(stop):
            yield first, positions

    def pieces_with_cells(self, stop: int | None = None) -> Iterator[tuple[int, FloatArray, FloatArray | None]]:
        """Yield the results of `pieces` together with the cells (f, 3, 3), angstrom; None without cells."""
        end = self.frames if stop is None else min(stop, self.frames)
        first = 0
        if end == 0:
            return
        for positions, cells in self.read():
            if positions.shape[1:] != (len(self.species), 3):
                atoms = f"{positions.shape[1]} atoms instead of {len(self.species)}"
                raise DataError(f"{self.name}: damaged: frame {first + 1} has {atoms}")
            count = min(len(positions), end - first)
            yield first, positions[:count], None if cells is None else cells[:count]
            first += count
            if self.progress:
                self.progress(first, end)
            if first == end:
                return
        raise DataError(
            f"{self.name}: ends after {first} of {end} frames: the file is damaged or changed while it was read"
        )

    def velocities(self, stop: int | None = None) -> Iterator[tuple[int, FloatArray]]:
        """Yield the index of the first frame and the velocities (f, atoms, 3), angstrom/fs, of each piece."""
        assert self.read_velocities is not None
        yield from replace(self, read=_without_cells(self.read_velocities)).pieces(stop)

    def at(self, indices: IntArray) -> FloatArray:
        """Return the positions (chosen, atoms, 3) of the frames with these ascending indices, in one pass."""
        wanted = np.sort(np.asarray(indices, dtype=np.int64))
        chosen = []
        for first, positions in self.pieces(int(wanted[-1]) + 1 if len(wanted) else 0):
            inside = wanted[(wanted >= first) & (wanted < first + len(positions))]
            if len(inside):
                chosen.append(np.array(positions[inside - first]))
        return np.concatenate(chosen) if chosen else np.zeros((0, len(self.species), 3), dtype=np.float32)

    def all(self) -> FloatArray:
        """Return the positions (frames, atoms, 3) of all frames in memory. Use this only for small sources."""
        return self.at(np.arange(self.frames))

    def reordered(self, order: IntArray) -> "FrameSource":
        """Return the same frames with atom ``order[k]`` at index k."""

        def read() -> Iterator[Piece]:
            for positions, cells in self.read():
                yield positions[:, order], cells

        masses = None if self.own_masses is None else self.own_masses[order]
        velocities = self._velocities_in(order)
        return replace(self, species=self.species[order], read=read, read_velocities=velocities, own_masses=masses)

    def after(self, skipped: int) -> "FrameSource":
        """Return the source without its first ``skipped`` frames."""
        if not skipped:
            return self

        def read() -> Iterator[Piece]:
            left = skipped
            for positions, cells in self.read():
                dropped, left = min(left, len(positions)), max(left - len(positions), 0)
                if dropped < len(positions):
                    yield positions[dropped:], None if cells is None else cells[dropped:]

        times = None if self.times is None else self.times[skipped:]
        read_velocities = None
        if self.read_velocities is not None:
            moving = replace(self, read=_without_cells(self.read_velocities), read_velocities=None).after(skipped)
            read_velocities = lambda: (values for values, _ in moving.read())  # noqa: E731
        return replace(self, frames=self.frames - skipped, times=times, read=read, read_velocities=read_velocities)

    def without_cells(self) -> "FrameSource":
        """Return the same frames without cells, as for a molecule in vacuum."""

        def positions() -> Iterator[FloatArray]:
            for values, _ in self.read():
                yield values

        return replace(self, read=_without_cells(positions))

    def _velocities_in(self, order: IntArray) -> Callable[[], Iterator[FloatArray]] | None:
        read = self.read_velocities
        if read is None:
            return None
        return lambda: (velocities[:, order] for velocities in read())


def _without_cells(read: Callable[[], Iterator[FloatArray]]) -> Callable[[], Iterator[Piece]]:
    return lambda: ((values, None) for values in read())


def unwrapped(source: FrameSource) -> FrameSource:
    """Return a periodic source with unwrapped positions, without jumps across cell faces."""

    def read() -> Iterator[Piece]:
        unwrap = Unwrapper()
        for positions, cells in source.read():
            if cells is None:
                raise DataError(MIXED_CELLS)
            cells = np.asarray(cells, dtype=np.float64)
            yield unwrap(positions, cells), cells

    return replace(source, read=read)


def first_frame(source: FrameSource) -> tuple[FloatArray, FloatArray | None]:
    """Return the positions (atoms, 3) and the cell (3, 3) of the first frame, angstrom; the cell is None in vacuum."""
    positions, cells = next(iter(source.read()))
    return np.asarray(positions[0], dtype=np.float64), None if cells is None else np.asarray(cells[0], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class TrajectoryFile:
    """A trajectory file with counted frames that are read on demand.

    Attributes:
        atoms, frames: Numbers of atoms and frames.
        times: Times (frames,), fs; None if the file contains no times.
        read: Function that opens the file and yields its pieces.
        notes: Remarks of the reader, such as a note on a truncated file.
        read_velocities: Function that yields the velocities (f, atoms, 3) of the pieces, angstrom/fs; None without
            velocities.
        name: Name of the file, used in messages.
    """

    atoms: int
    frames: int
    times: FloatArray | None
    read: Callable[[], Iterator[Piece]]
    notes: tuple[str, ...] = ()
    read_velocities: Callable[[], Iterator[FloatArray]] | None = None
    name: str = "the trajectory"

    def source(
        self,
        species: IntArray,
        times: FloatArray | None = None,
        notes: tuple[str, ...] = (),
        progress: Progress | None = None,
    ) -> FrameSource:
        """Return a source with given atomic numbers (atoms,), and with ``times`` instead of the times in the file."""
        times = self.times if times is None else times
        notes = self.notes + notes
        return FrameSource(
            species, self.frames, times, self.read, notes, progress, self.read_velocities, name=self.name
        )


def checked_cells(path: Path, vectors: FloatArray) -> FloatArray | None:
    """Validate the cells (frames, 3, 3) of a file, angstrom, and complete them with `complete_cells`.

    Raises:
        DataError: A cell contains values that are not finite, or vectors that are unreasonably large.
    """
    if (np.isfinite(vectors) & (np.abs(vectors) > FARTHEST_POSITION)).any():
        raise DataError(
            f"{path}: a lattice vector is longer than {FARTHEST_POSITION:.0e} angstrom: the file is damaged"
        )
    if not np.isfinite(vectors).all():
        raise DataError(
            f"{path}: a cell contains numbers that are not finite: the file is damaged or the run became unphysical"
        )
    return complete_cells(vectors)


def cut_note(path: Path, frames: int, spare: int) -> tuple[str, ...]:
    """Return a note for a file with ``spare`` bytes after its last complete frame; empty if there are none."""
    if not spare:
        return ()
    return (f"{path.name} is truncated within frame {frames + 1}: its {frames} complete frames are used",)
