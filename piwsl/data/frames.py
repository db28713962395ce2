"""Labeled structures: single frames and sets of frames."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from piwsl.data.census import Census
from piwsl.data.charges import NOT_STATED, ChargeSpin, charge_of
from piwsl.data.names import FoundNames
from piwsl.errors import DataError
from piwsl.runs import notebook
from piwsl.typing import FloatArray, IntArray

# No method gives larger labels for structures near a minimum.
LARGEST_FORCE = 1.0e4  # eV/angstrom
LARGEST_ENERGY = 1.0e9  # eV


@dataclass(frozen=True, eq=False, repr=False)
class Frame:
    """One structure with its labels.

    Attributes:
        species: Atomic numbers (n,).
        positions: Positions (n, 3), angstrom, float64.
        energy: Total energy, eV; NaN without a label.
        forces: Forces (n, 3), eV/angstrom; all NaN without a label.
        cell: Lattice vectors in rows (3, 3), angstrom; zeros without a cell.
        pbc: Whether the structure is periodic along each lattice vector.
        stress: Stress (3, 3), eV/angstrom^3, positive under tension; all NaN without a label.
        config_type: Kind of structure stated in the file, such as ``liquid``; empty if not stated.
        charge: Total charge, e; NaN if not stated.
        unpaired_electrons: Number of unpaired electrons; NaN if not stated.
        energy_spread: Standard deviation of the energy over the models of an ensemble that labeled the frame, eV; NaN
            if it is not stored.
        force_spread: Standard deviation of the force on each atom over these models (n,), eV/angstrom, as the root of
            the sum over the components; None if it is not stored.
        level: Index of the level of theory of the labels in a training run with several levels; 0 is the main level.
        labels_from: Foundation model that computed the labels, or from which the model that computed them was made,
            with its license; empty if there is none.
    """

    species: IntArray
    positions: FloatArray
    energy: float
    forces: FloatArray
    cell: FloatArray = field(default_factory=lambda: np.zeros((3, 3)))
    pbc: tuple[bool, bool, bool] = (False, False, False)
    stress: FloatArray = field(default_factory=lambda: np.full((3, 3), np.nan))
    config_type: str = ""
    charge: float = NOT_STATED
    unpaired_electrons: float = NOT_STATED
    energy_spread: float = np.nan
    force_spread: FloatArray | None = None
    level: int = 0
    labels_from: str = ""

    def reordered(self, order: IntArray) -> "Frame":
        """Return the frame with its atoms in another order, given as indices (n,) into the present order."""
        spread = None if self.force_spread is None else self.force_spread[order]
        return replace(
            self,
            species=self.species[order],
            positions=self.positions[order],
            forces=self.forces[order],
            force_spread=spread,
        )

    @property
    def has_energy(self) -> bool:
        """Whether the energy is labeled."""
        return bool(np.isfinite(self.energy))

    @property
    def has_forces(self) -> bool:
        """Whether the forces are labeled."""
        return bool(np.isfinite(self.forces).all())

    @property
    def has_stress(self) -> bool:
        """Whether the stress is labeled, which requires a structure that is periodic in three directions."""
        return all(self.pbc) and bool(np.isfinite(self.stress).all())

    @property
    def has_spread(self) -> bool:
        """Whether the spread of an ensemble is stored for the energy or the forces."""
        return bool(np.isfinite(self.energy_spread)) or self.force_spread is not None

    @property
    def has_unusable_stress(self) -> bool:
        """Whether the frame has a stress but no volume."""
        return not all(self.pbc) and bool(np.isfinite(self.stress).all())

    @property
    def charge_spin(self) -> ChargeSpin:
        """Stated charge and spin."""
        return ChargeSpin(self.charge, self.unpaired_electrons)

    @property
    def states_charge(self) -> bool:
        """Whether the charge or the number of unpaired electrons is stated."""
        return self.charge_spin.is_stated

    def __repr__(self) -> str:
        labels = [f"energy {self.energy:.4f} eV"] if self.has_energy else []
        labels += [name for name, known in (("forces", self.has_forces), ("stress", self.has_stress)) if known]
        labels += [str(self.charge_spin)] if self.states_charge else []
        formula = self.atoms().get_chemical_formula("hill")
        return f"Frame({formula}, {len(self.species)} atoms, {', '.join(labels) or 'no labels'})"

    def without_labels(self) -> "Frame":
        """Return the structure without labels and spreads."""
        return replace(
            self,
            energy=np.nan,
            forces=np.full_like(self.positions, np.nan),
            stress=np.full((3, 3), np.nan),
            energy_spread=np.nan,
            force_spread=None,
            labels_from="",
        )

    def atoms(self) -> Atoms:
        """Return the structure without its labels. Its ``info`` contains the stated charge and unpaired electrons."""
        info = self.charge_spin.info()
        return Atoms(self.species, self.positions, cell=self.cell, pbc=self.pbc, info=info or None)

    @classmethod
    def from_atoms(
        cls, atoms: Atoms, energy: float = np.nan, forces: FloatArray | None = None, stress: FloatArray | None = None
    ) -> "Frame":
        """Create a frame from an ASE structure without calling its calculator.

        Args:
            atoms: ASE structure. Its ``info`` may state the charge and the spin, see `piwsl.data.charges`.
            energy: Total energy, eV.
            forces: Forces (n, 3), eV/angstrom.
            stress: Stress (3, 3), eV/angstrom^3.

        Raises:
            DataError: The stated charge or spin cannot be used.
        """
        stated = charge_of(atoms)
        no_forces, no_stress = np.full((len(atoms), 3), np.nan), np.full((3, 3), np.nan)
        pbc = atoms.get_pbc()
        return cls(
            species=atoms.numbers.astype(np.int64),
            positions=np.asarray(atoms.positions, dtype=np.float64),
            energy=float(energy),
            forces=no_forces if forces is None else np.asarray(forces, dtype=np.float64),
            cell=np.asarray(atoms.cell.array, dtype=np.float64),
            pbc=(bool(pbc[0]), bool(pbc[1]), bool(pbc[2])),
            stress=no_stress if stress is None else np.asarray(stress, dtype=np.float64),
            charge=stated.charge,
            unpaired_electrons=stated.unpaired_electrons,
        )


@dataclass(frozen=True, eq=False, repr=False)
class FrameSet(Sequence[Frame]):
    """A sequence of frames with its source and the remarks of the reader.

    Attributes:
        frames: Frames in a list, or a sequence that reads each frame on access for files too large for memory.
        source: File, directory, pattern or name of the data set that was read.
        notes: Remarks of the reader, each one sentence.
        files: Files that were read.
        names: Names of the values in the files.
    """

    frames: Sequence[Frame]
    source: Path | None = None
    notes: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    names: FoundNames = FoundNames()  # noqa: RUF009  # immutable

    def __len__(self) -> int:
        return len(self.frames)

    @overload
    def __getitem__(self, index: int) -> Frame: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Frame]: ...

    def __getitem__(self, index: int | slice) -> Frame | Sequence[Frame]:
        return self.frames[index]

    def __iter__(self) -> Iterator[Frame]:
        return iter(self.frames)

    def __repr__(self) -> str:
        return f"FrameSet({len(self)} frames{f' from {self.source}' if self.source else ''})"

    def _repr_html_(self) -> str:
        pairs: list[tuple[str, object]] = [("frames", len(self)), ("source", self.source or "memory")]
        if isinstance(self.frames, list):  # the census of a large file takes minutes
            census = self.census
            pairs += [
                ("elements", " ".join(chemical_symbols[number] for number in census.elements)),
                ("energies", int(census.has_energy.sum())),
                ("forces", int(census.has_forces.sum())),
                ("stress", int(census.has_stress.sum())),
            ]
        return notebook.block(notebook.facts(pairs), notebook.lines(f"note: {note}" for note in self.notes))

    def select(self, indices: Iterable[int]) -> "FrameSet":
        """Select frames by index, in this order, without reading them."""
        chosen = np.fromiter(indices, dtype=np.int64)
        selection = self.frames if isinstance(self.frames, Selection) else None
        view = Selection(self, chosen) if selection is None else Selection(selection.base, selection.indices[chosen])
        return FrameSet(view, self.source, self.notes, self.files, self.names)

    @property
    def census(self) -> Census:
        """Compositions and labels of all frames. The first access may read the whole file."""
        if isinstance(self.frames, Selection):
            return self.frames.base.census.take(self.frames.indices)
        return self._census

    @cached_property
    def _census(self) -> Census:
        known = getattr(self.frames, "census", None)  # some formats provide it without reading every frame
        return known() if known else Census.of(self.frames)

    @property
    def elements(self) -> list[int]:
        """Atomic numbers of the elements that occur, sorted."""
        return self.census.elements

    def __reduce__(self) -> tuple[type["FrameSet"], tuple[object, ...]]:
        return FrameSet, (self.frames, self.source, self.notes, self.files, self.names)  # the census is not pickled


class Selection(Sequence[Frame]):
    """Frames of a set selected by index.

    Attributes:
        base: Set that contains the frames.
        indices: Indices (n,) of the selected frames, int64.
    """

    def __init__(self, base: FrameSet, indices: IntArray) -> None:
        self.base = base
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Frame: ...

    @overload
    def __getitem__(self, index: slice) -> "Selection": ...

    def __getitem__(self, index: int | slice) -> "Frame | Selection":
        if isinstance(index, slice):
            return Selection(self.base, self.indices[index])
        return self.base[int(self.indices[index])]

    def __iter__(self) -> Iterator[Frame]:
        for index in self.indices:
            yield self.base[int(index)]

    def __reduce__(self) -> tuple[type[Sequence[Frame]], tuple[object, ...]]:
        # For frames in memory, only the selected frames are pickled.
        return (list, (list(self),)) if isinstance(self.base.frames, list) else (Selection, (self.base, self.indices))


def check_label(path: Path, index: int, name: str, values: FloatArray | float) -> None:
    """Raise an error if a label in eV and angstrom is not finite or is unreasonably large.

    Raises:
        DataError: The label cannot be used; the message names the file, the frame and the label.
    """
    if not np.isfinite(values).all():
        raise DataError(f"{path}: frame {index}: {name} is not a finite number: remove the frame or this label")
    limit = LARGEST_ENERGY if np.ndim(values) == 0 else LARGEST_FORCE
    if np.abs(values).max() > limit:
        raise DataError(
            f"{path}: frame {index}: {name} reaches {np.abs(values).max():.3g}, above {limit:.0e} in eV and angstrom: "
            "check the units or remove the frame"
        )
