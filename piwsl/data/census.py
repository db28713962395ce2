"""Table of compositions and labels of the frames in a set, without positions and forces; about 20 bytes per frame."""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from ase.symbols import Symbols

from piwsl.typing import BoolArray, FloatArray, IntArray


class Labeled(Protocol):
    """The attributes of a frame that a census uses."""

    @property
    def species(self) -> IntArray:
        """Atomic numbers (N,)."""

    @property
    def energy(self) -> float:
        """Energy, eV; NaN without a label."""

    @property
    def pbc(self) -> tuple[bool, bool, bool]:
        """Whether the structure is periodic along each lattice vector."""

    @property
    def has_forces(self) -> bool:
        """Whether the forces are labeled."""

    @property
    def has_stress(self) -> bool:
        """Whether the stress is labeled."""

    @property
    def has_unusable_stress(self) -> bool:
        """Whether the frame has a stress but no volume."""

    @property
    def charge(self) -> float:
        """Total charge, e; NaN if not stated."""

    @property
    def unpaired_electrons(self) -> float:
        """Number of unpaired electrons; NaN if not stated."""

    @property
    def has_spread(self) -> bool:
        """Whether the spread of an ensemble is stored."""

    @property
    def labels_from(self) -> str:
        """Foundation model behind the labels; empty if there is none."""


@dataclass(frozen=True, eq=False)
class Census:
    """Composition and labels of n frames with c different compositions of e elements.

    Attributes:
        numbers: Atomic numbers of the columns of ``compositions`` (e,), sorted.
        compositions: Number of atoms of each element (c, e).
        composition: Index of the row in ``compositions`` for each frame (n,).
        energy: Energy of each frame (n,), eV; NaN without a label.
        has_forces: Whether the forces of a frame are labeled (n,).
        has_stress: Whether the stress of a frame is labeled (n,).
        periodic: Whether a frame is periodic along at least one lattice vector (n,).
        unusable_stress: Whether a frame has a stress but no volume (n,).
        charge_spin: Charge (e) and number of unpaired electrons (n, 2), float16; NaN if not stated.
        has_spread: Whether the spread of an ensemble is stored for a frame (n,).
        labels_from: Foundation models behind the labels, each with its license, sorted; a selection of frames keeps
            those of all frames.
    """

    numbers: IntArray
    compositions: IntArray
    composition: IntArray
    energy: FloatArray
    has_forces: BoolArray
    has_stress: BoolArray
    periodic: BoolArray
    unusable_stress: BoolArray
    charge_spin: FloatArray
    has_spread: BoolArray
    labels_from: tuple[str, ...] = ()

    @classmethod
    def of(cls, frames: Iterable[Labeled]) -> "Census":
        """Collect the census of frames. Each frame is read once."""
        table = CompositionTable()
        # Lists would need ten times the memory.
        rows, energy, flags, states = array("i"), array("d"), bytearray(), bytearray()
        labels_from: set[str] = set()
        for frame in frames:
            rows.append(table.row(frame.species))
            energy.append(frame.energy)
            flags += bytes(
                (frame.has_forces, frame.has_stress, any(frame.pbc), frame.has_unusable_stress, frame.has_spread)
            )
            states += np.array((frame.charge, frame.unpaired_electrons), dtype=np.float16).tobytes()
            labels_from.add(frame.labels_from)
        forces, stress, periodic, unusable, spread = np.frombuffer(flags, dtype=bool).reshape(-1, 5).T.copy()
        charge_spin = np.frombuffer(states, dtype=np.float16).reshape(-1, 2).copy()
        composition, energies = np.array(rows, dtype=np.int32), np.array(energy)
        marks = (forces, stress, periodic, unusable)
        origins = tuple(sorted(labels_from - {""}))
        return cls(*table.counts(), composition, energies, *marks, charge_spin, spread, origins)

    @classmethod
    def joined(cls, parts: Sequence["Census"]) -> "Census":
        """Concatenate several censuses."""
        table = CompositionTable()
        composition = []
        for part in parts:
            rows = [table.row(np.repeat(part.numbers, counts)) for counts in part.compositions]
            composition.append(np.array(rows, dtype=np.int32)[part.composition])
        return cls(
            *table.counts(),
            np.concatenate(composition),
            np.concatenate([part.energy for part in parts]),
            np.concatenate([part.has_forces for part in parts]),
            np.concatenate([part.has_stress for part in parts]),
            np.concatenate([part.periodic for part in parts]),
            np.concatenate([part.unusable_stress for part in parts]),
            np.concatenate([part.charge_spin for part in parts]),
            np.concatenate([part.has_spread for part in parts]),
            tuple(sorted({origin for part in parts for origin in part.labels_from})),
        )

    def take(self, indices: IntArray) -> "Census":
        """Return the census of the frames with these indices."""
        return Census(
            self.numbers,
            self.compositions,
            self.composition[indices],
            self.energy[indices],
            self.has_forces[indices],
            self.has_stress[indices],
            self.periodic[indices],
            self.unusable_stress[indices],
            self.charge_spin[indices],
            self.has_spread[indices],
            self.labels_from,
        )

    def __len__(self) -> int:
        return len(self.composition)

    @property
    def has_energy(self) -> BoolArray:
        """Whether the energy is labeled (n,)."""
        return np.isfinite(self.energy)

    @property
    def labeled(self) -> BoolArray:
        """Whether a frame has any label (n,)."""
        return self.has_energy | self.has_forces | self.has_stress

    @property
    def sizes(self) -> IntArray:
        """Number of atoms of each frame (n,)."""
        sizes: IntArray = self.compositions.sum(1, dtype=np.int32)[self.composition]
        return sizes

    @property
    def elements(self) -> list[int]:
        """Atomic numbers of the elements that occur, sorted."""
        return [int(z) for z in self.numbers[self.compositions[self._frames_of_each() > 0].any(0)]]

    @property
    def states_charges(self) -> bool:
        """Whether a frame states its charge or its unpaired electrons."""
        return bool(np.isfinite(self.charge_spin).any())

    @property
    def electrons(self) -> IntArray:
        """Number of electrons of each frame (n,). A charge that is not stated counts as 0."""
        neutral: IntArray = (self.compositions @ self.numbers.astype(np.int64))[self.composition]
        return neutral - np.nan_to_num(self.charge_spin[:, 0]).astype(np.int64)

    def formulas(self) -> dict[str, int]:
        """Return the number of frames of each formula, the most frequent first, then in order of appearance."""
        number = self._frames_of_each()
        first = np.full(len(number), len(self))
        first[self.composition[::-1]] = np.arange(len(self))[::-1]  # for repeated indices, the last assignment counts
        return {self._formula(row): int(number[row]) for row in np.lexsort((first, -number)) if number[row]}

    def _frames_of_each(self) -> IntArray:
        return np.bincount(self.composition, minlength=len(self.compositions))

    def _formula(self, row: int) -> str:
        return str(Symbols(np.repeat(self.numbers, self.compositions[row])).get_chemical_formula())


class CompositionTable:
    """Table that assigns a row number to each composition, in order of appearance."""

    def __init__(self) -> None:
        self._rows: dict[bytes, int] = {}

    def row(self, species: IntArray) -> int:
        """Return the row of a structure with these atomic numbers (N,)."""
        return self._row(np.bincount(species))

    def rows(self, species: IntArray, sizes: IntArray) -> IntArray:
        """Return the rows of many structures from their concatenated atomic numbers."""
        width = int(species.max(initial=0)) + 1
        places = np.repeat(np.arange(len(sizes)) * width, sizes) + species
        counts = np.bincount(places, minlength=width * len(sizes)).reshape(-1, width)
        return np.array([self._row(line) for line in counts], dtype=np.int32)

    def _row(self, counts: IntArray) -> int:
        key = counts.astype("<u4").tobytes().rstrip(b"\0")
        return self._rows.setdefault(key, len(self._rows))

    def counts(self) -> tuple[IntArray, IntArray]:
        """Return the atomic numbers that occur (e,), and the number of atoms of each element in each row (c, e)."""
        width = max((len(key) for key in self._rows), default=0) // 4 + 1
        text = b"".join(key.ljust(4 * width, b"\0") for key in self._rows)
        table = np.frombuffer(text, dtype="<u4").reshape(-1, width)
        numbers = np.flatnonzero(table.any(0))
        return numbers, table[:, numbers].astype(np.int32)
