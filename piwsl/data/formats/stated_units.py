"""Compare the units that a file states beside its numbers with the units in use."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from piwsl.errors import ConfigError, DataError, quoted
from piwsl.units import BAR, LabelUnits, energy_unit, length_unit, parse_units

_UNIT_NAME = re.compile(r"(?:(?:ref|dft|total|potential)_)?(?P<what>.*?)_?units?", re.IGNORECASE)
_SAME = 1e-4  # relative tolerance for equal units, because programs use different values of constants
_QUANTITIES = {
    "energy": ("energy", "energies", "e"),
    "length": ("length", "r", "distance", "position", "positions", "pos", "coordinates", "coords", "cell", "lattice"),
    "force": ("force", "forces", "f"),
    "stress": ("stress", "stresses"),
    "virial": ("virial", "virials"),
}
_KINDS = {word: quantity for quantity, words in _QUANTITIES.items() for word in words}
_PRESSURES = {"pa": 1e-5 * BAR, "bar": BAR, "mpa": 10.0 * BAR, "kbar": 1e3 * BAR, "gpa": 1e4 * BAR}
_POWER = re.compile(r"(?:\^|\*\*)?3")  # of the length in a unit of stress


def check_stated_units(path: Path, index: int | None, named: Mapping[str, Any], units: LabelUnits) -> list[str]:
    """Compare the units stated in a file, under names such as ``units`` or ``energy_unit``, with the units in use.

    Args:
        path: Name of the file, used in messages.
        index: Index of the frame in the file, used in messages; None for values that describe the whole file.
        named: All named values of the structure in the file.
        units: Units with which the file is read.

    Returns:
        Names that state the units in use.

    Raises:
        DataError: The file states other units, or a unit of energy, length, forces or stress that is not known.
    """
    where = f"{path}: " if index is None else f"{path}: frame {index}: "
    agreeing = []
    for name, stored in named.items():
        match = _UNIT_NAME.fullmatch(str(name))
        value = None if match is None else text_of(stored)
        if match is None or value is None:
            continue
        what = (match["what"] or "").lower().strip("_")
        stated = stated_factors(what, value)
        if not stated and what in _KINDS:
            raise DataError(
                f"{where}{name} is {quoted(value)}, which is not a known unit: convert the file to eV and angstrom, or "
                f"remove {quoted(name)} if its values have the units in use"
            )
        if any(differs(quantity, factor, units) for quantity, factor in stated.items()):
            raise DataError(
                f"{where}{name} is {quoted(value)}, but the file is read with other units: give the units of the file, "
                f"such as units='kcal/mol, angstrom', or remove {quoted(name)}"
            )
        if stated:
            agreeing.append(str(name))
    return agreeing


def text_of(value: Any) -> str | None:
    """Return a text that a file stores as Unicode, as bytes, or as an array of equal texts; None for other values."""
    array = np.asarray(value)
    if array.dtype.kind == "O" and array.size and all(isinstance(text, str | bytes) for text in array.flat):
        array = np.array([text_of(text) for text in array.flat])
    if array.dtype.kind not in "US" or not array.size or (array != array.flat[0]).any():
        return None
    text = array.flat[0]
    return (text.decode(errors="replace") if isinstance(text, bytes) else str(text)).strip()


def differs(quantity: str, factor: float, units: LabelUnits) -> bool:
    """Return whether the factor of a stated unit differs from that of the units in use."""
    used = units.energy if quantity == "virial" else float(getattr(units, quantity))
    return abs(factor - used) > _SAME * abs(used)


def stated_factors(what: str, value: str) -> dict[str, float]:
    """Return the factors of a stated unit by quantity, to eV and angstrom; empty if the unit is not known.

    Args:
        what: Name of the quantity that the unit belongs to; empty for the units of all quantities.
        value: Unit as text.
    """
    quantity = _KINDS.get(what, "")
    try:
        if quantity in ("energy", "virial"):
            return {quantity: energy_unit(value)}
        if quantity == "length":
            return {"length": length_unit(value)}
        if quantity == "stress" and value.lower() in _PRESSURES:
            return {"stress": _PRESSURES[value.lower()]}
        if quantity:
            energy, _, length = value.rpartition("/")
            if quantity == "stress":
                length, found = _POWER.subn("", length)
                if not found:
                    return {}
            of_length = length_unit(length) ** (3 if quantity == "stress" else 1)
            return {quantity: energy_unit(energy) / of_length}
        if not what:
            both = parse_units(value)
            return {"energy": both.energy, **({"length": both.length} if "," in value else {})}
    except ConfigError:
        pass
    return {}
