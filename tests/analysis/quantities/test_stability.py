import numpy as np
import pytest

from piwsl.analysis.quantities.stability import stable_time
from piwsl.structures.bonds import Bonds

BOND = Bonds(np.array([[0, 1]]), np.array([1.0]), ("C-O",))


def diatomic(lengths):
    positions = np.zeros((len(lengths), 2, 3))
    positions[:, 1, 0] = lengths
    return positions, 50.0 * np.arange(1, len(lengths) + 1)


def test_bond_that_breaks_at_a_known_frame():
    found = stable_time(*diatomic([1.0, 1.2, 1.45, 1.6, 2.5]), BOND)
    assert found.time.value == 200.0  # the time of the broken frame, not of the one before or after
    assert found.frames == 3  # frames before it
    assert found.resolution == 50.0
    assert found.broken.frame == 3
    assert found.broken.atoms == (0, 1)
    assert found.broken.kind == "C-O"
    assert found.broken.length == pytest.approx(1.6)
    assert found.broken.reference_length == 1.0


def test_stable_run_is_a_lower_bound():
    found = stable_time(*diatomic([1.0, 1.4, 0.6]), BOND)
    assert found.broken is None
    assert (found.time.value, found.frames) == (150.0, 3)
    assert found.as_dict()["lower_bound"] is True


def test_one_run_has_no_error_bar():
    assert stable_time(*diatomic([1.0, 3.0]), BOND).time.uncertainty is None


def test_bond_that_comes_back_is_broken_all_the_same():
    found = stable_time(*diatomic([1.0, 1.7, 1.0, 1.0]), BOND)
    assert (found.time.value, found.frames) == (100.0, 1)


def test_compression_counts():
    assert stable_time(*diatomic([1.0, 0.4]), BOND).frames == 1


def test_limit_is_half_an_angstrom():
    assert stable_time(*diatomic([1.0, 1.4999, 0.5001]), BOND).broken is None
    assert stable_time(*diatomic([1.0, 1.5001]), BOND).frames == 1


def test_reference_length_decides_not_the_first_frame():
    stretched = Bonds(BOND.pairs, np.array([1.4]), BOND.types)
    assert stable_time(*diatomic([1.0, 1.8]), stretched).broken is None


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_positions_that_are_no_numbers(bad):
    positions, times = diatomic([1.0, 1.0, 1.0])
    positions[1, 0, 2] = bad
    found = stable_time(positions, times, BOND)
    assert (found.time.value, found.frames) == (100.0, 1)
    assert found.as_dict()["broken"]["length"] is None


def test_broken_from_the_start():
    found = stable_time(*diatomic([2.0, 1.0]), BOND)
    assert (found.frames, found.time.value) == (0, 50.0)


def test_worst_bond_of_the_frame_is_named():
    bonds = Bonds(np.array([[0, 1], [0, 2]]), np.array([1.0, 1.0]), ("C-O", "C-H"))
    positions = np.zeros((2, 3, 3))
    positions[:, 1, 0] = [1.0, 1.6]
    positions[:, 2, 1] = [1.0, 1.9]
    assert stable_time(positions, np.array([1.0, 2.0]), bonds).broken.kind == "C-H"
