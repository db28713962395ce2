"""Unit conversions. All conversion factors of the package are defined here.

The package works in eV, angstrom, fs, K and amu. Constants are CODATA 2022 (e, N_A and k_B are exact).
"""

from dataclasses import dataclass
from math import sqrt

from piwsl.errors import ConfigError, quoted

ELEMENTARY_CHARGE = 1.602176634e-19  # C
AVOGADRO = 6.02214076e23  # 1/mol
BOLTZMANN_SI = 1.380649e-23  # J/K
ATOMIC_MASS = 1.66053906892e-27  # kg

BOLTZMANN = BOLTZMANN_SI / ELEMENTARY_CHARGE  # eV/K
KJ_PER_MOL = 1000.0 / (ELEMENTARY_CHARGE * AVOGADRO)  # eV
KCAL_PER_MOL = 4.184 * KJ_PER_MOL  # eV
HARTREE = 27.211386245981  # eV
BOHR = 0.529177210544  # angstrom
NANOMETER = 10.0  # angstrom
PICOSECOND = 1000.0  # fs
SPEED_OF_LIGHT = 2.99792458e-5  # cm/fs; frequency (1/fs) divided by it gives the wavenumber (1/cm)
GRAMS_PER_ML = 1e-24 / (ATOMIC_MASS * 1e3)  # amu/angstrom^3
BAR = 1e5 * 1e-30 / ELEMENTARY_CHARGE  # eV/angstrom^3
MILLIPASCAL_SECOND = 1e-3 * 1e15 * 1e-30 / ELEMENTARY_CHARGE  # eV fs/angstrom^3

# Acceleration of one amu by one eV/angstrom, in angstrom/fs^2.
ACCELERATION = ELEMENTARY_CHARGE / ATOMIC_MASS * 1e-10
# ASE's unit of time, angstrom * sqrt(amu / eV), in fs.
ASE_TIME = 1.0 / sqrt(ACCELERATION)

# Constants of ASE (CODATA 2014), which differ from those above by 1e-8. The weights of SO3LR were fitted with them.
ASE_BOHR = 0.5291772105638411  # angstrom
ASE_HARTREE = 27.211386024367243  # eV
ASE_COULOMB = ASE_HARTREE * ASE_BOHR  # eV angstrom


@dataclass(frozen=True)
class LabelUnits:
    """Units of a data file, as factors that convert its numbers to eV and angstrom."""

    energy: float
    length: float

    @property
    def force(self) -> float:
        """Conversion factor for forces, to eV/angstrom."""
        return self.energy / self.length

    @property
    def stress(self) -> float:
        """Conversion factor for stress, to eV/angstrom^3."""
        return self.energy / self.length**3


ENERGY_UNITS = {
    "eV": 1.0,
    "meV": 1e-3,
    "kcal/mol": KCAL_PER_MOL,
    "kJ/mol": KJ_PER_MOL,
    "hartree": HARTREE,
}
LENGTH_UNITS = {"angstrom": 1.0, "bohr": BOHR, "nm": NANOMETER}
_LENGTH_ALIASES = {"a": "angstrom", "ang": "angstrom", "angstroms": "angstrom"}
_ENERGY_ALIASES = {"ev": "eV", "kj/mol": "kJ/mol", "ha": "hartree", "eh": "hartree"}
# An energy per particle and per mole differ by a factor of 6e23: piwsl does not guess.
_INCOMPLETE = {"kcal": "kcal/mol", "kj": "kJ/mol"}


def parse_units(text: str) -> LabelUnits:
    """Parse units such as ``"kcal/mol, angstrom"``; the length unit is angstrom by default.

    Raises:
        ConfigError: A unit is unknown.
    """
    energy, _, length = (part.strip() for part in text.partition(","))
    return LabelUnits(energy_unit(energy), length_unit(length or "angstrom"))


def energy_unit(name: str) -> float:
    """Return the value of an energy unit in eV.

    Raises:
        ConfigError: The unit is unknown.
    """
    if name.lower() in _INCOMPLETE:
        raise ConfigError(f"energy unit {name!r} is incomplete: write {_INCOMPLETE[name.lower()]}")
    known = name if name in ENERGY_UNITS else _ENERGY_ALIASES.get(name.lower(), name.lower())
    if known not in ENERGY_UNITS:
        raise ConfigError(f"unknown energy unit {quoted(name)}: use one of {', '.join(ENERGY_UNITS)}")
    return ENERGY_UNITS[known]


def length_unit(name: str) -> float:
    """Return the value of a length unit in angstrom.

    Raises:
        ConfigError: The unit is unknown.
    """
    known = _LENGTH_ALIASES.get(name.lower(), name.lower())
    if known not in LENGTH_UNITS:
        raise ConfigError(f"unknown length unit {quoted(name)}: use one of {', '.join(LENGTH_UNITS)}")
    return LENGTH_UNITS[known]
