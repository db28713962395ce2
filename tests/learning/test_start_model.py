"""The model that learning starts from, and the network of the teachers."""

import numpy as np
import pytest
from ase.build import bulk, molecule

import piwsl
from piwsl.data.frames import FrameSet
from piwsl.data.systems import named_system
from piwsl.data.write import write_frames
from piwsl.errors import ConfigError, ElementError
from piwsl.learning.inputs import structure_of_labels
from piwsl.learning.learn import plan_learning
from piwsl.learning.settings import LearnSettings
from piwsl.learning.start_model import choose_start
from piwsl.learning.teacher import teacher_training
from piwsl.learning.verify import reference_for
from tests.support.models_for_tests import trained_file
from tests.support.molecules import frame


def test_a_trained_file_is_used_where_its_elements_fit(tmp_path):
    model = trained_file(tmp_path / "model.pt")
    assert choose_start(str(model), molecule("CH3CH2OH"), tmp_path).path == model
    with pytest.raises(ElementError, match="was not trained on N"):
        choose_start(str(model), molecule("CH3CN"), tmp_path)


@pytest.mark.parametrize(
    ("structure", "reason"),
    [(bulk("NaCl", "rocksalt", 5.6), "made for molecules"), (molecule("SiH4"), "not trained on Si")],
)
def test_where_no_foundation_model_fits_the_reason_is_given(structure, reason, tmp_path):
    start = choose_start("auto", structure, tmp_path)
    assert start.path is None
    assert reason in start.text


def test_random_weights_can_be_requested(tmp_path):
    assert choose_start("scratch", molecule("H2O"), tmp_path).path is None


def test_without_the_weights_of_so3lr_the_install_line_is_given(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", [])  # no distribution is found
    with pytest.raises(ConfigError, match="pip install --no-deps so3krates-torch"):
        choose_start("auto", molecule("H2O"), tmp_path)


def test_the_network_of_the_teachers(tmp_path):
    scratch = LearnSettings()
    assert teacher_training(scratch, None, False)["model"] == {
        "network": "ace",
        "channels": 128,
        "layers": 2,
        "radial_size": 8,
    }
    assert "model" not in teacher_training(scratch, None, True)
    painn = LearnSettings(teacher={"training": {"model": {"network": "painn", "layers": 2}}})
    assert teacher_training(painn, None, False)["model"] == {"network": "painn", "layers": 2}
    start = trained_file(tmp_path / "start.pt")
    assert "model" not in {key for key, value in teacher_training(scratch, start, False).items() if value}


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("scratch", r"teacher\.training: model\.heads = 2: network ace has no option heads"),
        ("file", r"teacher\.training: model\.hidden_degrees = \[0\]: network painn has no option hidden_degrees"),
    ],
)
def test_options_that_the_network_of_the_teachers_lacks(tmp_path, start, message):
    if start == "file":
        start = str(trained_file(tmp_path / "start.pt"))
    options = {"scratch": {"heads": 2}}.get(start, {"hidden_degrees": [0]})
    settings = {"teacher": {"init_from": start, "training": {"model": options}}}
    with pytest.raises(ConfigError, match=message):
        piwsl.learn(molecule("H2O"), config=settings, output=tmp_path / "job")
    assert not list((tmp_path / "job").glob("*.yaml"))  # no job has begun


def test_labels_give_the_structure_and_need_no_method(tmp_path):
    waters = [frame("H2O", seed=seed, labeled=True) for seed in range(4)]
    lowest = min(waters, key=lambda one: one.energy)
    write_frames(FrameSet(waters), tmp_path / "few.extxyz")
    settings = LearnSettings(labels={"file": tmp_path / "few.extxyz", "budget": 0, "method": "no-such-method"})
    scratch = {"teacher.init_from": "scratch"}
    assert "H2O, 3 atoms" in plan_learning(config=settings, options=scratch)[0]
    assert f"labels     those in {tmp_path / 'few.extxyz'}" in plan_learning(config=settings, options=scratch)
    assert settings.method is None
    # Labels of an unknown method are not compared with the bundled trajectory of another method.
    given = LearnSettings(labels={"file": tmp_path / "few.extxyz", "budget": 0})
    aspirin = named_system("aspirin").structure
    assert reference_for(given, aspirin, "aspirin", []) is None
    assert reference_for(LearnSettings(), aspirin, "aspirin", []) is not None
    # A file named aspirin.xyz may contain anything.
    assert reference_for(LearnSettings(), aspirin[::-1], "aspirin", []) is None
    found = structure_of_labels(settings.labels)
    assert np.allclose(found.positions, lowest.positions)
    write_frames(FrameSet([*waters, frame("CH4", labeled=True)]), tmp_path / "two.extxyz")
    with pytest.raises(ConfigError, match=r"no structure: give one, because the frames of .* different compositions"):
        plan_learning(config=settings, options={**scratch, "labels.file": str(tmp_path / "two.extxyz")})
