from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write

from piwsl.errors import DataError
from piwsl.md.engines.base import kinetic_energy
from piwsl.md.structure import (
    check_structure,
    degrees_of_freedom,
    load_structure,
    thermal_velocities,
)
from piwsl.units import BOLTZMANN


def test_two_atoms_on_top_of_each_other_are_named(ethanol, tmp_path: Path):
    ethanol.positions[4] = ethanol.positions[1] + [0.2, 0, 0]
    write(tmp_path / "bad.xyz", ethanol)
    with pytest.raises(DataError, match=r"bad\.xyz: atoms C1 and H4 are 0\.20 angstrom apart"):
        load_structure(tmp_path / "bad.xyz")


def test_an_overlap_through_the_cell_is_found():
    crystal = Atoms("NaCl", [[0.1, 0, 0], [4.9, 0, 0]], cell=[5, 5, 5], pbc=True)
    with pytest.raises(DataError, match=r"Na0 and Cl1 are 0\.20"):
        check_structure(crystal)
    crystal.pbc = False
    check_structure(crystal)


def test_a_position_that_is_no_number_is_named(ethanol):
    ethanol.positions[3, 1] = np.nan
    with pytest.raises(DataError, match="atom H3 is not a finite number"):
        check_structure(ethanol)


@pytest.mark.parametrize("content", ["", "nonsense\nmore\n", "3\n\nC 0 0 0\n"])
def test_a_file_that_is_no_structure(content, tmp_path: Path):
    path = tmp_path / "structure.xyz"
    path.write_text(content)
    with pytest.raises(DataError, match="not a structure file that ASE reads"):
        load_structure(path)
    with pytest.raises(DataError, match="no such file"):
        load_structure(tmp_path / "missing.xyz")


@pytest.mark.parametrize(("name", "freedom"), [("CH3CH2OH", 21), ("CO2", 4), ("N2", 1), ("H2O", 3)])
def test_initial_velocities_are_thermal_and_at_rest(name, freedom):
    atoms = molecule(name)
    assert degrees_of_freedom(atoms, conserves_momentum=True) == freedom
    assert degrees_of_freedom(atoms, conserves_momentum=False) == 3 * len(atoms)
    masses = atoms.get_masses()
    rng = np.random.default_rng(5)
    draws = [thermal_velocities(atoms, 300, rng) for _ in range(4000)]
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
