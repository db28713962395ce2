"""Labels in files: their names, conversion to eV and angstrom, and validation."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress

from piwsl.data.frames import Frame, check_label
from piwsl.errors import DataError
from piwsl.typing import MAX_ATOMIC_NUMBER, FloatArray, IntArray
from piwsl.units import LabelUnits

ENERGY_KEY = "REF_energy"
FORCES_KEY = "REF_forces"
STRESS_KEY = "REF_stress"
VIRIAL_KEYS = ("REF_virial", "REF_virials")

EV_ANGSTROM = LabelUnits(1.0, 1.0)


@dataclass(frozen=True)
class RawLabels:
    """Labels of one structure in the units of its file; None for a missing label.

    Attributes:
        energy: total energy.
        forces: forces (n, 3).
        stress: 9 or 6 components (xx, yy, zz, yz, xz, xy), positive under tension.
        virial: 9 or 6 components; the stress is -virial / volume.
        from_results: whether the labels are results of a calculation as stored by ASE.
    """

    energy: Any = None
    forces: Any = None
    stress: Any = None
    virial: Any = None
    from_results: bool = False

    @property
    def exist(self) -> bool:
        """Whether the structure has any label."""
        return any(label is not None for label in (self.energy, self.forces, self.stress, self.virial))


def find_labels(named: Mapping[str, Any], results: Mapping[str, Any]) -> RawLabels:
    """Return the labels under the keys ``REF_...`` or, without any of them, the results of a calculation.

    Args:
        named: all named values of the structure in the file.
        results: energy, forces and stress of a calculation, as stored by ASE.
    """
    virial = next((named[key] for key in VIRIAL_KEYS if key in named), None)
    labels = RawLabels(named.get(ENERGY_KEY), named.get(FORCES_KEY), named.get(STRESS_KEY), virial)
    if labels.exist:
        return labels
    labels = RawLabels(results.get("energy"), results.get("forces"), results.get("stress"))
    return replace(labels, from_results=True) if labels.exist else labels


def labeled_frame(
    path: Path,
    index: int,
    species: IntArray,
    positions: FloatArray,
    cell: FloatArray,
    pbc: tuple[bool, bool, bool],
    labels: RawLabels,
    units: LabelUnits,
) -> Frame:
    """Make a frame in eV and angstrom from the contents of a file, and validate it.

    Args:
        path: file, for messages.
        index: index of the frame in the file, for messages.
        species: atomic numbers (n,).
        positions: positions (n, 3), in the units of the file.
        cell: lattice vectors in rows (3, 3), in the units of the file.
        pbc: whether the structure is periodic along each lattice vector.
        labels: labels in the units of the file.
        units: units of the file.

    Raises:
        DataError: a label or a position has the wrong shape, is not finite, or is unreasonably large.
    """
    where = f"{path}: frame {index}"
    energy, forces = _number(where, labels.energy), _array(where, "forces", labels.forces)
    if forces is not None and forces.shape != (len(species), 3):
        raise DataError(f"{where}: forces have shape {forces.shape}, atoms {len(species)}")
    frame = Frame(
        species=np.asarray(species, dtype=np.int64),
        positions=np.asarray(positions, dtype=np.float64) * units.length,
        energy=np.nan if energy is None else energy * units.energy,
        forces=np.full((len(species), 3), np.nan) if forces is None else forces * units.force,
        cell=np.asarray(cell, dtype=np.float64) * units.length,
        pbc=pbc,
        stress=_stress(where, labels, np.asarray(cell), units),
    )
    stress = labels.stress if labels.stress is not None else labels.virial
    given = {"energy": energy, "forces": forces, "stress": stress}
    check_frame(path, index, frame, {name for name, label in given.items() if label is not None})
    return frame


def check_frame(path: Path, index: int, frame: Frame, given: Collection[str]) -> None:
    """Refuse a frame without atoms, with positions that are not finite, or with unreasonable labels.

    Args:
        path: file, for messages.
        index: index of the frame in the file, for messages.
        frame: frame in eV and angstrom.
        given: names of the labels that the file contains (energy, forces, stress).

    Raises:
        DataError: the message names the file and the frame.
    """
    if not len(frame.species):
        raise DataError(f"{path}: frame {index}: contains no atom")
    if frame.species.min() < 1 or frame.species.max() > MAX_ATOMIC_NUMBER:
        raise DataError(f"{path}: frame {index}: contains an atomic number outside 1 to {MAX_ATOMIC_NUMBER}")
    if not np.isfinite(frame.positions).all() or not np.isfinite(frame.cell).all():
        raise DataError(f"{path}: frame {index}: a position is not a finite number")
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
        pass  # rows of different length
    raise DataError(f"{where}: no number in its {name}")


def _stress(where: str, labels: RawLabels, cell: FloatArray, units: LabelUnits) -> FloatArray:
    """Return the stress (3, 3) in eV/angstrom^3; NaN without a label."""
    if labels.stress is not None:
        return _tensor(where, "stress", labels.stress) * units.stress
    if labels.virial is None:
        return np.full((3, 3), np.nan)
    volume = abs(float(np.linalg.det(cell))) * units.length**3
    if volume == 0.0:
        raise DataError(f"{where}: has a virial but no cell: a stress needs a volume")
    return -_tensor(where, "virial", labels.virial) * units.energy / volume


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
    """Return the structure with its labels as results of a calculation, as ASE's databases store them."""
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
