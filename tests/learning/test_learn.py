"""A learning job from its first label to its report: results, interruptions, mistakes."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from ase.build import molecule

import piwsl
from piwsl.data.frames import FrameSet
from piwsl.data.read import read_frames
from piwsl.data.write import write_frames
from piwsl.errors import ConfigError, DataError, ModelFileError, RunDirectoryError
from piwsl.learning.learn import LearnResult
from piwsl.learning.settings import LearnSettings
from piwsl.learning.teacher import train_teachers
from piwsl.training.stored_split import stored_split
from tests.support.molecules import frame

pytest.importorskip("tblite")

# A water molecule, random weights, and trainings of a second or two.
SMALL = {"model": {"channels": 16, "layers": 1}, "optimizer": {"validation_interval": 20}}
TINY = {
    "labels": {"rounds": 2, "budget": 24},
    "teacher": {"init_from": "scratch", "members": 1, "training": SMALL},
    "explore": {"replicas": 2, "picoseconds": 0.05, "temperature_factors": [1.0, 1.5], "frame_interval": 5},
    "student": {"frames": 60, "attempts": 1, "training": SMALL},
    "verify": {"replicas": 3, "picoseconds": 0.05, "constant_energy": 0.05},
    "temperature": 300.0,
    "minutes": 0.2,
}


def labeled_structures(directory: Path) -> list[str]:
    """Return the positions of every structure that was labeled, from the stores of the labeling jobs."""
    structures = []
    stores = [*directory.glob("round-*/labels/labels.jsonl"), *directory.glob("student_labels/labels/labels.jsonl")]
    for store in sorted(stores):
        frames = read_frames(store.with_name("frames.xyz")) if store.with_name("frames.xyz").exists() else None
        for line in store.read_text().splitlines():
            index = json.loads(line)["index"]
            structures.append(
                f"{store.parent.parent.name}/{index}" if frames is None else frames[index].positions.tobytes()
            )
    return structures


def positions_of(frames: piwsl.FrameSet) -> set[bytes]:
    """Return the rounded positions of frames."""
    return {(frame.positions.round(4) + 0.0).tobytes() for frame in frames}


def met_in_dynamics(attempt: Path) -> set[bytes]:
    """Return the rounded positions in the dynamics of a student at the target temperature."""
    return set().union(*(positions_of(read_frames(path)) for path in attempt.glob("dynamics-1/*/trajectory.extxyz")))


SCRIPT = """
import json, sys
from ase.build import molecule
import piwsl
if __name__ == "__main__":
    piwsl.learn(molecule("H2O"), config=json.loads(sys.argv[1]), output=sys.argv[2])
"""


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """Run a job that is killed once, when the first round has its labels, and continue it."""
    folder = tmp_path_factory.mktemp("learn")
    script, output = folder / "job.py", folder / "water"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), json.dumps(TINY), str(output)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    training = output / "round-01" / "teacher" / "seed-1" / "config.yaml"
    deadline = time.monotonic() + 300
    while not training.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert training.exists()
    assert not (output / "student.pt").exists()
    return piwsl.learn(molecule("H2O"), config=TINY, output=output)


@pytest.mark.slow
def test_the_job_uses_its_budget_and_writes_what_it_promises(result):
    summary = result.summary
    assert summary.result == "completed"
    assert summary.labels == 24
    assert [record.labels for record in summary.rounds] == [12, 22]
    assert summary.student_labels.labels == summary.student_labels.bought == 2
    assert len(result.labeled) == 24
    assert all(frame.has_forces for frame in result.labeled)
    assert len(labeled_structures(result.directory)) == len(set(labeled_structures(result.directory))) == 24
    assert summary.rounds[0].new_force_mae is None  # there was no model
    assert 0 < summary.rounds[1].new_force_mae < 20
    assert summary.held_back == 3
    assert 0 < summary.students[-1].own_force_mae < 20
    own = result.labeled[22:]
    errors = piwsl.evaluate(result.student, piwsl.FrameSet(own)).errors
    assert summary.student_labels.force_mae == pytest.approx(errors.force_mae, rel=1e-3)
    assert f"{1e3 * errors.force_mae:.1f} meV/A on 2 labels in its own dynamics" in summary.verdict
    replicas = (result.directory / "student-01" / "replicas").glob("*/trajectory.extxyz")
    assert positions_of(own) <= set().union(*(positions_of(read_frames(path)) for path in replicas))
    student = piwsl.load_model(result.student)
    assert student.config.walls_kind == "molecule"
    assert student.elements == [1, 8]
    assert student.level == "GFN2-xTB"
    assert piwsl.load_model(result.teacher).level == "GFN2-xTB"
    assert str(result.student) in result._repr_html_()
    assert LearnResult.read(result.directory).summary == summary
    page = result.report.read_text()
    assert summary.verdict[1:30] in page
    assert page.count("<svg") == 6
    assert "refresh" not in page


@pytest.mark.slow
def test_the_student_is_not_trained_on_held_back_structures(result):
    folder = result.directory / "round-02"
    labeled, split = read_frames(folder / "train.extxyz"), stored_split(folder / "teacher" / "seed-1" / "split.json")
    held_back = positions_of(labeled.select(split.validation))
    trained = positions_of(read_frames(result.directory / "student-01" / "frames.extxyz"))
    assert len(held_back) == 3
    assert not held_back & trained
    assert positions_of(labeled) - held_back <= trained


@pytest.mark.slow
def test_the_exported_student_runs(result, tmp_path):
    run = piwsl.run_md(
        result.directory / "start.extxyz", result.exported, steps=5, output=tmp_path / "md", engine="ase"
    )
    assert run.steps == 5


@pytest.mark.slow
def test_a_finished_job_computes_nothing_again(result, caplog):
    caplog.set_level("INFO", "piwsl")
    before = {path: path.stat().st_mtime_ns for path in result.directory.rglob("*.pt")}
    again = piwsl.learn(molecule("H2O"), config=TINY, output=result.directory)
    assert again.summary == result.summary
    assert "nothing to do" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in result.directory.rglob("*.pt")} == before


@pytest.mark.slow
def test_other_settings_or_another_structure_are_refused(result):
    other = {**TINY, "minutes": 3.0}
    with pytest.raises(RunDirectoryError, match=r"other settings \(minutes: 0\.2 -> 3\.0\)"):
        piwsl.learn(molecule("H2O"), config=other, output=result.directory)
    more = {**TINY, "labels": {**TINY["labels"], "budget": 48}}
    with pytest.raises(RunDirectoryError, match=r"where labels=.*labeled\.extxyz reuses its labels"):
        piwsl.learn(molecule("H2O"), config=more, output=result.directory)
    charged, isomer = molecule("H2O"), molecule("H2O")
    charged.info["charge"] = 1
    isomer.positions[2] = isomer.positions[1] - [0, 0, 0.75]  # O-H-H
    for other in (molecule("CH4"), charged, isomer):
        with pytest.raises(RunDirectoryError, match="the job of another structure"):
            piwsl.learn(other, config=TINY, output=result.directory)
    turned = molecule("H2O")
    turned.rotate(40, "x")
    turned.positions[1] *= 1.02
    assert piwsl.learn(turned, config=TINY, output=result.directory).summary == result.summary


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "name"), [("labels.file", "labeled.extxyz"), ("teacher.init_from", "teacher.pt"), ("verify.reference", "x")]
)
def test_a_job_that_would_delete_its_own_input_is_refused(result, key, name):
    (result.directory / "x").touch()
    before = sorted(result.directory.rglob("*"))
    with pytest.raises(RunDirectoryError, match=f"force=True would delete .*{name}, the {key} of the new job"):
        piwsl.learn(
            molecule("H2O"),
            config=TINY,
            options={key: str(result.directory / name)},
            output=result.directory,
            force=True,
        )
    assert sorted(result.directory.rglob("*")) == before
    (result.directory / "x").unlink()


def test_labels_that_change_after_a_training_are_noticed(tmp_path):
    frames = [frame("H2O", seed=seed, labeled=True) for seed in range(12)]
    write_frames(FrameSet(frames), tmp_path / "train.extxyz")
    changed = [*frames[:11], replace(frames[11], energy=frames[11].energy + 0.001)]
    for other in (frames[:11], changed):
        with pytest.raises(DataError, match=r"the labels differ from those in .*train\.extxyz"):
            train_teachers(other, LearnSettings(), None, 1.0, tmp_path)


@pytest.mark.slow
def test_a_student_that_is_less_accurate_than_its_teachers_is_trained_further_and_does_not_pass(result, tmp_path):
    settings = {
        **TINY,
        "labels": {"budget": 0, "file": str(result.directory / "labeled.extxyz")},
        "student": {"frames": 60, "attempts": 2, "training": {**SMALL, "optimizer": {"steps": 1}}},
        "explore": {"replicas": 1, "picoseconds": 0.02, "temperature_factors": [1.0], "frame_interval": 5},
        "verify": {"replicas": 1, "picoseconds": 0.02, "constant_energy": 0.02},
        "minutes": 0.1,
    }
    learned = piwsl.learn(config=settings, output=tmp_path / "water")
    first, second = learned.summary.students
    assert first.stable
    assert not first.faithful
    assert not (learned.directory / "student-01" / "replicas").exists()  # the long verification was left out
    assert met_in_dynamics(learned.directory / "student-01") & positions_of(
        read_frames(learned.directory / "student-02" / "frames.extxyz")
    )
    assert second.own_force_mae > second.largest_own_force_mae == learned.summary.rounds[0].force_mae
    assert not learned.verified
    assert learned.summary.verdict.startswith("stable, but less accurate than the teachers: 1 of 1 replicas intact")
    assert "stable, but less accurate" in learned.report.read_text().replace("Stable", "stable")
    assert 'class="verdict unstable"' in learned.report.read_text()


def test_the_user_is_asked_for_labels(tmp_path):
    settings = {**TINY, "labels": {"method": "file", "budget": 20, "rounds": 2}}
    output = tmp_path / "water"
    for _ in range(2):  # asking again writes the same structures
        waiting = piwsl.learn(molecule("H2O"), config=settings, output=output)
        assert waiting.waiting_for == output / "round-01" / "to_label.extxyz"
        assert len(read_frames(waiting.waiting_for)) == 10
        assert "Waiting for the labels" in waiting.report.read_text()
        assert LearnResult.read(output).waiting_for == waiting.waiting_for


@pytest.mark.slow
def test_a_method_that_fails_is_reported_before_any_other_work(tmp_path):
    settings = {**TINY, "labels": {"method": "tests.support.faulty_calculators:Springs", "options": {"fail": [0]}}}
    atoms = molecule("H2O")
    with pytest.raises(DataError, match=r"fails on the start structure: .*: check the method and the structure"):
        piwsl.learn(atoms, config=settings, output=tmp_path / "water")
    assert not list((tmp_path / "water").glob("round-01"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "gfn3-xtb"}, "unknown method 'gfn3-xtb'"),
        ({"budget": 12}, "the first round has 6 labels, but a first model needs at least 10"),
        ({"system": "aspirin", "smiles": "CCO"}, "give only one of structure, system and smiles"),
    ],
)
def test_mistakes_write_nothing(tmp_path, arguments, message):
    structure = None if "smiles" in arguments else molecule("H2O")
    with pytest.raises(ConfigError, match=message):
        piwsl.learn(structure, config={"teacher": {"init_from": "scratch"}}, output=tmp_path / "job", **arguments)
    assert not (tmp_path / "job").exists()


def test_a_job_that_could_not_start_does_not_occupy_its_directory(tmp_path):
    options = {**TINY, "teacher": {**TINY["teacher"], "init_from": str(tmp_path / "missing.pt")}}
    for _ in range(2):
        with pytest.raises(ModelFileError, match=r"missing\.pt: no such file"):
            piwsl.learn(molecule("H2O"), method="gfn2-xtb", config=options, output=tmp_path / "job")
