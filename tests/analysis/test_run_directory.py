import json

import numpy as np
import pytest

from piwsl.analysis.run_directory import read_run, replica_directories
from piwsl.errors import DataError, RunDirectoryError


@pytest.fixture
def positions(runs):
    return runs.shaking(20, seed=1)


@pytest.mark.parametrize("suffix", [".dcd", ".xtc"])
def test_run(runs, tmp_path, positions, suffix):
    run = read_run(runs.write_run(tmp_path / "run", positions, suffix=suffix))
    np.testing.assert_allclose(run.frames.all(), positions, atol=0.0051)
    assert run.species.tolist() == runs.ETHANOL.numbers.tolist()
    assert (run.name, run.formula, run.ensemble, run.target_temperature) == ("ethanol", "C2H6O", "nvt", 500.0)
    assert run.times[0] == 50.0  # the first frame is that of the first interval, not of the start
    assert run.times[-1] == run.requested_time == 1000.0
    np.testing.assert_allclose(run.thermo.times, run.times)
    np.testing.assert_allclose(run.thermo.total, run.thermo.potential + run.thermo.kinetic, atol=1e-7)
    assert run.notes == ()


def test_constant_energy_has_no_target_temperature(runs, tmp_path, positions):
    assert read_run(runs.write_run(tmp_path / "run", positions, ensemble="nve")).target_temperature is None


def test_elements_by_symbol(runs, tmp_path, positions):
    system = {"name": "x", "species": runs.ETHANOL.get_chemical_symbols()}
    run = read_run(runs.write_run(tmp_path / "run", positions, system=system))
    assert run.species.tolist() == runs.ETHANOL.numbers.tolist()


def test_species_from_the_topology(runs, tmp_path, positions):
    run = read_run(runs.write_run(tmp_path / "run", positions, system={"name": "x"}))
    assert run.species.tolist() == runs.ETHANOL.numbers.tolist()


def test_cut_trajectory(runs, tmp_path, positions):
    path = runs.write_run(tmp_path / "run", positions)
    file = path / "trajectory.dcd"
    file.write_bytes(file.read_bytes()[:-10])
    run = read_run(path)
    assert len(run.frames) == len(run.times) == 19
    assert "19 complete frames" in run.notes[0]


def test_cut_energies(runs, tmp_path, positions):
    path = runs.write_run(tmp_path / "run", positions)
    file = path / "thermo.csv"
    file.write_text(file.read_text()[:-40])
    run = read_run(path)
    assert len(run.thermo.total) == 19
    assert "19 complete rows" in run.notes[0]


def test_energies_that_are_no_numbers(runs, tmp_path, positions):
    path = runs.write_run(tmp_path / "run", positions)
    lines = (path / "thermo.csv").read_text().splitlines()
    lines[4] = "400,zero,,,,"
    (path / "thermo.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match="line 5"):
        read_run(path)


def test_energies_without_a_column(runs, tmp_path, positions):
    path = runs.write_run(tmp_path / "run", positions)
    (path / "thermo.csv").write_text("step,time [ps]\n100,0.05\n")
    with pytest.raises(DataError, match=r"no column 'potential \[eV\]'"):
        read_run(path)


def test_no_energies(runs, tmp_path, positions):
    path = runs.write_run(tmp_path / "run", positions)
    (path / "thermo.csv").unlink()
    run = read_run(path)
    assert run.thermo is None
    assert "no thermo.csv" in run.notes[0]


def test_not_a_run_directory(runs, tmp_path, positions):
    with pytest.raises(RunDirectoryError, match="no such directory"):
        read_run(tmp_path / "none")
    with pytest.raises(RunDirectoryError, match=r"holds no summary\.json"):
        read_run(tmp_path)


@pytest.mark.parametrize("text", ["{", "[1, 2]", "{}", json.dumps({"system": {"name": "x"}})])
def test_summary_of_something_else(tmp_path, text):
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(
        RunDirectoryError,
        match=r"summary\.json(: not the summary of a molecular| is not valid JSON| contains no JSON object)",
    ):
        read_run(tmp_path)


def test_no_trajectory(runs, tmp_path, positions):
    path = runs.write_run(tmp_path / "run", positions)
    (path / "trajectory.dcd").unlink()
    with pytest.raises(RunDirectoryError, match=r"contains no trajectory\.dcd or trajectory\.xtc"):
        read_run(path)


def test_files_of_two_runs(runs, tmp_path, positions):
    path = runs.write_run(tmp_path / "run", positions, system={"name": "x", "species": [6, 6]})
    with pytest.raises(DataError, match="they belong to different runs"):
        read_run(path)


def test_a_temperature_that_changes_is_no_target(runs, tmp_path, positions):
    run = read_run(runs.write_run(tmp_path / "run", positions, temperature_K="300:500"))
    assert run.target_temperature is None


def test_directories_of_replicas(runs, tmp_path):
    runs.write_replica_summary(tmp_path, ["replica-000", "replica-001"])
    assert replica_directories(tmp_path) == (tmp_path / "replica-000", tmp_path / "replica-001")


@pytest.mark.parametrize("text", ["{}", "[1]", "{", '{"system": {}}'])
def test_a_run_is_no_directory_of_replicas(tmp_path, text):
    (tmp_path / "summary.json").write_text(text)
    assert replica_directories(tmp_path) == (tmp_path,)
    assert replica_directories(tmp_path / "none") == (tmp_path / "none",)


@pytest.mark.parametrize("names", [[], ["a", "a"], ["../a"], [""], [".."]])
def test_replicas_that_are_no_directories(runs, tmp_path, names):
    runs.write_replica_summary(tmp_path, names)
    with pytest.raises(RunDirectoryError, match="must be a list of different directory names"):
        replica_directories(tmp_path)
