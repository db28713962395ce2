import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "train_with_python.py"


def test_the_training_script_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, EXAMPLE, tmp_path / "run", "8"], capture_output=True, text=True, timeout=300, check=True
    )
    assert "meV/A" in done.stdout
    assert "forces against eager" in done.stdout
    assert (tmp_path / "run" / "aspirin.pt").is_file()
