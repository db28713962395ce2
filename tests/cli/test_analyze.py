import json
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read, write

from piwsl.cli.main import run
from piwsl.data.systems import named_system
from tests.support import run_directories as runs
from tests.support.springs import springs_model


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


@pytest.mark.slow
def test_table_and_files(work, capsys):
    file = work / "run" / "trajectory.dcd"
    file.write_bytes(file.read_bytes()[:-20])
    assert analyze(work / "run", "--reference", work / "reference.npz") == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert lines[0] == "Stable for the 14.95 ps in the trajectory, of 15 ps requested."
    assert "note: trajectory.dcd is truncated within frame 300: its 299 complete frames are used" in lines
    assert "\x1b" not in shown.out  # no colors where there is no terminal
    assert shown.err == ""  # and no bar
    (header,) = [line for line in lines if line.startswith("quantity")]
    assert header.split()[:4] == ["quantity", "run", "reference", "difference"]
    (bond,) = [line for line in lines if line.startswith("C-O length")]
    assert bond.count("Å") == 3
    assert bond.endswith(("within noise", "differs"))
    assert lines[-1] == f"report: {work / 'run' / 'analysis' / 'report.html'}"
    names = {file.name for file in (work / "run" / "analysis").iterdir()}
    assert names == {"analysis.json", "curves.csv", "figures", "observables.csv", "report.html"}


@pytest.mark.slow
def test_json_is_all_that_is_printed(work, capfd):
    reference = ("--reference", work / "reference.npz")
    assert analyze(work / "run", *reference, "--json", "--no-report", "--output", work / "o") == 0
    numbers = json.loads(capfd.readouterr().out)  # of the process, plugins included
    assert numbers["stable"] is True
    assert numbers == json.loads((work / "o" / "analysis.json").read_text())
    assert not (work / "run" / "analysis").exists()


def test_errors_are_one_line_and_leave_nothing(work, capsys):
    before = sorted(work.rglob("*"))
    ours, reference = work / "run", ("--reference", work / "reference.npz")
    assert "no such directory" in refuse(capsys, work / "none", *reference)
    assert "holds no summary.json" in refuse(capsys, work, *reference)
    assert "no bundled reference for 'ethanol'" in refuse(capsys, ours)
    assert "no such file" in refuse(capsys, ours, "--reference", work / "none.npz")
    assert "unknown" in refuse(capsys, ours, *reference, "--units", "parsec")
    assert "describe a reference: add --reference FILE" in refuse(capsys, ours, "--units", "nm")
    assert "--reference-topology" in refuse(capsys, ours, "--reference", ours / "trajectory.dcd")
    assert "contains reference.npz" in refuse(capsys, ours, *reference, "--output", work)
    # A reference in another unit than said has no bonds.
    assert "check the unit" in refuse(capsys, ours, *reference, "--units", "nm")
    assert sorted(work.rglob("*")) == before


@pytest.fixture
def three(work):
    """Two runs and a directory of replicas, one of which breaks."""
    runs.write_run(work / "base" / "md", runs.shaking(300, seed=2), seed=5)
    broken = runs.shaking(200, seed=3)
    broken[60:, 8] += 4
    runs.write_run(work / "many" / "replica-000", runs.shaking(200, seed=4))
    runs.write_run(work / "many" / "replica-001", broken)
    runs.write_replica_summary(work / "many", ["replica-000", "replica-001"])
    return work / "run", work / "base" / "md", work / "many"


@pytest.mark.slow
def test_several_runs_side_by_side(work, three, monkeypatch, capsys):
    monkeypatch.chdir(work)
    assert analyze(*three, "--reference", work / "reference.npz") == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert lines[0].startswith("run: Stable for all 15 ps. ")
    assert lines[1].startswith("md: Stable for all 15 ps. ")
    assert lines[2].startswith("many: 1 of 2 replicas stable; the first to break did so at 3.05 ps. ")
    (header,) = [line for line in lines if line.startswith("quantity")]
    assert header.split() == ["quantity", "reference", "run", "md", "many"]
    (bond,) = [line for line in lines if line.startswith("C-O length")]
    assert bond.count("Å") == 4
    assert bond[-1] in "=*?"
    assert bond.count("/2") == 1  # so many of two replicas agree
    assert "= within noise of the reference, * differs by more than noise, ? too few samples to decide" in lines
    assert "note: many: structure is compared over the 60 frames before the first broken frame" in lines
    assert lines[-1] == "report: analysis/report.html"
    assert shown.err == ""
    assert "many" in (work / "analysis" / "report.html").read_text()
    assert not (work / "run" / "analysis").exists()


@pytest.mark.slow
def test_json_of_several_is_a_list(work, three, capfd):
    reference = ("--reference", work / "reference.npz", "--output", work / "out", "--no-report")
    assert analyze(*three, *reference, "--json") == 0
    shown = capfd.readouterr()
    found = json.loads(shown.out)
    assert [(one["name"], one["format"]) for one in found] == [
        ("run", "piwsl-analysis"),
        ("md", "piwsl-analysis"),
        ("many", "piwsl-analysis-replicas"),
    ]
    assert found == json.loads((work / "out" / "analysis.json").read_text())
    assert sorted(file.name for file in (work / "out").iterdir()) == ["analysis.json", "curves.csv", "observables.csv"]
    assert shown.err == ""


@pytest.mark.slow
def test_replicas_alone(work, three, capsys):
    assert analyze(three[2], "--reference", work / "reference.npz", "--no-report") == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("many: 1 of 2 replicas stable")
    assert shown[-1] == f"numbers: {three[2] / 'analysis' / 'analysis.json'}"
    numbers = json.loads((three[2] / "analysis" / "analysis.json").read_text())
    assert numbers["stable_replicas"] == 1
    survival = numbers["curves"]["survival"]
    assert survival["run"]["y"][:2] == [1.0, 0.5]
    assert survival["run"]["x"][1] == 3.05
    # What is left there is no replica.
    assert analyze(three[2], "--reference", work / "reference.npz", "--no-report") == 0


@pytest.mark.slow
def test_one_bad_run_among_several_is_one_line_and_leaves_nothing(work, three, monkeypatch, capsys):
    monkeypatch.chdir(work)
    reference = ("--reference", work / "reference.npz")
    water = work / "water"
    runs.write_run(water, runs.shaking(20, seed=1)[:, 6:], runs.ETHANOL.numbers[6:])
    damaged = work / "damaged"
    damaged.mkdir()
    (damaged / "summary.json").write_bytes(b"\xff\xfe\x00")
    scrambled = runs.write_run(work / "scrambled", runs.shaking(20, seed=1))
    (scrambled / "thermo.csv").write_bytes(b"\xff\xfe\x81\n")
    before = sorted(work.rglob("*"))
    good = three[0]
    assert f"{work / 'none'}: no such directory" in refuse(capsys, good, work / "none", *reference)
    assert "holds no summary.json" in refuse(capsys, good, work / "base", *reference)
    assert f"{damaged / 'summary.json'} is not valid JSON" in refuse(capsys, good, damaged, *reference)
    assert f"{scrambled / 'thermo.csv'}: damaged (" in refuse(capsys, good, scrambled, *reference)
    assert f"{water}: run and reference are different molecules" in refuse(capsys, good, water, *reference)
    assert "given twice" in refuse(capsys, good, three[1], good, *reference)
    (three[2] / "replica-001" / "trajectory.dcd").write_bytes(b"nothing")
    assert str(three[2] / "replica-001") in refuse(capsys, good, three[2], *reference)
    assert sorted(work.rglob("*")) == before


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that exists and cannot be read")
def test_a_run_that_may_not_be_read(work, capsys):
    """As root everything may be read, but not the memory of a process from its start."""
    (work / "run" / "thermo.csv").unlink()
    (work / "run" / "thermo.csv").symlink_to("/proc/self/mem")
    line = refuse(capsys, work / "run", "--reference", work / "reference.npz")
    assert line == f"piwsl: {work / 'run'}: cannot be read (Input/output error)"
    assert not (work / "run" / "analysis").exists()


@pytest.mark.slow
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
    code = analyze("run", "--reference", "reference.npz", "--json", "--no-report")
    assert code == 0, capsys.readouterr().err
    numbers = json.loads(capsys.readouterr().out)
    assert numbers["run"]["frames"] == 100
    assert numbers["stability"]["time"]["value"] == 1000.0
    assert abs(numbers["energy_drift"]["per_10_ps"]["value"]) < 5
    assert numbers["run"]["formula"] == "C2H6O"


@pytest.mark.slow
def test_bundled_reference(tmp_path, capsys):
    system = named_system("aspirin")
    if not system.reference_trajectory.is_file():
        pytest.skip("the bundled reference trajectory is not there yet")
    atoms = system.structure
    runs.write_run(
        tmp_path / "run", runs.shaking(200, seed=1, atoms=atoms), atoms.numbers,
        system={"name": "aspirin", "species": atoms.numbers.tolist()},
    )  # fmt: skip
    assert analyze(tmp_path / "run", "--json", "--no-report") == 0
    numbers = json.loads(capsys.readouterr().out)
    assert numbers["reference"]["name"] == "bundled aspirin"
    assert numbers["reference"]["frames"] > 1000
    assert numbers["reference"]["length_fs"] == pytest.approx(20 * (numbers["reference"]["frames"] - 1))


@pytest.mark.slow
def test_saved_reference_gives_the_same_numbers(work, capsys):
    saved, options = work / "saved.npz", ("--json", "--no-report")
    assert analyze(work / "run", "--reference", work / "reference.npz", *options, "--save-reference", saved) == 0
    first = json.loads(capsys.readouterr().out)
    assert analyze(work / "run", "--reference", saved, *options) == 0
    assert json.loads(capsys.readouterr().out) == first


@pytest.mark.slow
def test_atoms_in_another_order_are_mapped_when_asked_for(work, capsys):
    order = np.arange(9)[::-1]
    runs.write_run(work / "turned", runs.shaking(50, seed=1)[:, order], numbers=runs.ETHANOL.numbers[order])
    assert "--map-atoms" in refuse(capsys, work / "turned", "--reference", work / "reference.npz")
    assert analyze(work / "turned", "--reference", work / "reference.npz", "--map-atoms", "--no-report") == 0
    assert "were mapped by their bonds to the order of" in capsys.readouterr().out


def test_a_reference_in_the_box_of_another_program(work, capsys):
    positions = runs.shaking(200, seed=9)
    frames = positions - positions.mean(axis=1, keepdims=True) + 10.0
    runs.write_trajectory(work / "boxed.xtc", frames, cells=np.repeat(20 * np.eye(3)[None], 200, axis=0))
    topology = work / "run" / "topology.pdb"
    reference = ("--reference", work / "boxed.xtc", "--reference-topology", topology, "--no-report")
    assert analyze(work / "run", *reference) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "note: the cell of boxed.xtc is ignored, because the run has no cell" in lines
    assert any(line.startswith("h(r) error") for line in lines)


def test_another_run_as_the_reference(work, capsys):
    runs.write_run(work / "other", runs.shaking(300, seed=2))
    assert analyze(work / "run", "--reference", work / "other", "--no-report") == 0
    assert "observables" in capsys.readouterr().out
    line = refuse(capsys, work / "run", "--reference", work / "other", "--units", "nm")
    assert "a run directory contains its topology and units" in line
    line = refuse(capsys, work / "run", "--reference", work)
    assert "holds no summary.json" in line


@pytest.mark.slow
def test_a_crystal_from_its_files_to_the_report(tmp_path, capsys):
    copper = bulk("Cu", cubic=True) * (3, 3, 3)
    rng = np.random.default_rng(1)
    cells = np.repeat(copper.cell.array[None], 150, axis=0)
    for name in ("run", "other"):
        positions = copper.positions + rng.normal(scale=0.08, size=(150, len(copper), 3))
        runs.write_run(tmp_path / name, positions, copper.numbers, cells=cells)
    assert analyze(tmp_path / "run", "--reference", tmp_path / "other") == 0
    lines = capsys.readouterr().out.splitlines()
    (around,) = [line for line in lines if line.startswith("Neighbors Cu around Cu")]
    assert float(around.split()[4]) == pytest.approx(12, abs=0.05)
    assert any(line.startswith("Diffusion of Cu") for line in lines)
    page = (tmp_path / "run" / "analysis" / "report.html").read_text()
    assert "<h2>The cell</h2>" in page
    assert "Radial distribution functions" in page or "Cu\N{EN DASH}Cu" in page
    figures = {file.stem for file in (tmp_path / "run" / "analysis" / "figures").iterdir()}
    assert {"rdf", "msd", "bond_lengths", "angle", "energy"} <= figures
