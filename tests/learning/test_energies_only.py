"""Learning from energies without forces: settings, labels, the fitted teacher, and the report."""

import numpy as np
import pytest
from ase.build import molecule

from piwsl.data.frames import Frame, FrameSet
from piwsl.data.write import write_frames
from piwsl.errors import ConfigError, DataError
from piwsl.export.trained_file import load_trained
from piwsl.learning.directory import LearnSummary, RoundRecord, StudentRecord
from piwsl.learning.labels import LabelsMissingError, checked_labels, existing_labels, label_round
from piwsl.learning.learn import plan_learning
from piwsl.learning.report import render_report
from piwsl.learning.settings import LabelSettings, LearnSettings
from piwsl.learning.teacher import errors_on, train_teachers
from tests.support.models_for_tests import trained_file
from tests.support.molecules import frame

ENERGIES = {"labels": {"energies_only": True}}


def water(seed, energy=None, force=None):
    made = frame("H2O", seed=seed)
    forces = np.full((3, 3), np.nan if force is None else force)
    return Frame(made.species, made.positions, np.nan if energy is None else energy, forces)


def test_forces_of_labels_are_not_used(tmp_path):
    settings = LabelSettings(method="file", energies_only=True)
    with pytest.raises(LabelsMissingError) as missing:
        label_round([water(0), water(1), water(2)], settings, tmp_path)
    write_frames(FrameSet([water(0, -1.0, 0.1), water(1, -2.0), water(2)]), missing.value.expected)
    labeled = label_round([water(0), water(1), water(2)], settings, tmp_path)
    checked = checked_labels(labeled, None, energies_only=True)
    assert [one.energy for one in checked.frames] == [-1.0, -2.0]
    assert not any(one.has_forces for one in checked.frames)
    assert checked.reasons == ["structure 2: no energy in labeled.extxyz"]
    write_frames(FrameSet([water(0, -1.0, 0.1), water(1, -2.0)]), tmp_path / "known.extxyz")
    known = existing_labels(LabelSettings(file=tmp_path / "known.extxyz", energies_only=True), water(0))
    assert [(one.energy, one.has_forces) for one in known] == [(-1.0, False), (-2.0, False)]
    with pytest.raises(DataError, match=r"frame 1 lacks .*, or set labels\.energies_only: true"):
        existing_labels(LabelSettings(file=tmp_path / "known.extxyz"), water(0))


@pytest.mark.slow
def test_forces_of_a_method_are_not_used(tmp_path):
    settings = LabelSettings(method="tests.support.faulty_calculators:Springs", energies_only=True)
    (labeled,) = label_round([water(0)], settings, tmp_path)
    assert labeled.has_energy
    assert not labeled.has_forces


@pytest.mark.slow
def test_a_method_without_forces_says_what_to_set(tmp_path):
    method = {"method": "tests.support.faulty_calculators:EnergyOnly"}
    with pytest.raises(DataError, match=r"returns energies without forces: set labels\.energies_only: true"):
        label_round([water(0)], LabelSettings(**method), tmp_path / "refused")
    labeled = label_round([water(0)], LabelSettings(**method, energies_only=True), tmp_path / "labeled")
    assert len(checked_labels(labeled, None, energies_only=True).frames) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {**ENERGIES, "teacher": {"init_from": "scratch"}},
            "labels.energies_only needs a model to fine-tune: set teacher",
        ),
        ({**ENERGIES, "teacher": {"members": 2}}, "teacher.members has no effect with labels.energies_only"),
    ],
)
def test_settings_that_contradict_each_other(settings, message):
    with pytest.raises(ConfigError, match=message):
        LearnSettings(**settings)


def test_the_plan(tmp_path):
    start = trained_file(tmp_path / "start.pt")
    lines = plan_learning(molecule("H2O"), config={**ENERGIES, "teacher": {"init_from": str(start)}, "minutes": 60})
    assert "teachers   a model, fitted by least squares to energies without forces" in lines
    assert any("trained for 36 min" in line for line in lines)  # 0.6 of all time
    with pytest.raises(
        ConfigError, match="needs a model to fine-tune, but the teachers start from random weights, because"
    ):
        plan_learning(molecule("SiH4"), config=ENERGIES)


@pytest.mark.slow
def test_the_teacher_is_fitted_and_its_errors_are_those_of_energies(tmp_path):
    start = trained_file(tmp_path / "start.pt", channels=8, layers=1)
    frames = [water(seed, -76.0 + 0.05 * np.sin(seed)) for seed in range(14)]
    settings = LearnSettings(**ENERGIES, teacher={"init_from": str(start)})
    teachers = train_teachers(frames, settings, start, 1.0, tmp_path, progress=False)
    assert load_trained(teachers.models[0]).training["start"]["method"] == "gauss_newton"
    assert len(teachers.models) == 1
    errors = errors_on(teachers.models, teachers.held_back)
    assert np.isfinite(errors.energy_mae)
    assert errors.force_mae is None
    again = train_teachers(frames, settings, start, 1.0, tmp_path, progress=False)  # after an interruption
    assert again.models == teachers.models


def test_the_report_shows_errors_of_energies():
    summary = LearnSummary(
        name="water", formula="H2O", method="pyscf:ccsd(t)/sto-3g", budget=20, start="fine-tune start.pt",
        rounds=[RoundRecord(number=1, labels=20, chosen=20, energy_mae=0.0123)],
        students=[StudentRecord(number=1, frames=100, energy_mae=0.0234, teacher_force_mae=0.01)],
        held_back=3, labels=20, result="interrupted",
    )  # fmt: skip
    page = render_report(summary, LearnSettings(**ENERGIES), "water")
    assert "energy error, teachers" in page
    assert "12.3 meV" in page
    assert "23.4 meV" in page
    assert "Energy error by the number of labels" in page
    assert "energy MAE [meV]" in page
    assert "force error" not in page
    assert "back: energy MAE" in page
    assert "New: force MAE" not in page
