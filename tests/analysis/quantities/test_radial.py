"""g(r) of an ideal gas, of crystals whose shells are known, and beside mdtraj."""

import mdtraj
import numpy as np
import pytest
from ase.build import bulk
from ase.spacegroup import crystal

from piwsl.analysis.quantities.radial import RadialCounter, compare_coordination, compare_radial, first_shell
from piwsl.analysis.quantity import Frames
from piwsl.units import NANOMETER
from tests.support.run_directories import topology_of

SALT = bulk("NaCl", "rocksalt", a=5.64, cubic=True) * (2, 2, 2)


def radial_of(species, positions, cells, piece=100):
    counter = RadialCounter(species, len(positions), cells[0])
    for first in range(0, len(positions), piece):
        counter.add(Frames(first, positions[first : first + piece], cells[first : first + piece]))
    return counter.statistics()


def shaking(atoms, frames, amplitude, seed=0):
    rng = np.random.default_rng(seed)
    positions = atoms.positions + rng.normal(scale=amplitude, size=(frames, len(atoms), 3))
    return positions, np.repeat(atoms.cell.array[None], frames, axis=0)


def test_an_ideal_gas_has_no_structure():
    """Also in a skewed cell smaller than twice the range, where most neighbors are images."""
    rng = np.random.default_rng(1)
    cells = np.repeat(np.array([[9.0, 0, 0], [3.0, 8.5, 0], [1.0, -2.0, 8.0]])[None], 400, axis=0)
    positions = rng.random((400, 40, 3)) @ cells
    found = radial_of(np.array([18] * 25 + [2] * 15), positions, cells)
    assert sorted(found) == ["Ar-Ar", "Ar-He", "He-He"]
    for one in found.values():
        distribution = one.distribution()
        far = distribution.centers > 2
        assert distribution.density[far].mean() == pytest.approx(1, abs=0.01)
        pulls = (distribution.density[far] - 1) / distribution.error[far]
        assert 0.7 < pulls.std() < 1.4


def test_mdtraj_finds_the_same_where_it_can():
    positions, cells = shaking(SALT, 30, 0.15)
    sodium, chlorine = SALT.numbers == 11, SALT.numbers == 17
    trajectory = mdtraj.Trajectory(positions / NANOMETER, topology_of(SALT.numbers))
    trajectory.unitcell_vectors = cells / NANOMETER
    found = radial_of(SALT.numbers, positions, cells)
    reach, bins = 5.6, 280  # within half the cell
    for kind, one, other in (("Cl-Na", sodium, chlorine), ("Na-Na", sodium, sodium)):
        pairs = trajectory.topology.select_pairs(np.flatnonzero(one), np.flatnonzero(other))
        radii, theirs = mdtraj.compute_rdf(trajectory, pairs, (0.0, reach / NANOMETER), n_bins=bins)
        distribution = found[kind].distribution()
        ours = distribution.density[: len(theirs)]
        assert np.allclose(distribution.centers[: len(theirs)], radii * NANOMETER, atol=1e-6)
        assert np.abs(ours - theirs).sum() < 0.02 * theirs.sum()  # distances are in single precision there


@pytest.mark.parametrize("cubic", [True, False])
def test_coordination_numbers_of_crystals(cubic):
    """Six unlike neighbors and twelve like ones in rock salt, whatever the cell."""
    atoms = SALT if cubic else bulk("NaCl", "rocksalt", a=5.64)
    histograms = radial_of(atoms.numbers, *shaking(atoms, 200, 0.08))
    numbers = {one.name: one for kind, found in histograms.items() for one in compare_coordination(kind, found, found)}
    assert set(numbers) == {"Na around Cl", "Cl around Na", "Na around Na", "Cl around Cl"}
    for name, expected in (("Na around Cl", 6), ("Cl around Na", 6), ("Na around Na", 12), ("Cl around Cl", 12)):
        assert numbers[name].run.value == pytest.approx(expected, abs=0.05)
        assert numbers[name].difference.measured.value == 0
    assert 2.82 < numbers["Na around Cl"].shell < 4.88


def test_numbers_of_neighbors_differ_both_ways():
    titania = bulk("TiO2", "rutile", a=4.59, c=2.96, u=0.305) if False else None
    assert titania is None

    rutile = crystal(
        ["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.59, 4.59, 2.96, 90, 90, 90]
    )
    found = radial_of(rutile.numbers, *shaking(rutile, 200, 0.04))["O-Ti"]
    numbers = {one.name: one.run.value for one in compare_coordination("O-Ti", found, found)}
    assert numbers == pytest.approx({"Ti around O": 3, "O around Ti": 6}, abs=0.05)


@pytest.mark.slow
def test_like_crystals_agree_and_unlike_do_not():
    first, second = (radial_of(SALT.numbers, *shaking(SALT, 300, 0.1, seed))["Cl-Na"] for seed in (1, 2))
    assert compare_radial("Cl-Na", first, second).difference.agrees
    softer = radial_of(SALT.numbers, *shaking(SALT, 300, 0.12, 3))["Cl-Na"]
    assert not compare_radial("Cl-Na", softer, second).difference.agrees
    assert compare_radial("Cl-Na", softer, second).difference.measured.unit == "angstrom"


def test_a_gas_has_no_shell():
    rng = np.random.default_rng(5)
    cells = np.repeat(12 * np.eye(3)[None], 300, axis=0)
    gas = radial_of(np.array([18] * 30), rng.random((300, 30, 3)) * 12, cells)["Ar-Ar"]
    assert first_shell(gas.distribution()) is None
    assert compare_coordination("Ar-Ar", gas, gas) == ()


def test_own_images_count_in_small_cells_only():
    """Beyond the first shells their distances are lattice vectors, and no structure."""
    large = radial_of(SALT.numbers, *shaking(SALT, 20, 0.1))["Na-Na"].distribution()
    assert large.density.max() < 20
    cubes = {edge: np.repeat(edge * np.eye(3)[None], 3, axis=0) for edge in (5.0, 7.0)}
    two = np.repeat(np.array([[0.0, 0.0, 0.0], [2.5, 2.5, 2.5]])[None], 3, axis=0)
    assert sorted(radial_of(np.array([18, 2]), two, cubes[5.0])) == ["Ar-Ar", "Ar-He", "He-He"]
    assert sorted(radial_of(np.array([18, 2]), two, cubes[7.0])) == ["Ar-He"]


def test_pieces_make_no_difference():
    positions, cells = shaking(SALT, 50, 0.1)
    one, other = (radial_of(SALT.numbers, positions, cells, piece)["Cl-Na"] for piece in (50, 7))
    assert np.array_equal(one.blocks.sums, other.blocks.sums)
