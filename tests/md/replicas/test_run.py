import json
import os
import resource
import signal
from pathlib import Path

import mdtraj
import numpy as np
import pytest
from ase.build import molecule
from ase.io import read

from piwsl.analysis import read_run
from piwsl.data.frames import Frame
from piwsl.errors import ConfigError, DataError, RunDirectoryError, UnphysicalError
from piwsl.export.exporter import Exporter
from piwsl.interfaces.ase import PiwslCalculator
from piwsl.md.protocol import MDProtocol
from piwsl.md.replicas.run import allow_open_files
from piwsl.md.restart import state_files
from piwsl.md.run import run_protocol
from piwsl.runs.summary import MDSummary
from piwsl.trajectories.dcd import DcdFile
from piwsl.trajectories.thermo import read_thermo
from tests.support.models_for_tests import trained_file

COUNT = 5
NAMES = [f"replica-{number:03d}" for number in range(COUNT)]


def protocol(**options) -> MDProtocol:
    short = {"steps": 200, "trajectory_interval": 20, "report_interval": 50, "state_interval": 50, "temperature": 300}
    return MDProtocol.of(**{**short, "replicas": COUNT, "seed": 11, **options})


def frames(directory: Path):
    return mdtraj.load(str(directory / "trajectory.dcd"), top=str(directory / "topology.pdb")).xyz * 10


def equal(one: Path, other: Path) -> bool:
    same = (one / "thermo.csv").read_text() == (other / "thermo.csv").read_text()
    return same and np.array_equal(frames(one), frames(other))


def interrupted_at(step: int):
    """A progress callback that asks for the end."""

    def progress(now):
        if now.step >= step:
            os.kill(os.getpid(), signal.SIGTERM)

    return progress


@pytest.fixture
def run(ethanol, make_model, tmp_path):
    """Runs of ethanol on springs, by name of the directory."""
    model = make_model(ethanol)

    def start(name, restart=False, progress=None, **options):
        return run_protocol(ethanol, model, protocol(**options), tmp_path / name, restart=restart, progress=progress)

    return start


@pytest.mark.parametrize("engine", ["native", "openmm"])
def test_each_replica_is_a_run_of_its_own(engine, run, tmp_path):
    seen = []
    found = run("run", engine=engine, progress=seen.append)
    assert found.completed
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == found.summary.model_dump(mode="json")
    assert [one.directory for one in found.summary.replicas] == NAMES
    assert [one.seed for one in found.summary.replicas] == [11, 12, 13, 14, 15]
    assert {one.result for one in found.summary.replicas} == {"completed"}
    assert (found.summary.engine, found.summary.steps_done) == (engine, 200)
    assert MDProtocol.load(tmp_path / "run" / "config.yaml") == protocol(engine=engine)
    for number, name in enumerate(NAMES):
        summary = MDSummary.read(tmp_path / "run" / name)
        assert (summary.replica, summary.seed, summary.result) == (number, 11 + number, "completed")
        assert len(read_run(tmp_path / "run" / name).frames) == 10
        assert [int(row[0]) for row in read_thermo(tmp_path / "run" / name / "thermo.csv")] == [50, 100, 150, 200]
        assert all((tmp_path / "run" / name / file).is_file() for file in summary.outputs.values())
    ends = np.array([frames(tmp_path / "run" / name)[-1] for name in NAMES])
    gaps = [np.abs(ends[i] - ends[j]).max() for i in range(COUNT) for j in range(i)]
    assert min(gaps) > 0.02
    assert (seen[-1].replicas, seen[-1].step) == (COUNT, 200)
    assert seen[-1].ns_per_day == pytest.approx(COUNT * seen[-1].steps_per_second * 0.5e-6 * 86400)


def test_a_replica_does_what_it_does_alone(run, tmp_path):
    run("all")
    run("one", replicas=1, seed=14)
    assert equal(tmp_path / "all" / NAMES[3], tmp_path / "one" / NAMES[0])


@pytest.mark.slow
def test_one_that_breaks_leaves_and_the_others_go_on(run, tmp_path):
    options = {"trajectory_interval": 50, "check_interval": 50}
    run("whole", **options)
    hot = [max(float(row[5]) for row in read_thermo(tmp_path / "whole" / name / "thermo.csv")) for name in NAMES]
    limit = sorted(hot)[-2] - 1e-3
    with pytest.raises(UnphysicalError, match=r"of 5 replicas became unphysical \(replica-00") as error:
        run("run", stop=(f"temperature:{limit}",), **options)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    left = [one for one in summary["replicas"] if one["result"] == "stopped"]
    assert [one["directory"] for one in left] == [NAMES[i] for i in range(COUNT) if hot[i] > limit]
    assert str(error.value).startswith("2 of 5")
    assert summary["result"] == "completed"
    for one in summary["replicas"]:
        directory = tmp_path / "run" / one["directory"]
        own = json.loads((directory / "summary.json").read_text())
        assert own["result"] == one["result"]
        assert (directory / "stopped.extxyz").exists() == (one in left)
        if one in left:
            assert own["stop"]["rule"] == "temperature"
            saved = (one["steps_done"] - 1) // 50
            if saved:
                assert DcdFile.open(directory / "trajectory.dcd").frames == saved
            else:
                with pytest.raises(DataError, match="contains no complete frame"):
                    DcdFile.open(directory / "trajectory.dcd")
        else:
            assert equal(directory, tmp_path / "whole" / one["directory"])
    assert "stopped: step" in (tmp_path / "run" / "md.log").read_text()
    # Those that are left can be continued, those that have left stay as they are.
    with pytest.raises(UnphysicalError, match="2 of 5"):
        run("run", restart=True, stop=(f"temperature:{limit}",), steps=250, **options)
    again = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [one for one in again["replicas"] if one["result"] == "stopped"] == left
    assert {one["steps_done"] for one in again["replicas"] if one["result"] == "completed"} == {250}


def test_when_all_have_left_it_is_over(run, tmp_path):
    with pytest.raises(UnphysicalError, match=r"5 of 5 .*; 2 more are listed in summary\.json"):
        run("run", stop=("temperature:1",))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["result"], summary["stop"]["rule"]) == ("stopped", "temperature")
    with pytest.raises(RunDirectoryError, match=r"stop rules ended the run .* cannot be continued"):
        run("run", restart=True, stop=("temperature:1",))


@pytest.mark.slow
@pytest.mark.parametrize("ensemble", ["nve", "nvt", "nvt-nose-hoover"])
def test_a_continued_run_equals_an_uninterrupted_one(ensemble, run, tmp_path):
    run("whole", ensemble=ensemble)
    cut = run("cut", ensemble=ensemble, progress=interrupted_at(90), check_interval=5, steps=10**7)
    assert (cut.completed, cut.summary.result) == (False, "interrupted")
    assert cut.summary.steps_done < 10**6
    path = tmp_path / "cut" / NAMES[2]
    newest = state_files(path)[0]
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])  # all go back to the one before
    total = int(cut.summary.steps_done) + 200
    again = run("cut", ensemble=ensemble, restart=True, check_interval=5, steps=total)
    assert again.completed
    assert "the run continues from step" in (tmp_path / "cut" / "md.log").read_text()
    run("long", ensemble=ensemble, steps=total)
    for name in NAMES:
        assert equal(tmp_path / "cut" / name, tmp_path / "long" / name)
    assert run("cut", ensemble=ensemble, restart=True, check_interval=5, steps=total).completed


@pytest.mark.slow
def test_equilibration_comes_first_for_each(run, tmp_path):
    run("run", ensemble="nve", equilibration=100)
    assert "equilibrated for 100 steps; continuing with nve" in (tmp_path / "run" / "md.log").read_text()
    for name in NAMES:
        rows = read_thermo(tmp_path / "run" / name / "thermo.csv")
        assert [int(row[0]) for row in rows] == [50, 100, 150, 200]
        assert np.ptp([float(row[4]) for row in rows]) < 0.01  # total energy


@pytest.mark.slow
def test_a_shorter_run_replaces_all_of_a_longer_one(ethanol, make_model, run, tmp_path):
    run("run")
    (tmp_path / "run" / NAMES[4] / "notes.txt").write_text("of the user")
    run_protocol(ethanol, make_model(ethanol), protocol(replicas=2), tmp_path / "run", force=True)
    assert sorted(path.name for path in (tmp_path / "run").glob("replica-*")) == [NAMES[0], NAMES[1], NAMES[4]]
    assert [path.name for path in (tmp_path / "run" / NAMES[4]).iterdir()] == ["notes.txt"]


@pytest.mark.slow
def test_a_trained_model_is_exported_once(tmp_path):
    atoms = molecule("CH3CH2OH")
    model = trained_file(tmp_path / "model.pt", layers=1, channels=8)
    options = {"temperature": 10, "timestep": 0.1, "steps": 20, "trajectory_interval": 10, "minimize": True}
    run_protocol(atoms, model, protocol(**options, replicas=4), tmp_path / "run")
    assert (tmp_path / "run" / "exported.pt").is_file()
    before = (tmp_path / "run" / "exported.pt").stat().st_mtime_ns
    run_protocol(atoms, model, protocol(**options | {"steps": 40}, replicas=4), tmp_path / "run", restart=True)
    assert (tmp_path / "run" / "exported.pt").stat().st_mtime_ns == before
    start = mdtraj.load(str(tmp_path / "run" / "replica-000" / "topology.pdb")).xyz[0] * 10
    assert np.abs(start - atoms.positions).max() > 1e-3  # minimized


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"engine": "ase"}, "engine ase does not run replicas: choose engine='native'"),
        ({"engine": "native", "replicas": None}, "engine native runs replicas only: add replicas=N"),
        (
            {"ensemble": "nvt-nose-hoover", "engine": "openmm"},
            "engine openmm does not support nvt-nose-hoover for replicas: choose engine='native', or another ensemble",
        ),
        ({"ensemble": "npt"}, "engine native does not support npt for replicas: choose nve or nvt-langevin or"),
        ({"on_stop": "restart-from-good"}, "replicas cannot return to a good state"),
        ({"replicas": 0}, "replicas = 0: it must be at least 1"),
    ],
)
def test_what_replicas_cannot_do(options, words):
    with pytest.raises(ConfigError, match=words):
        protocol(**options)


def test_the_default_engine_of_replicas():
    assert MDProtocol.of().engine == "openmm"
    assert MDProtocol.of(replicas=3).engine == "native"
    assert MDProtocol.of(replicas=3, engine="openmm").engine == "openmm"


def test_more_files_are_allowed_than_the_shell_says(monkeypatch):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        allow_open_files(300)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 300
        allow_open_files(200)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 300
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 200))
    with pytest.raises(ConfigError, match="need 300 open files, but the system allows 200"):
        allow_open_files(300)


@pytest.mark.slow
def test_an_ensemble_is_asked_replica_by_replica(tmp_path):
    atoms = molecule("CH3CH2OH")
    members = [trained_file(tmp_path / f"{seed}.pt", layers=1, channels=8, seed=seed) for seed in (1, 2)]
    Exporter(members).openmm(Frame.from_atoms(atoms), tmp_path / "both.pt", copies=3)
    options = {"temperature": 10, "timestep": 0.1, "steps": 20, "report_interval": 10, "replicas": 4}
    with pytest.raises(UnphysicalError, match="4 of 4"):
        run_protocol(atoms, tmp_path / "both.pt", protocol(**options, stop=("committee:1e-6",)), tmp_path / "run")
    calculators = [PiwslCalculator(member) for member in members]
    for number in range(4):
        directory = tmp_path / "run" / f"replica-{number:03d}"
        stop = json.loads((directory / "summary.json").read_text())["stop"]
        assert (stop["rule"], stop["step"]) == ("committee", 10)
        forces = []
        for calculator in calculators:
            broken = read(directory / "stopped.extxyz")
            broken.calc = calculator
            forces.append(broken.get_forces())
        spread = np.linalg.norm(np.std(forces, axis=0, ddof=1), axis=1).max()
        assert stop["value"] == pytest.approx(spread, rel=1e-3)
    wide = protocol(**options, stop=("committee:100",))
    assert run_protocol(atoms, tmp_path / "both.pt", wide, tmp_path / "wide").completed
