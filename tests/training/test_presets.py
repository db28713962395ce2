"""Presets: coefficients that the configuration leaves empty follow from the model and the teacher."""

import pytest

from piwsl.runs.config import validate
from piwsl.training.config import TrainingConfig, load_config
from piwsl.training.directory import stored_config
from piwsl.training.preflight import plan_run
from piwsl.training.presets import PRESETS, chosen_preset, loss_line, resolved, with_coefficients
from piwsl.training.run import run_training
from tests.support.models_for_tests import trained_file

OFF = {"pitc": 0.0, "pisc": 0.0, "teacher_forces": 0.0}


def coefficients(**sections):
    config = with_coefficients(validate(TrainingConfig, sections, "test"))
    return {name: getattr(config.loss, name) for name in OFF}


def test_conservative_forces_need_no_consistency_term():
    assert coefficients() == OFF


def test_direct_forces_are_coupled_to_the_energy():
    assert coefficients(model={"forces": "direct"}) == {**OFF, "pitc": 100.0}


def test_a_teacher_replaces_forces(tmp_path):
    for forces in ("conservative", "direct"):
        found = coefficients(teacher={"file": str(tmp_path / "model.pt")}, model={"forces": forces})
        assert found == {**OFF, "teacher_forces": 10.0}


@pytest.mark.parametrize("name", PRESETS)
def test_a_named_preset_does_not_depend_on_the_model(name):
    for forces in ("conservative", "direct"):
        assert coefficients(loss={"preset": name}, model={"forces": forces}) == PRESETS[name]


def test_numbers_take_precedence():
    found = coefficients(loss={"pitc": 0, "pisc": 0.5}, model={"forces": "direct"})
    assert found == {**OFF, "pisc": 0.5}
    schedule = {"first": 0, "last": 2}
    assert coefficients(loss={"pitc": schedule})["pitc"].last == 2.0


def test_a_start_with_direct_forces_selects_the_preset(tmp_path):
    start = trained_file(tmp_path / "start.pt", channels=8, forces="direct")
    config = load_config(None, [f"start.init_from={start}"])
    assert chosen_preset(config) == "plain"
    assert resolved(config).loss.pitc == 100.0
    # A conservative model that starts from it has no use for PITC.
    config = load_config(None, [f"start.init_from={start}", "model.forces=conservative"])
    assert resolved(config).loss.pitc == 0.0


def test_the_line_names_terms_and_preset():
    config = with_coefficients(load_config(None, ["model.forces=direct", "loss.energy=2"]))
    assert loss_line(config) == ("loss: energy 2, forces 100, pitc 100 (preset direct: PITC reduces the energy error)")
    config = with_coefficients(load_config(None, ["loss.pitc={first: 0, last: 2}", "loss.contrast=0.1"]))
    assert loss_line(config) == "loss: energy 1, forces 100, pitc 0 to 2, contrast 0.1"


def test_a_run_stores_and_prints_its_coefficients(small, tmp_path):
    overrides = ("loss.pitc=null", "loss.pisc=null", "model.forces=direct", "optimizer.steps=2")
    plan = plan_run(small(*overrides), tmp_path / "run")
    assert any(line.split() == ["loss", "energy", "1,", "forces", "100,", "pitc", "100"] for line in _short(plan.lines))
    run_training(small(*overrides), tmp_path / "run")
    stored = stored_config(tmp_path / "run").loss
    assert (stored.preset, stored.pitc, stored.pisc, stored.teacher_forces) == ("auto", 100.0, 0.0, 0.0)
    assert "loss: energy 1, forces 100, pitc 100 (preset direct" in (tmp_path / "run" / "train.log").read_text()
    run_training(small(*overrides), tmp_path / "run", resume=True)


def _short(lines):
    return [line.partition(" (")[0] for line in lines]
