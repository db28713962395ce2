"""Quantities measured on trajectories, one per module, and lists of all quantities.

To add a quantity, derive a class from `piwsl.analysis.quantity.Quantity` in a module of this package and add it to one
of the lists below. The order of the lists is the order of the table.
"""

from typing import Any

from piwsl.analysis.quantities.angles import Angles
from piwsl.analysis.quantities.bond_lengths import BondLengthsByType
from piwsl.analysis.quantities.diffusion import DiffusionByElement
from piwsl.analysis.quantities.dihedrals import Dihedrals
from piwsl.analysis.quantities.distances import Distances
from piwsl.analysis.quantities.energy_drift import EnergyConservation
from piwsl.analysis.quantities.radial import RadialDistributions
from piwsl.analysis.quantities.shape import Shape
from piwsl.analysis.quantities.spectrum import VibrationalSpectrum
from piwsl.analysis.quantities.temperature import Temperature
from piwsl.analysis.quantities.torsions import TorsionProfiles
from piwsl.analysis.quantities.volume import VolumePerAtom
from piwsl.analysis.quantity import Quantity

MOLECULE: tuple[Quantity[Any], ...] = (
    Distances(),
    BondLengthsByType(),
    Angles(),
    Dihedrals(),
    TorsionProfiles(),
    VibrationalSpectrum(),
    Shape(),
)
CELL: tuple[Quantity[Any], ...] = (
    RadialDistributions(),
    BondLengthsByType(),
    Angles(),
    VolumePerAtom(),
    DiffusionByElement(),
    VibrationalSpectrum(),
)
# Quantities from the energies of a run, for molecules and cells.
ENERGIES: tuple[Quantity[Any], ...] = (Temperature(), EnergyConservation())


def standard_quantities(is_periodic: bool) -> tuple[Quantity[Any], ...]:
    """Return the standard quantities for a periodic cell or for a molecule."""
    return (*(CELL if is_periodic else MOLECULE), *ENERGIES)


def absent_values() -> dict[str, Any]:
    """Return all keys that quantities add to ``analysis.json``, with their values for quantities not compared."""
    return {key: value for quantity in (*MOLECULE, *CELL, *ENERGIES) for key, value in quantity.absent.items()}
