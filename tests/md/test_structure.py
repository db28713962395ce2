import numpy as np
import pytest
from ase.build import molecule

from piwsl.md.engines.base import kinetic_energy
from piwsl.md.structure import (
    degrees_of_freedom,
    thermal_velocities,
)
from piwsl.units import BOLTZMANN


@pytest.mark.parametrize(("name", "freedom"), [("CH3CH2OH", 21), ("CO2", 4), ("N2", 1), ("H2O", 3)])
def test_initial_velocities_are_thermal_and_at_rest(name, freedom):
    atoms = molecule(name)
    assert degrees_of_freedom(atoms, conserves_momentum=True) == freedom
    assert degrees_of_freedom(atoms, conserves_momentum=False) == 3 * len(atoms)
    masses = atoms.get_masses()
    rng = np.random.default_rng(5)
    draws = [thermal_velocities(atoms, 300, rng) for _ in range(500)]
    kinetic = np.array([kinetic_energy(masses, velocities) for velocities in draws])
    expected = 0.5 * freedom * BOLTZMANN * 300
    assert kinetic.mean() == pytest.approx(expected, rel=5 * np.sqrt(2 / freedom / len(draws)))
    velocities = draws[0]
    arms = atoms.positions - atoms.get_center_of_mass()
    assert np.abs((masses[:, None] * velocities).sum(0)).max() < 1e-12
    assert np.abs((masses[:, None] * np.cross(arms, velocities)).sum(0)).max() < 1e-12


def test_the_same_seed_gives_the_same_velocities(ethanol):
    first, second = (thermal_velocities(ethanol, 300, np.random.default_rng(1)) for _ in range(2))
    assert np.array_equal(first, second)
