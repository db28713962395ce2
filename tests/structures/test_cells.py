import numpy as np
import pytest

from piwsl.structures.cells import VACUUM, complete_cells

CUBE = 4.0 * np.eye(3)
SLAB = np.diag([4.0, 5.0, 0.0])


def test_missing_vectors_become_long_ones():
    cells = complete_cells(np.stack([SLAB, SLAB]))
    assert np.allclose(cells[1], np.diag([4.0, 5.0, VACUUM]))
    assert complete_cells(CUBE[None]).tolist() == [CUBE.tolist()]
    assert complete_cells(np.zeros((2, 3, 3))) is None


@pytest.mark.parametrize("second", [[4.0, 0.0, 0.0], [-8.0, 0.0, 0.0]])
def test_vectors_without_a_volume_are_no_cell(second):
    """Warnings are errors: there must be none, either."""
    with_two = np.array([[4.0, 0.0, 0.0], second, [0.0, 0.0, 0.0]])
    assert complete_cells(np.stack([SLAB, with_two])) is None
    assert complete_cells(np.array([[[4.0, 0.0, 0.0], second, [0.0, 0.0, 5.0]]])) is None
