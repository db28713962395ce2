"""Reference energies of the elements, fitted to labels, taken from isolated atoms, or given as numbers."""

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from ase.geometry import complete_cell, minkowski_reduce

from piwsl.data.census import Census
from piwsl.data.frames import LARGEST_ENERGY, Frame, FrameSet
from piwsl.data.read import read_frames
from piwsl.errors import DataError
from piwsl.runs.config import read_mapping
from piwsl.typing import MAX_ATOMIC_NUMBER, IntArray
from piwsl.units import LabelUnits

_TABLES = (".yaml", ".yml", ".json")


def are_determined(frames: FrameSet, known: Iterable[int] = ()) -> bool:
    """Return whether the labeled energies determine a reference energy for each element in the frames.

    If the frames have fewer independent compositions than elements, `fit_reference_energies` returns one of many
    solutions.

    Args:
        frames: Training frames.
        known: Atomic numbers of elements whose reference energies come from isolated atoms.
    """
    census = frames.census
    occurring = np.bincount(census.composition[census.has_energy], minlength=len(census.compositions)) > 0
    free = np.isin(census.numbers, [number for number in census.elements if number not in set(known)])
    counts = census.compositions[occurring][:, free]
    return not free.any() or bool(len(counts) and np.linalg.matrix_rank(counts.astype(float)) == free.sum())


def isolated_atoms(frames: FrameSet, cutoff: float) -> IntArray:
    """Return the indices of single-atom frames with an energy whose atom has no neighbor.

    Programs with plane waves compute an isolated atom in a periodic box.

    Args:
        frames: Frames of a source.
        cutoff: Cutoff of the model, angstrom. Periodic images of an isolated atom are beyond it.
    """
    census = frames.census
    single = (census.sizes == 1) & census.has_energy
    for index in np.flatnonzero(single & census.periodic):
        single[index] = _image_distance(frames[int(index)]) > cutoff
    return np.flatnonzero(single)


def _image_distance(frame: Frame) -> float:
    """Return the shortest distance between an atom and its periodic images, angstrom."""
    vectors, _ = minkowski_reduce(complete_cell(frame.cell), frame.pbc)
    return float(np.linalg.norm(vectors[np.array(frame.pbc)], axis=1).min())


def atom_energies(frames: FrameSet) -> dict[int, float]:
    """Return the energies of isolated atoms.

    Args:
        frames: Frames with one atom each.

    Returns:
        Lowest energy of each element (the ground state), eV, by atomic number.
    """
    energies: dict[int, float] = {}
    for frame in frames:
        number = int(frame.species[0])
        energies[number] = min(frame.energy, energies.get(number, np.inf))
    return energies


def energies_by_number(energies: Mapping[Any, Any]) -> dict[int, float]:
    """Return energies of elements by atomic number, from energies (eV) by chemical symbol.

    Raises:
        DataError: A symbol is unknown, or an energy is not a finite number.
    """
    numbers = {symbol: number for number, symbol in enumerate(chemical_symbols[: MAX_ATOMIC_NUMBER + 1]) if number}
    found: dict[int, float] = {}
    for symbol, energy in energies.items():
        if symbol not in numbers:
            near = difflib.get_close_matches(str(symbol), numbers, n=1) or [str(symbol).capitalize()]
            hint = f"did you mean {near[0]}?" if near[0] in numbers else "use symbols such as H"
            raise DataError(f"{str(symbol)[:40]!r} is not a chemical symbol: {hint}")
        valid = isinstance(energy, int | float) and not isinstance(energy, bool) and math.isfinite(energy)
        if not valid or abs(energy) > LARGEST_ENERGY:
            raise DataError(f"the energy of {symbol} is {str(energy)[:40]}: give a finite number in eV")
        found[numbers[symbol]] = float(energy)
    if not found:
        raise DataError("there is no energy: give a number for each element, such as {H: -13.6}")
    return found


def read_reference_energies(path: Path, units: LabelUnits | None, cutoff: float) -> dict[int, float]:
    """Read the energies of isolated atoms from a file.

    Args:
        path: YAML or JSON file with energies (eV) by chemical symbol, or a file of labeled frames with one atom each.
            Other frames in such a file are ignored.
        units: Units of a file of frames, if it states none.
        cutoff: Cutoff of the model, angstrom; see `isolated_atoms`.

    Returns:
        Energy of each element, eV, by atomic number.

    Raises:
        ConfigError: A YAML or JSON file cannot be read.
        DataError: The file contains an unknown symbol, an energy that is not a finite number, or no isolated atom.
    """
    if path.suffix.lower() in _TABLES:
        try:
            return energies_by_number(read_mapping(path))
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
    frames = read_frames(str(path), units)
    atoms = isolated_atoms(frames, cutoff)
    if not len(atoms):
        raise DataError(
            f"{path}: no frame contains a single atom with an energy, without images within {cutoff:g} A: add such "
            "frames, or use a YAML file"
        )
    return atom_energies(frames.select(atoms))


def fit_reference_energies(
    frames: FrameSet, elements: list[int], known: Mapping[int, float] | None = None
) -> dict[int, float]:
    """Fit one energy per element by least squares, so that sums over atoms match the labeled energies.

    For a single composition the minimum-norm solution is returned. Frames of equal composition are replaced by their
    mean, weighted by their number; the fit is the same.

    Args:
        frames: Frames; frames without an energy are not used.
        elements: Atomic numbers of the elements.
        known: Energies of isolated atoms, eV, by atomic number. They are kept, and the other elements are fitted to the
            remaining energy.

    Returns:
        Energy of each element, eV, by atomic number; all zero if no frame has an energy.
    """
    census = frames.census
    fixed = {z: energy for z, energy in (known or {}).items() if z in elements}
    if fixed:
        counts = np.stack([census.compositions[:, census.numbers == z].sum(1) for z in fixed], axis=1)
        rest = (counts @ np.array(list(fixed.values())))[census.composition]
        free = [z for z in elements if z not in fixed]
        if not free:
            return dict(fixed)
        fitted = _fit(replace(census, energy=census.energy - rest), free)
        return {z: fixed.get(z, fitted.get(z, 0.0)) for z in elements}
    return _fit(census, elements)


def _fit(census: Census, elements: list[int]) -> dict[int, float]:
    counts = np.stack([census.compositions[:, census.numbers == z].sum(1) for z in elements], axis=1).astype(float)
    sizes = counts.sum(1)  # atoms of these elements
    labeled = census.has_energy & (sizes > 0)[census.composition]
    number = np.bincount(census.composition[labeled], minlength=len(census.compositions))
    occurring = number > 0
    if not occurring.any():
        return dict.fromkeys(elements, 0.0)
    # Subtracting the mean energy per atom first keeps large total energies well conditioned.
    per_atom = float(np.mean(census.energy[labeled] / sizes[census.composition[labeled]]))
    excess = np.where(labeled, census.energy - per_atom * sizes[census.composition], 0.0)
    mean_excess = np.bincount(census.composition, excess, minlength=len(number))[occurring] / number[occurring]
    weights = np.sqrt(number[occurring])
    solution, *_ = np.linalg.lstsq(counts[occurring] * weights[:, None], mean_excess * weights, rcond=None)
    return {z: float(value) + per_atom for z, value in zip(elements, solution, strict=True)}
