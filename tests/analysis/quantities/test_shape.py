import mdtraj
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from scipy.spatial.transform import Rotation

from piwsl.analysis.quantities.shape import (
    GYRATION,
    RMSD,
    ShapeCounter,
    compare_shapes,
    gyration_radius,
    ring_planarity,
    rmsd,
    rmsd_curve,
)
from piwsl.analysis.quantity import Frames

BENZENE = molecule("C6H6")
MASSES = BENZENE.get_masses()
RING = list(range(6))


def moving(frames, noise=0.05, seed=0, scale=1.0):
    """Benzene that shakes, turns and drifts."""
    rng = np.random.default_rng(seed)
    shaken = scale * BENZENE.positions + noise * rng.normal(size=(frames, 12, 3))
    turns = Rotation.random(frames, random_state=seed).as_matrix()
    return np.einsum("fab,fib->fia", turns, shaken) + rng.normal(size=(frames, 1, 3)) * 5


def statistics_of(positions, piece=1000):
    counter = ShapeCounter(BENZENE.positions, MASSES, [RING], len(positions))
    for first in range(0, len(positions), piece):
        counter.add(Frames(first, positions[first : first + piece]))
    return counter.statistics()


def test_the_same_numbers_as_mdtraj():
    positions = moving(100)
    topology = mdtraj.Topology()
    residue = topology.add_residue("B", topology.add_chain())
    for symbol in BENZENE.symbols:
        topology.add_atom(symbol, mdtraj.element.get_by_symbol(str(symbol)), residue)
    trajectory = mdtraj.Trajectory(positions / 10, topology)
    start = mdtraj.Trajectory(BENZENE.positions[None] / 10, topology)
    equal = np.ones(12)
    assert rmsd(positions, BENZENE.positions, equal) == pytest.approx(10 * mdtraj.rmsd(trajectory, start), abs=1e-3)
    expected = 10 * mdtraj.compute_rg(trajectory, masses=equal)
    assert gyration_radius(positions, equal) == pytest.approx(expected, abs=1e-4)
    # With masses from the moments of inertia: their sum is twice the mass times the square.
    moments = Atoms(BENZENE.symbols, positions[0]).get_moments_of_inertia()
    assert gyration_radius(positions, MASSES)[0] == pytest.approx(np.sqrt(moments.sum() / 2 / MASSES.sum()))


def test_a_mirror_image_is_another_structure():
    chiral = molecule("CH3CH2OH")
    chiral.positions[3] += [0.3, 0.2, 0.4]
    mirrored = (chiral.positions * [-1, 1, 1])[None]
    masses = chiral.get_masses()
    assert rmsd(chiral.positions[None], chiral.positions, masses)[0] < 1e-6
    assert rmsd(mirrored, chiral.positions, masses)[0] > 0.05


def test_a_ring_is_as_flat_as_it_is():
    flat = moving(20, noise=0.0)
    assert ring_planarity(flat, RING).max() < 1e-6
    chair = np.zeros((1, 6, 3))
    chair[0, :, :2] = np.stack([np.cos(np.arange(6) * np.pi / 3), np.sin(np.arange(6) * np.pi / 3)], 1)
    chair[0, :, 2] = 0.2 * (-1.0) ** np.arange(6)
    assert ring_planarity(chair, RING)[0] == pytest.approx(0.2)


def test_likes_agree_a_larger_one_does_not_and_pieces_make_no_difference():
    one, other = statistics_of(moving(3000, seed=6)), statistics_of(moving(3000, seed=7), piece=333)
    assert all(found.difference.agrees for found in compare_shapes(one, other))
    larger = {found.name: found for found in compare_shapes(statistics_of(moving(3000, seed=6, scale=1.02)), other)}
    assert not larger[GYRATION].difference.agrees
    assert larger["planarity of ring 1"].difference.agrees
    assert larger[GYRATION].mean.value == pytest.approx(1.02 * larger[GYRATION].reference_mean.value, rel=1e-3)
    whole = statistics_of(moving(3000, seed=7), piece=3000)
    assert np.allclose(whole.sums[RMSD].sums, other.sums[RMSD].sums)
    curve = rmsd_curve(other, 2.0 * np.arange(3000)).run
    assert curve.x == pytest.approx(np.arange(0, 3000, 2) * 2e-3)
    assert curve.y == pytest.approx(rmsd(moving(3000, seed=7)[::2], BENZENE.positions, MASSES))
