import json

import numpy as np
import pytest
from ase.io import read, write

from piwsl.cli.main import run
from piwsl.data.systems import named_system
from tests import run_directories as runs
from tests.springs import springs_model


@pytest.fixture
def work(tmp_path):
    np.savez(tmp_path / "reference.npz", nuclear_charges=runs.ETHANOL.numbers, coords=runs.shaking(500, seed=50))
    runs.write_run(tmp_path / "run", runs.shaking(300, seed=1))
    return tmp_path


def analyze(*arguments):
    """Run the command; gives its exit code."""
    try:
        run(["analyze", *map(str, arguments)])
    except SystemExit as stop:
        return stop.code or 0
    return 0


def refuse(capsys, *arguments):
    """Run a command that must fail with one line; gives the line."""
    assert analyze(*arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.strip().splitlines()
    return line


def test_table_and_files(work, capsys):
    file = work / "run" / "trajectory.dcd"
    file.write_bytes(file.read_bytes()[:-20])
    assert analyze(work / "run", "--reference", work / "reference.npz") == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert lines[0] == "Stable for the 14.95 ps that the trajectory holds, of 15 ps asked for."
    assert "note: trajectory.dcd was cut within frame 300: its 299 whole frames are used" in lines
    assert "\x1b" not in shown.out  # no colours where there is no terminal
    assert shown.err == ""  # and no bar
    (header,) = [line for line in lines if line.startswith("quantity")]
    assert header.split()[:4] == ["quantity", "run", "reference", "difference"]
    (bond,) = [line for line in lines if line.startswith("C-O length")]
    assert bond.count("Å") == 3
    assert bond.endswith(("within noise", "differs"))
    assert lines[-1] == f"report: {work / 'run' / 'analysis' / 'report.html'}"
    assert len(list((work / "run" / "analysis").iterdir())) == 5


def test_json_is_all_that_is_printed(work, capfd):
    reference = ("--reference", work / "reference.npz")
    assert analyze(work / "run", *reference, "--json", "--output", work / "o") == 0
    numbers = json.loads(capfd.readouterr().out)  # of the process, plugins included
    assert numbers["stable"] is True
    assert numbers == json.loads((work / "o" / "analysis.json").read_text())
    assert not (work / "run" / "analysis").exists()


def test_errors_are_one_line_and_leave_nothing(work, capsys):
    before = sorted(work.rglob("*"))
    ours, reference = work / "run", ("--reference", work / "reference.npz")
    assert "no such run directory" in refuse(capsys, work / "none", *reference)
    assert "not a finished run" in refuse(capsys, work, *reference)
    assert "no reference for 'ethanol'" in refuse(capsys, ours)
    assert "no such file" in refuse(capsys, ours, "--reference", work / "none.npz")
    assert "unknown" in refuse(capsys, ours, *reference, "--units", "parsec")
    assert "belong to a --reference" in refuse(capsys, ours, "--units", "nm")
    assert "--reference-topology" in refuse(capsys, ours, "--reference", ours / "trajectory.dcd")
    assert "holds reference.npz" in refuse(capsys, ours, *reference, "--output", work)
    # A reference in another unit than said has no bonds.
    assert "check the unit" in refuse(capsys, ours, *reference, "--units", "nm")
    assert sorted(work.rglob("*")) == before


def test_what_piwsl_md_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write("ethanol.xyz", runs.ETHANOL)
    springs_model(tmp_path / "model.pt", read("ethanol.xyz"))
    options = "--structure ethanol.xyz --model model.pt --steps 2000 --trajectory-interval 20 --report-interval 20"
    options += " --ensemble nve --trajectory-format xtc --output run"
    with pytest.raises(SystemExit) as stop:
        run(["md", *options.split()])
    assert not stop.value.code
    np.savez("reference.npz", z=runs.ETHANOL.numbers, R=runs.shaking(200, seed=50))
    capsys.readouterr()
    assert analyze("run", "--reference", "reference.npz", "--json") == 0
    numbers = json.loads(capsys.readouterr().out)
    assert numbers["run"]["frames"] == 100
    assert numbers["stability"]["time"]["value"] == 1000.0
    assert abs(numbers["energy_drift"]["per_10_ps"]["value"]) < 5
    assert numbers["run"]["formula"] == "C2H6O"


def test_bundled_reference(tmp_path, capsys):
    system = named_system("aspirin")
    if not system.reference_trajectory.is_file():
        pytest.skip("the bundled reference trajectory is not there yet")
    atoms = system.structure
    runs.write_run(
        tmp_path / "run", runs.shaking(200, seed=1, atoms=atoms), atoms.numbers,
        system={"name": "aspirin", "species": atoms.numbers.tolist()},
    )  # fmt: skip
    assert analyze(tmp_path / "run", "--json") == 0
    numbers = json.loads(capsys.readouterr().out)
    assert numbers["reference"]["name"] == "bundled aspirin"
    assert numbers["reference"]["frames"] > 1000
    assert numbers["reference"]["length_fs"] == pytest.approx(20 * (numbers["reference"]["frames"] - 1))


def test_saved_reference_gives_the_same_numbers(work, capsys):
    saved = work / "saved.npz"
    assert analyze(work / "run", "--reference", work / "reference.npz", "--json", "--save-reference", saved) == 0
    first = json.loads(capsys.readouterr().out)
    assert analyze(work / "run", "--reference", saved, "--json") == 0
    assert json.loads(capsys.readouterr().out) == first


def test_atoms_in_another_order_are_mapped_when_asked_for(work, capsys):
    order = np.arange(9)[::-1]
    runs.write_run(work / "turned", runs.shaking(50, seed=1)[:, order], numbers=runs.ETHANOL.numbers[order])
    assert "--map-atoms" in refuse(capsys, work / "turned", "--reference", work / "reference.npz")
    assert analyze(work / "turned", "--reference", work / "reference.npz", "--map-atoms") == 0
    assert "as their bonds tell" in capsys.readouterr().out
