"""The example of a molecule by piwsl in water by a force field, run as its reader would."""

import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "ml_mm.py"


def test_aspirin_in_water_runs():
    result = subprocess.run(
        [sys.executable, str(EXAMPLE), "--steps", "40"], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert re.match(r"aspirin and 4\d\d waters on the platform \w+", lines[0])
    rows = [[float(value) for value in line.split()] for line in lines[3:-1]]
    assert [row[0] for row in rows] == [round(0.001 * i, 3) for i in range(1, 21)]
    for _, potential, non_bonded, temperature, density in rows:
        assert -50 < potential < 400  # kJ/mol above the minimised start
        assert -30_000 < non_bonded < -15_000  # about 41 kJ/mol a water
        assert 100 < temperature < 500
        assert 0.8 < density < 1.1
    assert re.fullmatch(r"second half: \d+\.\d K, 0\.\d{4} g/ml; \d+\.\d ms a step", lines[-1])
