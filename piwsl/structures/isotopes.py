"""Isotopes of hydrogen that files name as elements: D is deuterium and T is tritium."""

import re
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers, chemical_symbols

Result = TypeVar("Result")
ISOTOPES = {"D": 2.014101778, "T": 3.016049281}  # amu
# Numbers that no element has, for the time of reading.
_PLACEHOLDERS = {name: len(atomic_masses) + place for place, name in enumerate(ISOTOPES)}
_lock = threading.Lock()  # the tables of ASE belong to the whole process


def with_isotopes(read: Callable[[], Result]) -> Result:
    """Call a function that reads structures with ASE; where it stops at the symbol D or T, let ASE take it.

    Args:
        read: Returns one structure or a list of them.

    Returns:
        What ``read`` returns; atoms D and T are hydrogen with the mass of the isotope, unless the file has masses.
    """
    try:
        return read()
    except Exception as error:  # a KeyError of ASE, or what its readers make of it
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
