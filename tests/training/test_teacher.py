"""A teacher in a training run: what the student learns, what its file records, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import piwsl
from piwsl.data.batch import collate
from piwsl.data.frames import FrameSet
from piwsl.data.write import write_frames
from piwsl.errors import ConfigError, ElementError, ModelFileError, RunDirectoryError
from piwsl.export.licenses import foundation_lines
from piwsl.export.trained_file import load_trained, save_trained
from piwsl.losses import TeacherForces
from piwsl.runs.files import sha256
from piwsl.training import teacher as teachers
from piwsl.training.data import training_frames
from piwsl.training.distributed.processes import Processes
from piwsl.training.evaluate import predictions
from piwsl.training.fit import Setup
from piwsl.training.loader import share_of_process
from piwsl.training.objective import build_objective
from piwsl.training.run import run_training
from piwsl.training.start import starting_potential
from piwsl.training.step_memory import step_memory
from piwsl.training.teacher import load_teacher
from tests.support.models_for_tests import trained_file, trained_model
from tests.support.molecules import frame

FOUNDATION = {"name": "SOME-MODEL", "license": "ASL", "level": "PBE"}
OFF = ("loss.pitc=0", "loss.pisc=0")


@pytest.fixture(scope="module")
def teacher_file(small, tmp_path_factory):
    """A teacher of water, trained for a few steps with all forces, which calls itself made from a foundation model."""
    run = run_training(small("optimizer.steps=150", *OFF), tmp_path_factory.mktemp("teacher") / "run")
    made = load_trained(run.model)
    save_trained(replace(made, training={**made.training, "level": "PBE", "foundation": FOUNDATION}), run.model)
    return run.model


@pytest.fixture(scope="module")
def bare_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("bare") / "bare.xyz"
    write_frames(FrameSet([frame("H2O", rattle=0.08, seed=200 + seed) for seed in range(20)]), path)
    return path


def with_teacher(small, teacher_file, *options):
    return small(*OFF, f"teacher.file={teacher_file}", "data.forces_fraction=0", *options)


def load(config):
    return load_teacher(config, training_frames(config).train, None)


def difference(model, teacher_file, frames):
    """Mean difference between the forces of two models."""
    forces = []
    for path in (model, teacher_file):
        made = load_trained(path)
        each = [one for one, _ in predictions(made.potential(), frames, made.cutoff, torch.float32)]
        forces.append(torch.cat([one.forces for one in each]))
    return float((forces[0] - forces[1]).norm(dim=-1).mean())


LONG = ("optimizer.steps=200", "optimizer.learning_rate=1e-2", "optimizer.ema_decay=0.9")


@pytest.fixture(scope="module")
def untaught(small, teacher_file, tmp_path_factory):
    """Difference from the teacher after training on energies alone."""
    run = run_training(small(*OFF, "data.forces_fraction=0", *LONG), tmp_path_factory.mktemp("alone") / "run")
    return difference(run.model, teacher_file, training_frames(small()).validation)


@pytest.mark.slow
@pytest.mark.parametrize(
    "terms", [("teacher_forces=100",), ("teacher_pitc=100",), ("teacher_forces=10", "loss.teacher_curvature=3")]
)
def test_energies_of_labels_and_forces_of_a_teacher(small, teacher_file, bare_file, untaught, tmp_path, terms):
    config = with_teacher(small, teacher_file, *LONG, f"data.unlabeled={bare_file}", f"loss.{terms[0]}", *terms[1:])
    run = run_training(config, tmp_path / "run")
    assert difference(run.model, teacher_file, training_frames(small()).validation) < 0.5 * untaught


def test_the_file_records_the_teacher_and_its_license(small, teacher_file, tmp_path):
    config = with_teacher(small, teacher_file, "loss.teacher_forces=1", "loss.teacher_curvature=1", "optimizer.steps=2")
    student = load_trained(run_training(config, tmp_path / "run").model)
    record = student.training["teacher"]
    assert record == {"file": "run/model.pt", "sha256": sha256(teacher_file), "level": "PBE", "foundation": FOUNDATION}
    assert student.training["foundation"] == FOUNDATION
    assert foundation_lines(student.training) == ["made from SOME-MODEL: license of its weights: ASL"]
    log = (tmp_path / "run" / "train.log").read_text()
    assert "level of theory PBE) for loss.teacher_forces, loss.teacher_curvature" in log
    assert "license of its weights: ASL" in log


def test_both_licenses_are_said():
    training = {"foundation": FOUNDATION, "teacher": {"foundation": {"name": "OTHER", "license": "MIT"}}}
    assert [line.rpartition(" ")[2] for line in foundation_lines(training)] == ["ASL", "MIT"]


@pytest.mark.slow
def test_labels_of_a_teacher_keep_its_license(small, teacher_file, bare_file, tmp_path):
    labeled = piwsl.label(bare_file, f"model:{teacher_file}", output=tmp_path / "labels", progress=False)
    origin = "SOME-MODEL: license of its weights: ASL"
    assert {one.labels_from for one in labeled} == {origin}
    packed = tmp_path / "labels.h5"
    write_frames(labeled, packed)
    sizes = ("data.train=14", "data.validation=3", "data.test=3")
    student_of = small(f"data.file={packed}", *sizes, "optimizer.steps=2", *OFF)
    run = run_training(student_of, tmp_path / "run")
    student = load_trained(run.model)
    assert student.training["labels_from"] == [origin]
    assert "foundation" not in student.training
    assert f"note: labels made from {origin}" in (tmp_path / "run" / "train.log").read_text()
    # The license holds for what is made from the student, too.
    again = small(f"start.init_from={run.model}", "optimizer.steps=2", *OFF)
    tuned = run_training(again, tmp_path / "tuned")
    assert load_trained(tuned.model).training["labels_from"] == [origin]
    assert f"made from {origin}" in (tmp_path / "tuned" / "train.log").read_text()
    exported = piwsl.export_model(tuned.model, tmp_path / "model.pt").path
    more = piwsl.label(bare_file, f"model:{exported}", output=tmp_path / "more", progress=False)
    assert more[0].labels_from == origin


def test_another_level_of_theory_is_said(small, teacher_file):
    config = with_teacher(small, teacher_file, "loss.teacher_forces=1")
    train = training_frames(config).train
    assert any("was trained on PBE, but the labels are CCSD" in n for n in load_teacher(config, train, "CCSD").notes)
    assert not any("weak labels" in note for note in load_teacher(config, train, "PBE").notes)
    assert not any("weak labels" in note for note in load_teacher(config, train, None).notes)


def test_a_directory_of_an_ensemble_is_a_teacher(small, teacher_file, tmp_path):
    members = []
    for seed in (1, 2):
        (tmp_path / f"seed-{seed}").mkdir()
        members.append({"directory": f"seed-{seed}"})
        (tmp_path / f"seed-{seed}" / "model.pt").write_bytes(teacher_file.read_bytes())
    (tmp_path / "ensemble.json").write_text(json.dumps({"members": members}))
    loaded = load(with_teacher(small, tmp_path, "loss.teacher_forces=1"))
    assert len(loaded.teacher.potentials) == 2
    assert loaded.sha256 == ",".join([sha256(teacher_file)] * 2)


@pytest.mark.slow
def test_a_resumed_run_with_another_teacher(small, teacher_file, tmp_path):
    copy = tmp_path / "teacher.pt"
    copy.write_bytes(teacher_file.read_bytes())
    options = ("loss.teacher_forces=1", "optimizer.schedule=constant", "optimizer.validation_interval=4")
    config = with_teacher(small, copy, *options)
    longer = config.model_copy(update={"optimizer": config.optimizer.model_copy(update={"steps": 8})})
    shorter = config.model_copy(update={"optimizer": config.optimizer.model_copy(update={"steps": 4})})
    whole = run_training(longer, tmp_path / "whole")
    run_training(shorter, tmp_path / "run")
    assert run_training(longer, tmp_path / "run", resume=True).validation == whole.validation
    made = load_trained(copy)
    save_trained(replace(made, scale=1.01 * made.scale), copy)
    with pytest.raises(RunDirectoryError, match="the teacher of this run changed"):
        run_training(longer, tmp_path / "run", resume=True)


def refused(small, path, error, words, *options):
    with pytest.raises(error, match=words) as raised:
        load(with_teacher(small, path, *options))
    assert "\n" not in str(raised.value)


def test_what_does_not_fit(small, teacher_file, tmp_path):
    term = "loss.teacher_forces=1"
    carbon = trained_model()
    save_trained(replace(carbon, reference_energies={6: 0.0, 8: 0.0}), tmp_path / "carbon.pt")
    refused(small, tmp_path / "carbon.pt", ElementError, r"teacher\.file: .*not trained on H, only on C O", term)
    refused(small, tmp_path / "missing.pt", ModelFileError, r"teacher\.file: .*no such file", term)
    (tmp_path / "text.pt").write_text("no model")
    refused(small, tmp_path / "text.pt", ModelFileError, r"teacher\.file: ", term)
    refused(small, teacher_file, ConfigError, r"teacher\.file: no loss term learns from it", "loss.teacher_forces=0")
    refused(small, teacher_file, ConfigError, r"every training frame has forces", term, "data.forces_fraction=1")
    with pytest.raises(ConfigError, match=r"loss\.teacher_pitc requires a teacher"):
        load(small("loss.teacher_pitc=1"))
    assert load(small()) is None


@pytest.mark.parametrize("fraction", [0, 1])
def test_labels_in_other_units(small, teacher_file, water_file, tmp_path, fraction):
    with np.load(water_file) as stored:
        arrays = dict(stored)
    arrays["units"] = np.array("kcal/mol, angstrom")  # they are eV
    np.savez(tmp_path / "wrong.npz", **arrays)
    options = (f"data.file={tmp_path / 'wrong.npz'}", f"data.forces_fraction={fraction}", "teacher.frames=all")
    what = "forces" if fraction else "energy differences"
    refused(
        small,
        teacher_file,
        ConfigError,
        rf"the {what} of the labels are 0\.04.* times",
        "loss.teacher_forces=1",
        *options,
    )


def test_units_of_a_trained_file_are_checked(tmp_path, monkeypatch):
    path = trained_file(tmp_path / "model.pt")
    content = torch.load(path, weights_only=True)
    description = json.loads(content["description"])
    description["units"]["energy"] = "hartree"
    content["description"] = json.dumps(description)
    torch.save(content, path)
    with pytest.raises(ModelFileError, match="hartree"):
        load_trained(path)


def test_the_comparison_of_units_ignores_other_differences():
    rng = np.random.default_rng(0)
    labels = rng.normal(size=300)
    assert teachers._ratio(labels, 3.0 * labels) == pytest.approx(3.0)
    assert teachers._ratio(rng.normal(size=300), labels) is None
    assert teachers._ratio(np.zeros(300), labels) is None


def test_the_estimate_of_the_memory_leaves_no_predictions(small, teacher_file, tmp_path):
    """Its probe has the index of another frame."""
    config = with_teacher(small, teacher_file, "loss.teacher_forces=1")
    frames, processes = training_frames(config), Processes()
    share = share_of_process(config, frames, processes)
    loaded = load_teacher(config, frames.train, None)
    setup = Setup(config, frames, tmp_path, processes, torch.device("cpu"), share, teacher=loaded)
    objective = build_objective(config.loss, config.displacement, teacher=loaded.teacher)
    assert step_memory(setup, objective, starting_potential(config, frames).potential) is not None
    batch = collate([frames.train[0]], 4.0)
    found = loaded.teacher(batch, (), TeacherForces().request, None).forces[0]
    assert torch.allclose(found, loaded.teacher.potentials[0](*batch.graph)[1], atol=1e-5)
