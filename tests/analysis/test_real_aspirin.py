"""On real frames: rMD17 aspirin (PBE, 500 K)."""

import mdtraj
import numpy as np
import pytest

from piwsl.analysis.quantities.bond_lengths import compare_bonds
from piwsl.analysis.quantities.distances import distance_histogram
from piwsl.analysis.reference import read_reference
from piwsl.analysis.statistics.distributions import compare
from piwsl.structures.bonds import find_bonds

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def aspirin(real_data):
    return read_reference(real_data / "rmd17_aspirin.npz")


def test_bonds_are_those_of_aspirin(aspirin):
    bonds = find_bonds(aspirin.species, aspirin.frames.all())
    assert {kind: len(found) for kind, found in bonds.by_type().items()} == {"C-C": 8, "C-H": 7, "C-O": 5, "O-H": 1}


def test_h_of_r_equals_mdtraj_and_numpy(runs, aspirin):
    positions = aspirin.frames.all()[:500]
    trajectory = mdtraj.Trajectory(positions.astype(np.float32) / 10, runs.topology_of(aspirin.species))
    distances = 10 * mdtraj.compute_distances(trajectory, np.array(np.triu_indices(21, 1)).T, periodic=False)
    expected, _ = np.histogram(distances, bins=500, range=(0, 10), density=True)
    found = distance_histogram(positions).distribution().density
    assert np.abs(found - expected).sum() * 0.02 < 1e-3


def test_two_halves_agree(aspirin):
    """Training against test frames: drawn from one trajectory."""
    first, second = aspirin.frames.all()[:1000], aspirin.frames.all()[1050:]
    verdicts = [compare(distance_histogram(first), distance_histogram(second)).difference.agrees]
    for found in compare_bonds(first, second, find_bonds(aspirin.species, aspirin.frames.all())):
        differences = (found.mean_difference, found.width_difference, found.distribution.difference)
        verdicts += [one.agrees for one in differences]
    assert len(verdicts) == 13
    assert verdicts.count(False) <= 2
    assert None not in verdicts


def test_stretched_bond_is_found(aspirin):
    first, second = aspirin.frames.all()[:1000].copy(), aspirin.frames.all()[1050:]
    bonds = find_bonds(aspirin.species, aspirin.frames.all())
    oxygen, hydrogen = sorted(bonds.pairs[bonds.by_type()["O-H"][0]], key=lambda atom: aspirin.species[atom] == 1)
    first[:, hydrogen] += 0.01 * (first[:, hydrogen] - first[:, oxygen])
    found = {one.kind: one for one in compare_bonds(first, second, bonds)}
    assert found["O-H"].mean_difference.agrees is False
