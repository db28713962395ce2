import numpy as np
import pytest

from piwsl.analysis.quantities.bond_lengths import compare_bonds
from piwsl.errors import DataError
from piwsl.structures.bonds import bond_lengths, find_bonds
from piwsl.structures.pairs import pair_kind


def test_bonds_of_ethanol_by_type(runs):
    atoms = runs.ETHANOL
    bonds = find_bonds(atoms.numbers, atoms.positions[None])
    assert {kind: len(found) for kind, found in bonds.by_type().items()} == {"C-C": 1, "C-H": 5, "C-O": 1, "O-H": 1}
    np.testing.assert_allclose(bonds.lengths, [atoms.get_distance(i, j) for i, j in bonds.pairs], rtol=1e-6)


def test_bonds_of_a_molecule_that_turns_and_vibrates(runs):
    """Mean positions would be nonsense here; a single hot frame may miss a bond."""
    atoms = runs.ETHANOL
    hot = find_bonds(atoms.numbers, runs.shaking(1500, seed=1, amplitude=0.06))
    cold = find_bonds(atoms.numbers, atoms.positions[None])
    assert hot.pairs.tolist() == cold.pairs.tolist()


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [(1, 6, "C-H"), (6, 1, "C-H"), (8, 6, "C-O"), (1, 8, "O-H"), (8, 7, "N-O"), (1, 1, "H-H")],
)
def test_names(first, second, name):
    assert pair_kind(first, second) == name


def test_atoms_without_bonds():
    with pytest.raises(DataError, match="no bonds among the 2 atoms"):
        find_bonds(np.array([6, 6]), np.array([[[0.0, 0, 0], [5.0, 0, 0]]]))


def harmonic(runs, frames, seed, length=1.43, width=0.05):
    """C-O bond along a random direction with Gaussian length."""
    random = np.random.default_rng(seed)
    direction = random.normal(size=(frames, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    positions = np.zeros((frames, 2, 3))
    positions[:, 1] = random.normal(length, width, size=(frames, 1)) * direction
    return positions


def test_gaussian_bond(runs):
    reference = harmonic(runs, 40_000, seed=1)
    run = harmonic(runs, 10_000, seed=2, length=1.45, width=0.06)
    (found,) = compare_bonds(run, reference, find_bonds(np.array([6, 8]), reference))
    assert (found.kind, found.count) == ("C-O", 1)
    assert found.mean.value == pytest.approx(1.45, abs=4 * 0.06 / 100)
    assert found.mean.uncertainty == pytest.approx(0.06 / 100, rel=0.35)
    assert found.width.value == pytest.approx(0.06, rel=0.03)
    assert found.width.uncertainty == pytest.approx(0.06 / np.sqrt(2 * 10_000), rel=0.35)
    assert found.reference_width.value == pytest.approx(0.05, rel=0.02)
    assert found.mean_difference.measured.value == pytest.approx(0.02, abs=0.003)
    assert [found.mean_difference.agrees, found.width_difference.agrees] == [False, False]
    density = found.distribution.reference
    expected = np.exp(-((density.centers - 1.43) ** 2) / (2 * 0.05**2)) / (0.05 * np.sqrt(2 * np.pi))
    assert np.abs(density.density - expected).sum() * 0.01 < 0.03


def test_only_the_stretched_bond_is_found_different(runs):
    reference = runs.shaking(2000, seed=3)
    run = runs.shaking(2000, seed=4)
    bonds = find_bonds(runs.ETHANOL.numbers, reference)
    oxygen, hydrogen = bonds.pairs[bonds.by_type()["O-H"][0]]
    end = hydrogen if runs.ETHANOL.numbers[hydrogen] == 1 else oxygen
    other = oxygen if end == hydrogen else hydrogen
    run[:, end] += 0.02 * (run[:, end] - run[:, other])
    found = {one.kind: one for one in compare_bonds(run, reference, bonds)}
    assert found["O-H"].mean_difference.agrees is False
    assert found["O-H"].mean_difference.measured.value == pytest.approx(0.02, abs=0.005)
    for kind in ("C-C", "C-H", "C-O"):
        assert found[kind].mean_difference.agrees is True, kind
        assert found[kind].distribution.difference.agrees is True, kind


def test_lengths():
    positions = np.array([[[0.0, 0, 0], [3.0, 4.0, 0], [0, 0, 2.0]]])
    np.testing.assert_allclose(bond_lengths(positions, np.array([[0, 1], [0, 2]])), [[5.0, 2.0]])
