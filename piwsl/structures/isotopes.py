"""Support for files that use D (deuterium) and T (tritium) as element symbols."""

import re
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers, chemical_symbols

Result = TypeVar("Result")
ISOTOPES = {"D": 2.014101778, "T": 3.016049281}  # amu
# Placeholder atomic numbers, used only while a file is read.
_PLACEHOLDERS = {name: len(atomic_masses) + place for place, name in enumerate(ISOTOPES)}
_lock = threading.Lock()  # ASE's tables are shared by all threads


def with_isotopes(read: Callable[[], Result]) -> Result:
    """Call a function that reads structures with ASE, and repeat the call with D and T as elements if it fails.

    Args:
        read: Function that returns one structure or a list of structures.

    Returns:
        Result of ``read``. Atoms D and T become hydrogen with the mass of the isotope, unless the file has masses.
    """
    try:
        return read()
    except Exception as error:  # a KeyError of ASE, or an exception that a reader derives from it
        if re.search(rf"\b({'|'.join(ISOTOPES)})\b", str(error)) is None:
            raise
    with _lock:
        atomic_numbers.update(_PLACEHOLDERS)
        chemical_symbols.extend(_PLACEHOLDERS)
        try:
            result = read()
        finally:
            for name in _PLACEHOLDERS:
                del atomic_numbers[name]
                chemical_symbols.remove(name)
    structures: Iterable[Atoms] = [result] if isinstance(result, Atoms) else result  # type: ignore[assignment]
    for atoms in structures:
        _replace_placeholders(atoms)
    return result


def _replace_placeholders(atoms: Atoms) -> None:
    numbers = atoms.numbers.copy()
    chosen = {name: numbers == number for name, number in _PLACEHOLDERS.items()}
    for mask in chosen.values():
        numbers[mask] = 1
    atoms.numbers[:] = numbers
    if atoms.has("masses"):
        return
    masses = np.array(atoms.get_masses())
    for name, mask in chosen.items():
        masses[mask] = ISOTOPES[name]
    atoms.set_masses(masses)
