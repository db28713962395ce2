import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "losses_in_your_loop.py"


def test_a_model_that_is_not_ours_learns_forces_from_energies_only():
    done = subprocess.run([sys.executable, EXAMPLE, "100"], capture_output=True, text=True, timeout=120, check=True)
    rows = [[float(word) for word in line.split()] for line in done.stdout.splitlines()[1:]]
    assert [int(row[0]) for row in rows] == [0, 20, 40, 60, 80, 100]
    assert rows[0][2] > 0.9  # a force head that has learnt nothing
    assert rows[-1][2] < 0.3
    assert rows[-1][1] < 0.2 * rows[0][1]
