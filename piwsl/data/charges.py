"""Total charge and number of unpaired electrons of a structure, as stated in files, ASE structures and arguments.

A structure states its charge as ``charge`` or ``total_charge``, in units of e, and its spin in one of two conventions:
``unpaired_electrons`` (or ``num_unpaired_electrons``) is the number of unpaired electrons, and ``multiplicity`` (or
``spin_multiplicity``) is that number plus one. Programs disagree about the meaning of ``spin``. Since unpaired
electrons are even in number if and only if all electrons are, only one of the two conventions fits a structure, and
``spin`` is read in that convention.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms

from piwsl.data.names import INITIAL_CHARGES
from piwsl.errors import ConfigError, DataError, quoted
from piwsl.typing import IntArray

CHARGE, UNPAIRED = "charge", "unpaired_electrons"  # names that piwsl writes
CHARGE_NAMES = (CHARGE, "total_charge")
UNPAIRED_NAMES = (UNPAIRED, "num_unpaired_electrons")
MULTIPLICITY_NAMES = ("multiplicity", "spin_multiplicity")
SPIN = "spin"
NAMES = (*CHARGE_NAMES, *UNPAIRED_NAMES, *MULTIPLICITY_NAMES, SPIN)
_NEUTRAL = 0.5  # e; sums of partial charges are rounded
LARGEST = 100  # largest absolute charge (e), and largest number of unpaired electrons

NOT_STATED = math.nan


@dataclass(frozen=True)
class ChargeSpin:
    """Total charge and spin of a structure. A value that is not stated is NaN.

    Attributes:
        charge: Total charge, e.
        unpaired_electrons: Number of unpaired electrons.
        readings: Names under which the values were stated, with their convention if the name leaves it open.
    """

    charge: float = NOT_STATED
    unpaired_electrons: float = NOT_STATED
    readings: tuple[tuple[str, str], ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        for name in ("charge", "unpaired_electrons"):
            if math.isnan(getattr(self, name)):
                object.__setattr__(self, name, NOT_STATED)  # one NaN equals itself in a comparison of tuples

    @property
    def is_stated(self) -> bool:
        """Whether the structure states a charge or a spin."""
        return not (math.isnan(self.charge) and math.isnan(self.unpaired_electrons))

    def over(self, other: "ChargeSpin") -> "ChargeSpin":
        """Return these values, with values that are not stated from ``other``."""
        charge = other.charge if math.isnan(self.charge) else self.charge
        unpaired = other.unpaired_electrons if math.isnan(self.unpaired_electrons) else self.unpaired_electrons
        return ChargeSpin(charge, unpaired)

    def info(self) -> dict[str, int]:
        """Return the stated values under the names that piwsl writes."""
        values = {CHARGE: self.charge, UNPAIRED: self.unpaired_electrons}
        return {name: round(value) for name, value in values.items() if not math.isnan(value)}

    def __str__(self) -> str:
        parts = [] if math.isnan(self.charge) else [f"charge {self.charge:+g}" if self.charge else "charge 0"]
        if not math.isnan(self.unpaired_electrons):
            parts.append(electrons(self.unpaired_electrons))
        return ", ".join(parts) or "no charge"


NO_CHARGE = ChargeSpin()


def electrons(unpaired: float) -> str:
    """Return a number of unpaired electrons in words."""
    return f"{unpaired:g} unpaired electron{'' if unpaired == 1 else 's'}"


def given_charge(charge: int | None = None, unpaired_electrons: int | None = None) -> ChargeSpin:
    """Return the charge and spin that a caller passed as arguments.

    Raises:
        ConfigError: A value is not an integer within `LARGEST`, or a number of electrons is negative.
    """
    for name, value, lowest in ((CHARGE, charge, -LARGEST), (UNPAIRED, unpaired_electrons, 0)):
        if value is not None and not (isinstance(value, int | np.integer) and lowest <= value <= LARGEST):
            raise ConfigError(f"{name}={value!r}: give an integer from {lowest} to {LARGEST}")
    return ChargeSpin(
        NOT_STATED if charge is None else float(charge),
        NOT_STATED if unpaired_electrons is None else float(unpaired_electrons),
    )


def stated_charge(named: Mapping[str, Any], species: IntArray | Iterable[int], where: str) -> ChargeSpin:
    """Return the charge and spin among the named values of a structure.

    Arrays of several values, such as partial charges, and a ``spin`` in words are not read.

    Args:
        named: Named values of the structure, such as ``Atoms.info``.
        species: Atomic numbers (n,), which determine the convention of ``spin``.
        where: Name of the structure, used in messages.

    Raises:
        DataError: A value is not an integer within `LARGEST`, or two names contradict each other.
    """
    found = {name: value for name in NAMES if (value := _number(where, name, named.get(name))) is not None}
    if not found:
        return NO_CHARGE
    charges = {name: found[name] for name in CHARGE_NAMES if name in found}
    charge = _same(where, charges, charges)
    unpaired = {name: found[name] for name in UNPAIRED_NAMES if name in found}
    unpaired |= {name: found[name] - 1 for name in MULTIPLICITY_NAMES if name in found}
    readings = dict.fromkeys((*charges, *unpaired), "")
    if SPIN in found:
        spin = found[SPIN]
        total = int(np.sum(np.asarray(species, dtype=np.int64))) - (0 if math.isnan(charge) else round(charge))
        is_multiplicity = spin > 0 and (total - round(spin)) % 2 == 1
        readings[SPIN] = "multiplicity" if is_multiplicity else "unpaired electrons"
        unpaired[SPIN] = spin - 1 if is_multiplicity else spin
    stated = {name: found[name] for name in unpaired}
    return ChargeSpin(charge, _same(where, unpaired, stated), tuple(readings.items()))


def charge_of(atoms: Atoms, where: str = "structure") -> ChargeSpin:
    """Return the charge and spin stated in the ``info`` of an ASE structure.

    Raises:
        DataError: See `stated_charge`.
    """
    return stated_charge(atoms.info, atoms.numbers, where) if atoms.info else NO_CHARGE


def lacks_charge(named: Mapping[str, Any], stated: ChargeSpin) -> bool:
    """Return whether the initial charges of the atoms have a sum, and the structure states no charge."""
    charges = named.get(INITIAL_CHARGES)
    if not math.isnan(stated.charge) or not isinstance(charges, np.ndarray) or charges.dtype.kind not in "fiu":
        return False
    return bool(abs(charges.sum()) > _NEUTRAL)


def with_charge(atoms: Atoms, stated: ChargeSpin) -> Atoms:
    """Return a copy of a structure that states a charge and spin under the names that piwsl writes."""
    copied: Atoms = atoms.copy()
    for name in NAMES:
        copied.info.pop(name, None)
    copied.info.update(stated.info())
    return copied


def fits_electrons(species: IntArray, charge: float, unpaired: float) -> bool:
    """Return whether a number of unpaired electrons has the parity of the number of electrons."""
    return (int(species.sum()) - round(charge) - round(unpaired)) % 2 == 0


def _number(where: str, name: str, value: Any) -> float | None:
    """Return a value from a file; None if it is missing, an array of several values, or a spin in words.

    Raises:
        DataError: The value cannot be a charge or a number of electrons.
    """
    if isinstance(value, np.ndarray):
        value = value.item() if value.ndim == 0 else None
    if isinstance(value, str | bool | np.bool_) and name != SPIN:  # spin=polarized describes the calculation
        raise DataError(f"{where}: {name} is {quoted(value)}; expected an integer: correct or rename it")
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        return None
    number = float(value)
    if math.isnan(number):
        return None
    lowest = -LARGEST if name in CHARGE_NAMES else 1 if name in MULTIPLICITY_NAMES else 0
    if not (number.is_integer() and lowest <= number <= LARGEST):
        hint = "state unpaired_electrons or multiplicity" if name == SPIN else "correct or rename it"
        raise DataError(f"{where}: {name} is {number:g}; expected an integer from {lowest} to {LARGEST}: {hint}")
    return number


def _same(where: str, values: Mapping[str, float], stated: Mapping[str, float]) -> float:
    """Return the value that several names agree on; NaN if there is none.

    Raises:
        DataError: The names contradict each other.
    """
    if len(set(values.values())) > 1:
        text = " and ".join(f"{name}={value:g}" for name, value in stated.items())
        raise DataError(f"{where}: {text} contradict each other: keep one of them")
    return next(iter(values.values()), NOT_STATED)
