import numpy as np
import pytest
from ase.geometry import cell_to_cellpar

from piwsl.trajectories.frame_writer import OutputFrame
from piwsl.trajectories.orientation import oriented, standard_orientation


@pytest.mark.parametrize("seed", range(6))
def test_a_cell_is_turned_and_nothing_else(seed):
    cell = np.random.default_rng(seed).normal(size=(3, 3)) * 5  # of either hand
    turned, rotation = standard_orientation(cell)
    assert rotation @ rotation.T == pytest.approx(np.eye(3), abs=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)  # no reflection
    assert (np.triu(turned, 1) == 0).all()
    assert (np.diag(turned) > 0).all()
    assert cell_to_cellpar(turned) == pytest.approx(cell_to_cellpar(cell))
    assert turned == pytest.approx(np.sign(np.linalg.det(cell)) * cell @ rotation)  # the same lattice


def test_what_stands_right_stays_bit_by_bit():
    cell = np.array([[5.0, 0, 0], [1.0, 6, 0], [-2.0, 1, 7]])
    frame = OutputFrame(1, 0.5, np.ones((2, 3)), cell)
    assert oriented(frame) is frame
    molecule = OutputFrame(1, 0.5, np.ones((2, 3)))
    assert oriented(molecule) is molecule


def test_a_slab_without_a_third_vector():
    cell = np.array([[0.0, 4, 0], [3.0, 0, 0], [0, 0, 0]])
    turned, rotation = standard_orientation(cell)
    assert turned[2].tolist() == [0, 0, 0]
    assert np.linalg.det(rotation) == pytest.approx(1)
    assert cell_to_cellpar(turned)[:2] == pytest.approx([4, 3])


def test_vectors_turn_with_their_structure():
    cell = np.array([[0.0, 5, 0], [0, 0, 5], [5.0, 0, 0]])
    ones = np.arange(6.0).reshape(2, 3)
    turned = oriented(OutputFrame(1, 0.5, ones, cell, velocities=2 * ones, forces=3 * ones))
    assert turned.positions == pytest.approx(ones[:, [1, 2, 0]])
    assert turned.velocities == pytest.approx(2 * turned.positions)
    assert turned.forces == pytest.approx(3 * turned.positions)
