import mdtraj
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from piwsl.analysis.quantities.angles import Angles, angle_values, compare_angles
from piwsl.analysis.quantities.dihedrals import Dihedrals, dihedral_values
from piwsl.analysis.quantities.torsions import TorsionProfiles, torsion_profiles
from piwsl.analysis.quantity import Sample, measure
from piwsl.analysis.statistics.distributions import compare
from piwsl.structures.bonds import BondGraph, find_bonds
from piwsl.trajectories.frame_source import FrameSource
from piwsl.units import BOLTZMANN


def graph_of(atoms: Atoms) -> BondGraph:
    return BondGraph(atoms.numbers, find_bonds(atoms.numbers, atoms.positions[None]))


def statistics_of(positions, numbers, quantity, piece=1000):
    def read():
        for first in range(0, len(positions), piece):
            yield positions[first : first + piece], None

    bonds = find_bonds(numbers, positions[:1])
    sample = Sample(FrameSource(numbers, len(positions), None, read), len(positions), bonds, positions[0], None, "mine")
    return measure(sample, [quantity])[quantity.key]


def test_types_of_ethanol():
    graph = graph_of(molecule("CH3CH2OH"))
    assert {kind: len(atoms) for kind, atoms in graph.angles().items()} == {
        "C-C-H": 5, "C-C-O": 1, "C-O-H": 1, "H-C-H": 4, "H-C-O": 2,
    }  # fmt: skip
    assert {kind: len(atoms) for kind, atoms in graph.dihedrals().items()} == {
        "C-C-O-H": 1, "H-C-C-H": 6, "H-C-C-O": 3, "H-C-O-H": 2,
    }  # fmt: skip
    assert graph.rings() == []
    assert [name.split("-")[1][0] + name.split("-")[2][0] for name in graph.rotatable()] == ["CC", "CO"]


@pytest.mark.slow
def test_dihedrals_of_equivalent_atoms_are_one_torsion():
    """The three hydrogens of a methyl group, and not that of the hydroxyl group."""
    atoms = molecule("CH3CH2OH")
    graph = graph_of(atoms)
    methyl, hydroxyl = graph.rotatable().values()
    assert sorted(map(tuple, methyl.tolist())) == [(hydrogen, 0, 1, 2) for hydrogen in (6, 7, 8)]
    assert len(hydroxyl) == 1
    rng = np.random.default_rng(0)
    turned = []
    for _ in range(3000):  # only the first hydrogen is watched in one well: the others fill the other two
        copy = atoms.copy()
        copy.rotate_dihedral(2, 1, 0, 6, rng.normal(0, 12), indices=[6, 7, 8])
        turned.append(copy.positions)
    statistics = statistics_of(np.array(turned), atoms.numbers, TorsionProfiles())
    profile = torsion_profiles(statistics, statistics, 300.0)[0]
    wells = profile.run.x[1:-1][profile.run.y[1:-1] < 20]
    assert len({round((degrees % 360) / 120) % 3 for degrees in wells}) == 3


def test_a_profile_is_closed_around_the_circle():
    angles = np.random.default_rng(1).normal(180, 25, 5000)
    statistics = statistics_of(rotated(angles), H2O2, TorsionProfiles())
    curve = torsion_profiles(statistics, statistics, 300.0)[0].run
    assert (curve.x[0], curve.x[-1]) == (-180, 180)
    assert curve.y[0] == curve.y[-1]
    assert curve.y[0] < 5


def test_rings_do_not_rotate():
    graph = graph_of(molecule("C6H6"))
    assert graph.rotatable() == {}
    ring = graph.rings()[0]
    assert len(ring) == 6
    assert all(graph.graph.has_edge(ring[i], ring[i - 1]) for i in range(6))


def test_values_are_those_of_mdtraj():
    rng = np.random.default_rng(0)
    positions = rng.normal(size=(50, 6, 3)) * 2
    trajectory = mdtraj.Trajectory(positions / 10, None)
    triples, quadruples = np.array([[0, 1, 2], [3, 1, 5]]), np.array([[0, 1, 2, 3], [5, 4, 3, 0]])
    expected = np.degrees(mdtraj.compute_angles(trajectory, triples))
    assert angle_values(positions, triples) == pytest.approx(expected, abs=1e-2)
    expected = np.degrees(mdtraj.compute_dihedrals(trajectory, quadruples))
    assert np.abs((dihedral_values(positions, quadruples) - expected + 180) % 360 - 180).max() < 1e-2


def rotated(angles):
    """Hydrogen peroxide with dihedrals in degrees: (frames, 4, 3)."""
    phi = np.radians(angles)
    zero = np.zeros_like(phi)
    first = np.stack([zero + 0.9, zero, zero - 0.2], 1)
    last = np.stack([0.9 * np.cos(phi), 0.9 * np.sin(phi), zero + 1.65], 1)
    return np.stack([first, np.zeros_like(first), np.stack([zero, zero, zero + 1.45], 1), last], 1)


H2O2 = np.array([1, 8, 8, 1])


def test_the_sign_of_a_dihedral():
    assert dihedral_values(rotated([0.0, 60.0, -60.0]), np.array([[0, 1, 2, 3]]))[:, 0] == pytest.approx([0, 60, -60])


def test_a_free_energy_is_that_of_its_potential():
    """Independent draws from exp(-V/kT) with V = 40 meV (1 + cos 3 phi): the profile is V, within its errors."""
    rng = np.random.default_rng(2)
    heat, barrier = 1000 * BOLTZMANN * 500, 20.0

    def draw(count, barrier=barrier):
        angles = rng.uniform(-180, 180, 6 * count)
        weight = np.exp(-barrier * (1 + np.cos(np.radians(3 * angles))) / heat)
        return rotated(angles[rng.uniform(size=len(angles)) < weight][:count])

    draws = draw(20_000), draw(20_000)
    one, other = (
        statistics_of(frames, H2O2, TorsionProfiles(), piece) for frames, piece in zip(draws, (1000, 77), strict=True)
    )
    profile = torsion_profiles(one, other, 500.0)[0]
    assert profile.key == "torsion.H0-O1-O2-H3"
    assert profile.difference.agrees
    expected = barrier * (1 + np.cos(np.radians(3 * profile.run.x)))
    error = (profile.run.high - profile.run.low) / 2
    pulls = (profile.run.y - expected) / error
    assert np.median(error) < 4
    assert np.abs(pulls - np.median(pulls)).max() < 5
    assert pulls.std() < 1.6
    stiff = statistics_of(draw(20_000, 30.0), H2O2, TorsionProfiles())
    assert not torsion_profiles(stiff, other, 500.0)[0].difference.agrees
    assert set(statistics_of(draws[0], H2O2, Angles())) == {"H-O-O"}
    dihedrals = [statistics_of(frames, H2O2, Dihedrals())["H-O-O-H"] for frames in draws]
    assert compare(*dihedrals).difference.agrees


def test_what_was_never_seen_is_no_number():
    narrow = statistics_of(rotated(np.linspace(80, 100, 500)), H2O2, TorsionProfiles())
    profile = torsion_profiles(narrow, narrow, 300.0)[0]
    assert np.isnan(profile.run.y[(profile.run.x < 70) | (profile.run.x > 110)]).all()
    assert np.isfinite(profile.run.y[(profile.run.x > 82) & (profile.run.x < 98)]).all()


def test_mean_and_width_of_an_angle():
    rng = np.random.default_rng(5)

    def water(mean, width, count=4000):
        half = np.radians(rng.normal(mean, width, count)) / 2
        zero = np.zeros_like(half)
        ends = [np.stack([sign * np.sin(half), np.cos(half), zero], 1) * 0.96 for sign in (-1, 1)]
        return np.stack([np.zeros((count, 3)), *ends], 1)

    numbers = np.array([8, 1, 1])

    def compared(mean, width):
        return compare_angles(statistics_of(water(mean, width), numbers, Angles())["H-O-H"], reference)

    reference = statistics_of(water(104.5, 4.0), numbers, Angles())["H-O-H"]
    same = compared(104.5, 4.0)
    assert same.mean[0].value == pytest.approx(104.5, abs=0.3)
    assert same.width[0].value == pytest.approx(4.0, abs=0.2)
    assert same.mean[0].uncertainty == pytest.approx(4.0 / np.sqrt(4000), rel=0.3)
    assert same.mean[2].agrees
    assert same.width[2].agrees
    wider = compared(104.5, 4.6)
    assert wider.mean[2].agrees
    assert not wider.width[2].agrees
    assert not compared(105.5, 4.0).mean[2].agrees
