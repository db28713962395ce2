import json
import subprocess
import sys
from pathlib import Path

import pytest
from ase.io import write

from piwsl.structures.bonds import bonded_pairs
from piwsl.trajectories.topology import write_topology

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"


def run_example(name: str, *arguments: Path, folder: Path | None = None) -> str:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_plain_openmm_script_runs_the_exported_file(ethanol, make_model, tmp_path):
    write_topology(tmp_path / "ethanol.pdb", ethanol, bonded_pairs(ethanol))
    out = run_example("openmm_script.py", make_model(ethanol), tmp_path / "ethanol.pdb")
    rows = [line.split() for line in out.splitlines()[1:]]
    assert [int(row[0]) for row in rows] == list(range(100, 1001, 100))
    assert all(0 < float(row[1]) < 3 and 20 < float(row[2]) < 1500 for row in rows)


def test_an_ase_script_runs_the_exported_file(ethanol, make_model, tmp_path):
    model = make_model(ethanol)
    ethanol.rattle(0.05, seed=1)
    write(tmp_path / "ethanol.xyz", ethanol)
    lines = run_example("ase_script.py", model, tmp_path / "ethanol.xyz").splitlines()
    assert float(lines[0].split()[1]) > float(lines[1].split()[2])
    assert lines[-1].startswith("step  200: potential ")


def test_a_script_stops_a_run_by_a_rule_of_its_own(ethanol, make_model, tmp_path):
    model = make_model(ethanol)
    # The springs pull the ends of the start structure back to where they were before.
    ethanol.positions += 0.15 * (ethanol.positions - ethanol.positions[1])
    write(tmp_path / "ethanol.xyz", ethanol)
    out = run_example("own_stop_rule.py", model, tmp_path / "ethanol.xyz", folder=tmp_path)
    assert "angstrom apart (limit " in out
    stop = json.loads((tmp_path / "run/summary.json").read_text())["stop"]
    assert stop["rule"] == "curled-up"
    assert [atom["index"] for atom in stop["atoms"]] == [0, 2]
