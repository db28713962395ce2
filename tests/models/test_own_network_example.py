import subprocess
import sys
from pathlib import Path

import pytest

from piwsl.cli.main import run

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_network.py"


def test_the_example_trains_and_exports_and_commands_import_its_module(tmp_path, monkeypatch, capsys):
    output = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, EXAMPLE, output, "4"], capture_output=True, text=True, timeout=300, check=True
    )
    assert "forces against eager" in done.stdout
    assert (output / "pair_network.pt").is_file()
    model, exported = str(output / "model.pt"), tmp_path / "again.pt"
    with pytest.raises(SystemExit) as end:
        run(["export", model, "--output", str(exported)])
    assert end.value.code == 2
    assert "'pair_network' is not registered" in (message := capsys.readouterr().err)
    assert "piwsl --import MODULE" in message
    monkeypatch.chdir(EXAMPLE.parent)
    with pytest.raises(SystemExit) as end:
        run(["--import", "own_network", "export", model, "--output", str(exported)])
    assert not end.value.code
    assert exported.is_file()
