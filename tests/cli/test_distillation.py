"""The sequence of docs/distillation.md on tiny models: teacher, sampled labels, student, export."""

import json
from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule
from ase.io import write

from piwsl import load_model, read_frames
from piwsl.data.write import write_frames
from piwsl.export.trained_file import load_trained, save_trained
from tests.support.frame_sets import random_water_file
from tests.support.models_for_tests import trained_file

TINY = ["-o", "optimizer.steps=4", "-o", "optimizer.batch_size=4", "-o", "threads=1", "-o", "data.validation=4"]
SMALL = ["-o", "model.channels=4", "-o", "model.layers=1", "-o", "model.cutoff=3.0", "-o", "dtype=float64"]
CALM = ["--temperature", "1", "--force-tolerance", "1000", "--trajectories", "1", "--steps", "48"]
CALM += ["--equilibration-steps", "0", "--chunk-steps", "48", "--frame-interval", "4", "--position-interval", "4"]


@pytest.fixture
def called(cli):
    def call(*arguments):
        done = cli(*arguments)
        assert done.code == 0, done.errors
        return done.out

    return call


@pytest.mark.slow
def test_teacher_labels_student_export(called, tmp_path):
    trained_file(tmp_path / "start.pt", dtype="float64", channels=4, layers=1, cutoff=3.0, frames=("H2O",))
    start = load_trained(tmp_path / "start.pt")
    made_from = {**start.training, "foundation": {"name": "SOME-MODEL", "license": "ASL"}}
    save_trained(replace(start, training=made_from), tmp_path / "start.pt")
    write(tmp_path / "water.xyz", molecule("H2O"))
    random_water_file(tmp_path / "labels.npz", 16)
    write_frames(read_frames(tmp_path / "labels.npz", "eV"), tmp_path / "labels.xyz")
    fine_tuning = ["--data", "labels.xyz", "--init-from", "start.pt", "--seeds", "1,2", "-o", "dtype=float64", *TINY]
    called("train", *fine_tuning, "--output", "teacher")
    called("data", "label", "--structure", "water.xyz", "--method", "model:teacher", *CALM, "--output", "sampled")
    frames = read_frames("sampled/frames.npz")
    assert frames.census.labels_from == ("SOME-MODEL: license of its weights: ASL",)
    assert len(frames) == 12
    assert frames.census.has_spread.all()
    # From stored labels, weighted by their spread:
    out = called(
        "train", "--data", "sampled/frames.npz", *TINY, *SMALL, "-o", "data.weigh_by_spread=true", "--output", "a"
    )
    assert "spread of labels   on 12 frames" in out
    # Without stored labels, together with strong labels:
    weak = ["data.unlabeled=sampled/frames.npz", "data.forces_fraction=0", "teacher.file=teacher"]
    weak += ["loss.teacher_forces=100", "loss.teacher_pitc=10", "loss.teacher_curvature=1"]
    options = [word for key in weak for word in ("-o", key)]
    out = called("train", "--data", "labels.xyz", *TINY, *SMALL, *options, "--output", "b")
    assert "12 training frames have no label: they fill 50% of each batch" in out
    called("export", "b/model.pt", "--output", "student.pt")
    record = load_model("b").training["teacher"]
    assert record["file"] == "teacher"
    hashes = [
        member["model_sha256"] for member in json.loads((tmp_path / "teacher/ensemble.json").read_text())["members"]
    ]
    assert record["sha256"] == ",".join(hashes)
    called("data", "label", "--frames", "labels.xyz", "--method", "model:student.pt", "--output", "checked")
    assert np.isfinite([one.energy for one in read_frames("checked/frames.xyz")]).all()
