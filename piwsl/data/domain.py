"""The domain of the training data of a model, and checks whether a structure lies within it.

The domain is stored in the trained file and in every file exported from it. Distances are measured within the cutoff of
the model, on all frames of a small training set or on evenly spaced frames of a large set.
"""

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from os import PathLike
from typing import Annotated, Literal

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.formula import Formula
from ase.symbols import Symbols
from pydantic import BaseModel, ConfigDict, Field

from piwsl.data.charges import ChargeSpin, charge_of, electrons
from piwsl.data.frames import FrameSet
from piwsl.data.reference_energies import are_determined
from piwsl.errors import DataError
from piwsl.structures.cells import periodic_directions
from piwsl.structures.neighbors import PairSearch
from piwsl.structures.pairs import ShortestPairs, pair_numbers
from piwsl.typing import MAX_ATOMIC_NUMBER, FloatArray, IntArray

LOGGER = logging.getLogger(__name__)

# Number of formulas that are stored. A model trained on more compositions is meant to generalize to others.
MOST_FORMULAS = 100
# Number of frames whose distances are measured.
MOST_MEASURED = 5000
# Thermal motion reaches slightly below the shortest distance in a finite sample.
CLOSER = 0.9
# Number of frames of a large set that are compared with the domain, and of concerns after which the comparison stops.
MOST_COMPARED, MOST_CONCERNS = 500, 8

Finite = Annotated[float, Field(allow_inf_nan=False)]
Number = Annotated[int, Field(ge=1, le=MAX_ATOMIC_NUMBER)]
Kind = Literal["molecules", "slabs", "cells"]


class TrainingDomain(BaseModel):
    """Composition, distances and labels of the training data of a model.

    Attributes:
        frames: Number of training frames.
        measured: Number of training frames whose distances and forces were measured.
        compositions: Number of different compositions.
        formulas: Hill formulas, the most frequent first; at most `MOST_FORMULAS`.
        elements: Atomic numbers.
        kinds: Kinds of structures: ``molecules`` (not periodic), ``slabs`` (periodic along one or two directions),
            ``cells`` (periodic in three directions).
        range: Distance up to which pairs were measured, equal to the cutoff of the model, angstrom.
        shortest: Shortest distance for each pair of elements such as ``C-H``, angstrom; pairs never found within
            ``range`` are absent.
        largest_force: Largest norm of a force, eV/angstrom; None without labels.
        energy_per_atom: Lowest and highest energy, eV/atom; None without labels.
        determined: Whether the labels determine the reference energy of each element. False if there are fewer
            independent compositions than elements; energy differences between compositions are then meaningless. None
            if unknown.
        charges: Total charges of the training frames, e; None if the data state none. A frame that states none has the
            default charge of the network, or 0.
        unpaired_electrons: Numbers of unpaired electrons of the training frames, likewise.
        default_charge: Charge (e) and number of unpaired electrons with which the model evaluates structures that state
            none; None if the network takes no charge.
        level: Level of theory of the labels; None if unknown.
    """

    model_config = ConfigDict(extra="ignore")

    frames: Annotated[int, Field(ge=0)]
    measured: Annotated[int, Field(ge=0)]
    compositions: Annotated[int, Field(ge=0)]
    formulas: list[str] = Field(max_length=MOST_FORMULAS)
    elements: list[Number]
    kinds: list[Kind]
    range: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    shortest: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]]
    largest_force: Finite | None = None
    energy_per_atom: tuple[Finite, Finite] | None = None
    determined: bool | None = None
    charges: list[Finite] | None = None
    unpaired_electrons: list[Finite] | None = None
    default_charge: tuple[Finite, Finite] | None = None
    level: str | None = None

    @classmethod
    def of(
        cls,
        frames: FrameSet,
        cutoff: float,
        level: str | None = None,
        known: Iterable[int] = (),
        default_charge: tuple[float, float] | None = None,
    ) -> "TrainingDomain":
        """Determine the domain from the training frames of a model.

        Args:
            frames: Training frames.
            cutoff: Cutoff of the model, angstrom.
            level: Level of theory of the labels.
            known: Atomic numbers of elements whose reference energies come from isolated atoms.
            default_charge: See the attribute.
        """
        census = frames.census
        formulas = census.formulas()
        indices = range(0, len(frames), max(1, -(-len(frames) // MOST_MEASURED)))
        table, search, kinds = ShortestPairs(), PairSearch(cutoff), set()
        force = 0.0
        for index in indices:
            frame = frames[index]
            kinds.add(_kind(sum(frame.pbc)))
            pairs = search(frame.positions, frame.cell, frame.pbc)
            table.add(frame.species, pairs.first, pairs.second, pairs.distances)
            if frame.has_forces:
                force = max(force, float(np.square(frame.forces).sum(1).max(initial=0.0)))
        labeled = census.has_energy
        per_atom = (census.energy / census.sizes)[labeled]
        return cls(
            frames=len(frames),
            measured=len(indices),
            compositions=len(formulas),
            formulas=[_hill(formula) for formula in list(formulas)[:MOST_FORMULAS]],
            elements=census.elements,
            kinds=sorted(kinds),
            range=cutoff,
            shortest={_pair_name(*pair): round(distance, 4) for pair, distance in table.by_numbers().items()},
            largest_force=float(np.sqrt(force)) if census.has_forces.any() else None,
            energy_per_atom=(float(per_atom.min()), float(per_atom.max())) if len(per_atom) else None,
            determined=are_determined(frames, known) if len(per_atom) else None,
            charges=_occurring(census.charge_spin[:, 0], default_charge and default_charge[0]),
            unpaired_electrons=_occurring(census.charge_spin[:, 1], default_charge and default_charge[1]),
            default_charge=default_charge,
            level=level,
        )

    def limits(self) -> FloatArray:
        """Return the shortest distance of each pair of elements (Z, Z), angstrom; `range` for absent pairs."""
        table = np.full((MAX_ATOMIC_NUMBER + 1, MAX_ATOMIC_NUMBER + 1), self.range)
        for pair, distance in self.shortest.items():
            with suppress(ValueError):
                low, high = pair_numbers(pair)
                table[low, high] = table[high, low] = distance
        return table

    def concerns(self, atoms: Atoms, distances: bool = True, copies: int = 1) -> dict[str, str]:
        """Return the ways in which a structure lies outside the training data, as sentences by kind of concern.

        Args:
            atoms: Structure to check.
            distances: Whether to check interatomic distances.
            copies: Number of non-interacting copies of a molecule of which the structure consists. Each is checked.
        """
        size, rest = divmod(len(atoms), copies)
        if copies > 1 and not rest:
            parts = (atoms[start : start + size] for start in range(0, len(atoms), size))
            return {kind: text for part in parts for kind, text in self.concerns(part, distances).items()}
        found = {}
        numbers = np.asarray(atoms.numbers)
        pbc = periodic_directions(atoms)
        formula, known = _formula(numbers), self.formulas
        stored = self.compositions <= len(known)
        same = formula in known or (any(pbc) and _reduced(formula) in {_reduced(other) for other in known})
        if stored and known and not same:
            some = ", ".join(known[:3]) + (f" and {len(known) - 3} other compositions" if len(known) > 3 else "")
            found[f"composition {formula}"] = f"the structure is {formula}, but the model was trained only on {some}"
        if (kind := _kind(sum(pbc))) not in self.kinds:
            words = {"molecules": "not periodic", "slabs": "a slab or wire", "cells": "a periodic cell"}
            only = " and ".join("slabs or wires" if kind == "slabs" else kind for kind in self.kinds)
            found[kind] = f"the structure is {words[kind]}, but the model was trained only on {only}"
        found.update(self._other_charge(charge_of(atoms)))
        if distances and np.isfinite(atoms.positions).all():
            found.update(self._close_pairs(atoms, numbers))
        return found

    def remark(self) -> str | None:
        """Return a warning about energy differences between compositions; None if the labels determine them."""
        if self.determined is not False:
            return None
        return undetermined_energies(self.compositions, len(self.elements))

    def _other_charge(self, stated: ChargeSpin) -> dict[str, str]:
        complete = stated.over(ChargeSpin(*(self.default_charge or ())))
        charge, unpaired = complete.charge, complete.unpaired_electrons
        found = {}
        if not np.isnan(charge) and charge not in (self.charges or [0.0]):
            text = f"has a charge of {charge:+g}" if charge else "is neutral"
            if np.isnan(stated.charge):
                text = f"states no charge, which is read as {f'{charge:+g}' if charge else '0'}"
            found["charge"] = f"the structure {text}, which does not occur in the training data"
        if self.unpaired_electrons and not np.isnan(unpaired) and unpaired not in self.unpaired_electrons:
            text = f"has {electrons(unpaired)}"
            if np.isnan(stated.unpaired_electrons):
                text = f"states no spin, which is read as {electrons(unpaired)}"
            found["spin"] = f"the structure {text}, which does not occur in the training data"
        return found

    def _close_pairs(self, atoms: Atoms, numbers: IntArray) -> dict[str, str]:
        limits = self.limits()
        search = PairSearch(self.range)
        pairs = search(atoms.positions, atoms.cell.complete().array, periodic_directions(atoms))
        allowed = CLOSER * limits[numbers[pairs.first], numbers[pairs.second]]
        close = np.flatnonzero(pairs.distances < allowed)
        found: dict[str, str] = {}
        for index in close[np.argsort(pairs.distances[close] / allowed[close])[:3]]:
            first, second = int(pairs.first[index]), int(pairs.second[index])
            name = _pair_name(int(numbers[first]), int(numbers[second]))
            seen = self.shortest.get(name)
            closest = f"never within {self.range:g}" if seen is None else f"{seen:.2f} at the closest"
            found.setdefault(
                f"distance {name}",
                f"atoms {_atom(numbers, first)} and {_atom(numbers, second)} are {pairs.distances[index]:.2f} angstrom "
                f"apart, but in training {name} were {closest}",
            )
        return found

    def lines(self) -> list[str]:
        """Return the domain as lines of text."""
        more = f" and {self.compositions - 4} more" if self.compositions > 4 else ""
        lines = [
            f"trained on         {self.frames} frames of {', '.join(self.formulas[:4])}{more}: {', '.join(self.kinds)}",
            f"shortest pairs     {', '.join(f'{pair} {value:.2f}' for pair, value in self.shortest.items())} A",
        ]
        if self.largest_force is not None:
            lines.append(f"largest force      {self.largest_force:.2f} eV/A")
        if self.charges is not None:
            charges = ", ".join(f"{charge:+g}" if charge else "0" for charge in self.charges)
            lines.append(f"charges            {charges} e")
        return lines


def undetermined_energies(compositions: int, elements: int) -> str:
    """Return a warning that the labels do not determine the reference energies."""
    some = "one composition does" if compositions == 1 else f"{compositions} compositions do"
    return (
        f"{some} not determine the reference energies of {elements} elements: energies of other compositions, and "
        "differences between compositions, are meaningless"
    )


_warned: set[tuple[str, str]] = set()


def check_domain(
    domain: TrainingDomain | None,
    atoms: Atoms,
    model: str | PathLike[str],
    strict: bool = False,
    distances: bool = True,
    copies: int = 1,
) -> list[str]:
    """Compare a structure with the training data of a model, and warn of each difference once per process.

    Args:
        domain: Domain of the model; None if its file does not contain a domain.
        atoms: Structure to check.
        model: Name of the model file, used in messages.
        strict: Raise an error for any difference.
        distances: Whether to check interatomic distances.
        copies: Number of non-interacting copies of which the structure consists.

    Returns:
        New warnings, which were also logged.

    Raises:
        DataError: ``strict`` is set, and the structure lies outside the training data.
    """
    if domain is None:
        return []
    return _report(domain.concerns(atoms, distances, copies), str(model), strict)


def check_frames(
    domain: TrainingDomain | None,
    frames: FrameSet,
    model: str | PathLike[str],
    strict: bool = False,
    copies: int = 1,
) -> list[str]:
    """Compare frames with the training data of a model, as `check_domain` does.

    One frame of each composition and of each charge and spin is compared, and evenly spaced frames of a large set.

    Raises:
        DataError: ``strict`` is set, and a frame lies outside the training data.
    """
    if domain is None or not len(frames):
        return []
    _, first = np.unique(frames.census.composition, return_index=True)
    _, charged = np.unique(np.nan_to_num(frames.census.charge_spin, nan=-1000.0), axis=0, return_index=True)
    first = np.union1d(first[:MOST_COMPARED], charged)
    every = np.arange(0, len(frames), max(1, -(-len(frames) // MOST_COMPARED)))
    concerns: dict[str, str] = {}
    for index in np.union1d(first, every):
        for kind, text in domain.concerns(frames[int(index)].atoms(), copies=copies).items():
            concerns.setdefault(kind, f"frame {index}: {text}")
        if len(concerns) >= MOST_CONCERNS:
            break
    return _report(concerns, str(model), strict)


def _report(concerns: dict[str, str], model: str, strict: bool) -> list[str]:
    """Log the concerns that were not logged before, or raise a DataError if ``strict``."""
    if strict and concerns:
        raise DataError(f"{model}: {'; '.join(concerns.values())}: train on such structures, or leave out strict=True")
    new = [f"{model}: {text}" for kind, text in concerns.items() if (model, kind) not in _warned]
    _warned.update((model, kind) for kind in concerns)
    for text in new:
        LOGGER.warning(text)
    return new


def _pair_name(first: int, second: int) -> str:
    return "-".join(sorted((chemical_symbols[first], chemical_symbols[second])))


def _atom(numbers: IntArray, index: int) -> str:
    return f"{chemical_symbols[int(numbers[index])]}{index}"


def _kind(periodic: int) -> Kind:
    return "molecules" if periodic == 0 else "cells" if periodic == 3 else "slabs"


def _formula(numbers: Sequence[int] | IntArray) -> str:
    return str(Symbols(np.asarray(numbers)).get_chemical_formula("hill"))


def _hill(formula: str) -> str:
    return str(Formula(formula).format("hill"))


def _reduced(formula: str) -> str:
    try:
        return str(Formula(formula).reduce()[0].format("hill"))
    except ValueError:  # formula from a damaged file
        return formula


def _occurring(values: FloatArray, default: float | None) -> list[float] | None:
    """Return the values that occur among the frames, sorted. A value that is not stated counts as the default or 0.

    The result is None if no frame states a value and there is no default.
    """
    if default is None and not np.isfinite(values).any():
        return None
    return [float(value) for value in np.unique(np.nan_to_num(values, nan=default or 0.0))]
