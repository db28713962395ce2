"""Find labels in files by name, convert them to eV and angstrom, and validate them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress

from piwsl.data.charges import NO_CHARGE, ChargeSpin
from piwsl.data.frames import Frame, check_label
from piwsl.errors import DataError, printable, quoted, shortened
from piwsl.structures.cells import PBC, check_cell
from piwsl.typing import MAX_ATOMIC_NUMBER, FloatArray, IntArray
from piwsl.units import LabelUnits

ENERGY_KEY = "REF_energy"
FORCES_KEY = "REF_forces"
STRESS_KEY = "REF_stress"
VIRIAL_KEYS = ("REF_virial", "REF_virials")
ENERGY_SPREAD_KEY = "REF_energy_spread"
FORCE_SPREAD_KEY = "REF_force_spread"
# Texts of a frame by key, each with its largest number of characters. They are also attributes of `Frame`.
TEXTS = {"config_type": 60, "labels_from": 240}
RESULTS = ("energy", "free_energy", "forces", "stress")

EV_ANGSTROM = LabelUnits(1.0, 1.0)
LARGEST_LENGTH = 1.0e5  # angstrom; limit for coordinates and lattice vectors
_DIFFERENT = 0.01  # relative difference of a stress and a virial that contradict each other
_ROUNDED = 1e-5  # eV/angstrom^3; rounding of both


@dataclass(frozen=True)
class RawLabels:
    """Labels of one structure in the units of its file; None for a missing label.

    Attributes:
        energy: Total energy.
        forces: Forces (n, 3).
        stress: 9 or 6 components (xx, yy, zz, yz, xz, xy), positive under tension.
        virial: 9 or 6 components; the stress is -virial / volume.
        second_virial: Virial under a second name.
        from_results: Whether the labels are calculator results stored by ASE.
        names: Names under which the labels were found in the file.
        other_energy: Energy that was not used, because the forces belong to the free energy.
        energy_spread: Standard deviation of the energy over the models of an ensemble.
        force_spread: Standard deviation of the force on each atom (n,).
        texts: Values of the `TEXTS` that are stated, by key.
    """

    energy: Any = None
    forces: Any = None
    stress: Any = None
    virial: Any = None
    second_virial: Any = None
    from_results: bool = False
    names: tuple[str, ...] = ()
    other_energy: Any = None
    energy_spread: Any = None
    force_spread: Any = None
    texts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def exist(self) -> bool:
        """Whether the structure has any label."""
        return any(label is not None for label in (self.energy, self.forces, self.stress, self.virial))


def find_labels(named: Mapping[str, Any], results: Mapping[str, Any]) -> RawLabels:
    """Return the labels under ``REF_...`` keys or, if there are none, the calculator results.

    With smeared occupations, the forces are derivatives of the free energy. If the results contain both energies, and
    forces or stress, the free energy is used.

    Args:
        named: All named values of the structure in the file.
        results: Calculator results stored by ASE, with the names in `RESULTS`.
    """
    others: dict[str, Any] = {
        "energy_spread": named.get(ENERGY_SPREAD_KEY),
        "force_spread": named.get(FORCE_SPREAD_KEY),
        "texts": _texts_of(named),
    }
    other_names = tuple(key for key in (ENERGY_SPREAD_KEY, FORCE_SPREAD_KEY) if named.get(key) is not None)
    other_names += tuple(others["texts"])
    keys = (ENERGY_KEY, FORCES_KEY, STRESS_KEY, *VIRIAL_KEYS)
    names = tuple(key for key in keys if named.get(key) is not None)
    if names:
        energy, forces, stress = (named.get(key) for key in keys[:3])
        virials = [named[key] for key in VIRIAL_KEYS if key in names]
        virial, second = [*virials, None, None][:2]
        return RawLabels(energy, forces, stress, virial, second, names=names + other_names, **others)
    energy, free, forces, stress = (results.get(name) for name in RESULTS)
    differs = free is not None and (energy is None or not _equal(energy, free))
    takes_free = differs and (energy is None or forces is not None or stress is not None)
    chosen = free if takes_free else energy
    found = {"free_energy" if takes_free else "energy": chosen, "forces": forces, "stress": stress}
    names = tuple(name for name, value in found.items() if value is not None)
    if free is not None and not differs:
        names += ("free_energy",)
    other = energy if takes_free else None
    if not names:
        return RawLabels(names=other_names, **others)
    return RawLabels(chosen, forces, stress, from_results=True, names=names + other_names, other_energy=other, **others)


def _equal(first: Any, second: Any) -> bool:
    try:
        return abs(float(first) - float(second)) < 1e-9
    except (TypeError, ValueError):
        return False


def _texts_of(named: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stated `TEXTS` of a structure by key."""
    values = {key: named[key] for key in TEXTS if isinstance(named.get(key), str | int | float)}
    return {key: text for key, value in values.items() if (text := shown_text(key, str(value)))}


def shown_text(key: str, text: str) -> str:
    """Return one of the `TEXTS` of a file in one line, shortened and without control characters."""
    return shortened(printable(text), TEXTS[key])


def labeled_frame(
    path: Path,
    index: int,
    species: IntArray,
    positions: FloatArray,
    cell: FloatArray,
    pbc: tuple[bool, bool, bool],
    labels: RawLabels,
    units: LabelUnits,
    stated: ChargeSpin = NO_CHARGE,
) -> Frame:
    """Create a frame in eV and angstrom from the contents of a file, and validate it.

    Args:
        path: Name of the file, used in messages.
        index: Index of the frame in the file, used in messages.
        species: Atomic numbers (n,).
        positions: Positions (n, 3), in the units of the file.
        cell: Lattice vectors in rows (3, 3), in the units of the file.
        pbc: Whether the structure is periodic along each lattice vector.
        labels: Labels in the units of the file.
        units: Units of the file.
        stated: Charge and spin stated in the file.

    Raises:
        DataError: A label or a position has the wrong shape, is not finite, or is unreasonably large.
    """
    where = f"{path}: frame {index}"
    energy, forces = _number(where, labels.energy), _array(where, "forces", labels.forces)
    numbers = atomic_numbers_of(where, species)
    places = _array(where, "positions", positions)
    assert places is not None
    if places.shape != (len(numbers), 3):
        raise DataError(f"{where}: positions have shape {places.shape}, expected ({len(numbers)}, 3)")
    if forces is not None and forces.shape != (len(numbers), 3):
        raise DataError(f"{where}: forces have shape {forces.shape}, expected ({len(numbers)}, 3)")
    vectors = _array(where, "cell", cell)
    if vectors is None or vectors.shape != (3, 3):
        raise DataError(f"{where}: its cell lacks a lattice vector: correct or remove the frame")
    frame = Frame(
        species=numbers,
        positions=places * units.length,
        energy=np.nan if energy is None else energy * units.energy,
        forces=np.full((len(numbers), 3), np.nan) if forces is None else forces * units.force,
        cell=vectors * units.length,
        pbc=pbc,
        stress=_stress(where, labels, vectors, pbc, units),
        charge=stated.charge,
        unpaired_electrons=stated.unpaired_electrons,
        **labels.texts,
        **_spreads(where, labels, len(numbers), units),
    )
    stress = labels.stress if labels.stress is not None else labels.virial
    given = {"energy": energy, "forces": forces, "stress": stress}
    if not all(pbc) and labels.stress is None and np.isnan(frame.stress).all():
        del given["stress"]  # the stress is undefined, because a virial needs a volume
    check_frame(path, index, frame, {name for name, label in given.items() if label is not None})
    return frame


def _spreads(where: str, labels: RawLabels, atoms: int, units: LabelUnits) -> dict[str, Any]:
    """Return the spreads of a frame in eV and eV/angstrom, as arguments of `Frame`."""
    energy = _array(where, "energy spread", labels.energy_spread)
    forces = _array(where, "force spread", labels.force_spread)
    spreads: dict[str, Any] = {}
    if energy is not None:
        spreads["energy_spread"] = checked_spread(where, "energy spread", energy.reshape(-1), 1)[0] * units.energy
    if forces is not None:
        spreads["force_spread"] = checked_spread(where, "force spread", forces.reshape(-1), atoms) * units.force
    return spreads


def checked_spread(where: str, name: str, values: FloatArray, count: int) -> FloatArray:
    """Return a standard deviation with ``count`` values.

    Raises:
        DataError: The number of values is wrong, or a value is negative or not finite.
    """
    if values.shape != (count,):
        raise DataError(f"{where}: its {name} has {values.size} values, expected {count}")
    if not (np.isfinite(values) & (values >= 0)).all():
        raise DataError(f"{where}: its {name} contains a negative value or a value that is not finite: remove it")
    return values


def stored_data(frame: Frame) -> dict[str, Any]:
    """Return all values of a frame by key that are neither its structure nor its labels, for ASE databases."""
    return {**frame.charge_spin.info(), **spreads_of(frame), **texts_of(frame)}


def texts_of(frame: Frame) -> dict[str, str]:
    """Return the `TEXTS` of a frame by key, without empty texts."""
    return {key: text for key in TEXTS if (text := getattr(frame, key))}


def spreads_of(frame: Frame) -> dict[str, Any]:
    """Return the stored spreads of a frame by key; empty if there are none."""
    spreads: dict[str, Any] = {}
    if np.isfinite(frame.energy_spread):
        spreads[ENERGY_SPREAD_KEY] = frame.energy_spread
    if frame.force_spread is not None:
        spreads[FORCE_SPREAD_KEY] = frame.force_spread
    return spreads


def atomic_numbers_of(where: str, species: Any) -> IntArray:
    """Return atomic numbers as int64.

    Raises:
        DataError: The atomic numbers are not integers.
    """
    numbers = np.asarray(species)
    if numbers.ndim != 1 or numbers.dtype.kind not in "fiu" or not np.array_equal(numbers, numbers.astype(np.int64)):
        raise DataError(f"{where}: its atomic numbers must be one integer per atom")
    return numbers.astype(np.int64)


def periodicity(where: str, value: Any) -> PBC:
    """Convert the periodic directions stated in a file to three booleans.

    Raises:
        DataError: The value is neither one nor three booleans.
    """
    flags = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    flags = list(flags) if isinstance(flags, list | tuple) else [flags] * 3
    if len(flags) != 3 or not all(isinstance(flag, bool | int | float) and flag in (0, 1) for flag in flags):
        raise DataError(f"{where}: pbc is {quoted(value)}; expected one or three booleans (T or F)")
    return bool(flags[0]), bool(flags[1]), bool(flags[2])


def check_frame(path: Path, index: int, frame: Frame, given: Collection[str]) -> None:
    """Raise an error if a frame has no atoms, has positions that are not finite, or has unreasonable labels.

    Args:
        path: Name of the file, used in messages.
        index: Index of the frame in the file, used in messages.
        frame: Frame in eV and angstrom.
        given: Names of the labels that the file contains (energy, forces, stress).

    Raises:
        DataError: The frame cannot be used; the message names the file and the frame.
    """
    if not len(frame.species):
        raise DataError(f"{path}: frame {index}: contains no atoms: remove the frame")
    if frame.species.min() < 1 or frame.species.max() > MAX_ATOMIC_NUMBER:
        raise DataError(f"{path}: frame {index}: contains an atomic number outside 1 to {MAX_ATOMIC_NUMBER}")
    largest = max(float(np.abs(frame.positions).max()), float(np.abs(frame.cell).max()))
    if not largest <= LARGEST_LENGTH:
        if not np.isfinite(largest):
            raise DataError(f"{path}: frame {index}: a position is not a finite number: remove the frame")
        raise DataError(
            f"{path}: frame {index}: a coordinate or lattice vector of {largest:.3g} angstrom is beyond "
            f"{LARGEST_LENGTH:.0e}: check the units or remove the frame"
        )
    if any(frame.pbc):
        check_cell(frame.cell, frame.pbc, frame.positions, f"{path}: frame {index}")
    for name, label in (("energy", frame.energy), ("forces", frame.forces), ("stress", frame.stress)):
        if name in given:
            check_label(path, index, name, label)


def _number(where: str, value: Any) -> float | None:
    energy = _array(where, "energy", value)
    if energy is None:
        return None
    if energy.size != 1:
        raise DataError(f"{where}: its energy has shape {energy.shape}; expected one number")
    return float(energy.item())


def _array(where: str, name: str, value: Any) -> FloatArray | None:
    try:
        array = None if value is None else np.asarray(value)
        if array is None or array.dtype.kind in "fiu":
            return None if array is None else array.astype(np.float64)
    except (TypeError, ValueError):
        pass  # rows have different lengths
    raise DataError(f"{where}: a value in its {name} is not a number")


def _stress(where: str, labels: RawLabels, cell: FloatArray, pbc: PBC, units: LabelUnits) -> FloatArray:
    """Return the stress (3, 3) in eV/angstrom^3; NaN without a label."""
    found = [] if labels.stress is None else [_tensor(where, "stress", labels.stress) * units.stress]
    if all(pbc) or not found:
        virials = [virial for virial in (labels.virial, labels.second_virial) if virial is not None]
        found += [_stress_of_virial(where, virial, cell, pbc, units) for virial in virials]
    if not found:
        return np.full((3, 3), np.nan)
    first, *others = found
    for other in others:
        if np.abs(other - first).max() > _ROUNDED + _DIFFERENT * np.abs(first).max():
            names = " and ".join(name for name in labels.names if name in (STRESS_KEY, *VIRIAL_KEYS))
            raise DataError(
                f"{where}: {names} contradict each other, because a stress is -virial / volume: keep one of them"
            )
    return first


def _stress_of_virial(where: str, virial: Any, cell: FloatArray, pbc: PBC, units: LabelUnits) -> FloatArray:
    volume = abs(float(np.linalg.det(cell))) * units.length**3
    if volume == 0.0 and not any(pbc):
        raise DataError(
            f"{where}: has a virial but no cell, so that its stress is undefined: add the cell or remove the virial"
        )
    if volume == 0.0:
        return np.full((3, 3), np.nan)
    return -_tensor(where, "virial", virial) * units.energy / volume


def _tensor(where: str, name: str, value: Any) -> FloatArray:
    components = _array(where, name, value)
    assert components is not None
    if components.size == 9:
        return components.reshape(3, 3)
    if components.shape == (6,):
        full: FloatArray = voigt_6_to_full_3x3_stress(components)
        return full
    raise DataError(f"{where}: its {name} has shape {components.shape}; expected (3, 3) or 6 components")


def results_of(frame: Frame) -> Atoms:
    """Return the structure with its labels as calculator results, the form in which ASE's databases store labels."""
    atoms = frame.atoms()
    results: dict[str, Any] = {}
    if frame.has_energy:
        results["energy"] = frame.energy
    if frame.has_forces:
        results["forces"] = frame.forces
    if frame.has_stress:
        results["stress"] = full_3x3_to_voigt_6_stress(frame.stress)
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms
