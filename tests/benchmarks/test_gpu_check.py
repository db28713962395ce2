"""The script that checks a GPU: its parts on the CPU in small, and what it says of parts that fail."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_check.py"
HEAD = "import os, signal, time\n\ndef run(report, settings):\n"
BEFORE = "    report.check('agrees', 0.5, 1.0, 'eV')\n"
AFTER = "    report.attempt('later', report.note, 'later', 'reached')\n"
PARTS = {
    "fine": BEFORE + AFTER,
    "differs": "    report.check('a difference', 2.0, 1.0)\n    report.check('a NaN', float('nan'), 1.0)\n" + AFTER,
    "fails": BEFORE + "    report.attempt('bad', int, 'x')\n" + AFTER,
    "raises": BEFORE + "    raise RuntimeError('out of memory')\n",
    "crashes": "    report.attempt('crash', os.kill, os.getpid(), signal.SIGSEGV)\n" + AFTER,
    "hangs": "    report.attempt('hang', time.sleep, 60)\n" + AFTER,
    "lacks": "    report.attempt('needs', __import__, 'no_such_package')\n",
    "dies": "    os._exit(3)\n",
    "silent": "    pass\n",
}
EXPECTED = {
    "fine": "ok",
    "differs": "DIFFERS",
    "fails": "FAILED",
    "raises": "FAILED",
    "crashes": "CRASHED",
    "hangs": "TIMED OUT",
    "lacks": "skipped",
    "dies": "CRASHED",
    "silent": "FAILED",
}


def run(*arguments, folder):
    """Run the script; return the finished process and the JSON file."""
    output = folder / "result.json"
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--output", str(output), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done, json.loads(output.read_text())["parts"] if output.exists() else {}


@pytest.mark.slow
def test_every_bad_part_is_reported_and_the_others_run(tmp_path):
    for name, body in PARTS.items():
        (tmp_path / f"{name}.py").write_text(HEAD + body)
    files = [tmp_path / f"{name}.py" for name in PARTS]
    done, parts = run("--silent", 3, "--parts", *files, folder=tmp_path)
    assert {name: part["result"] for name, part in parts.items()} == EXPECTED
    assert done.returncode == 1
    # The attempts after a failure, a crash and a hang.
    for name in ("fine", "differs", "fails", "crashes", "hangs"):
        assert [row["result"] for row in parts[name]["rows"] if row["name"] == "later"] == ["measured"], name
    rows = {row["name"]: row for part in parts.values() for row in part["rows"]}
    assert rows["a difference"]["result"] == rows["a NaN"]["result"] == "DIFFERS"
    assert "ValueError: invalid literal for int() with base 10: 'x'" in rows["bad"]["traceback"]
    assert any("Segmentation fault" in line for line in rows["crash"]["stderr"])
    assert rows["needs"]["reason"] == "no_such_package is not installed"
    summary = done.stdout.partition("part          result")[2]
    for name, result in EXPECTED.items():
        assert f"{name:14}{result}" in summary
    assert "CRASHED   crash" in summary


@pytest.mark.slow
def test_time_runs_out(tmp_path):
    (tmp_path / "hangs.py").write_text(HEAD + PARTS["hangs"])
    (tmp_path / "fine.py").write_text(HEAD + PARTS["fine"])
    files = [tmp_path / "hangs.py", tmp_path / "fine.py"]
    done, parts = run("--total", 12, "--limit", 3, "--parts", *files, folder=tmp_path)
    assert parts["hangs"]["result"] == "TIMED OUT"
    assert parts["fine"]["result"] == "skipped"
    assert done.returncode == 1


def test_an_unknown_part(tmp_path):
    done, parts = run("--parts", "nothing", folder=tmp_path)
    assert done.returncode == 2
    assert parts == {}
    assert "unknown part nothing" in done.stderr


@pytest.mark.slow
def test_all_parts_in_small(tmp_path):
    done, parts = run(folder=tmp_path)
    assert done.returncode == 0, done.stdout
    assert {name for name, part in parts.items() if part["result"] != "ok"} <= {"compiled"}
    assert len(parts) == 11
