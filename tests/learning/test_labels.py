"""Labels of a learning job: checks, failures, and labels of the user."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule

from piwsl.data.frames import Frame, FrameSet
from piwsl.data.read import read_frames
from piwsl.data.write import write_frames
from piwsl.errors import ConfigError, DataError
from piwsl.learning.labels import LabelsMissingError, checked_labels, existing_labels, label_round
from piwsl.learning.settings import LabelSettings

SPRINGS = "tests.support.faulty_calculators:Springs"


def water(place: float = 0.0, energy: float = np.nan, force: float | None = None) -> Frame:
    atoms = molecule("H2O")
    atoms.positions += [place - atoms.positions[0, 0], 0, 0]
    forces = None if force is None else np.full((3, 3), force)
    return Frame.from_atoms(atoms, energy, forces)


@pytest.mark.slow
def test_failures_cost_no_second_label_unless_nothing_succeeded(tmp_path):
    log = tmp_path / "log"
    settings = LabelSettings(method=SPRINGS, options={"fail": [1], "log": str(log)})
    for _ in range(2):
        labeled = label_round([water(0), water(1)], settings, tmp_path / "some")
        assert [frame.has_energy for frame in labeled] == [True, False]
        assert labeled.notes[0].startswith("structure 1: ")
    assert sorted(log.read_text().split()) == ["0", "1"]
    for tries in (1, 2):
        labeled = label_round([water(1)], settings, tmp_path / "none")
        assert not labeled[0].has_energy
        assert labeled.notes[0].startswith("structure 0: ")
        assert log.read_text().split().count("1") == 1 + tries


@pytest.mark.slow
def test_a_failed_calculation_is_reported_and_not_repeated_in_the_result(tmp_path):
    settings = LabelSettings(method=SPRINGS, options={"fail": [1]})
    labeled = label_round([water(0), water(1), water(2)], settings, tmp_path)
    checked = checked_labels(labeled, None)
    assert (len(checked.frames), checked.bought) == (2, 3)
    assert len(checked.reasons) == 1
    assert checked.reasons[0].startswith("structure 1: ")


def test_absurd_labels_are_set_aside():
    frames = [water(i, -10.0 + 0.01 * i, 0.1) for i in range(8)]
    frames[3] = water(3, -10.0, 60.0)  # |F| = 104 eV/A
    frames[5] = water(5, 20.0, 0.1)
    checked = checked_labels(FrameSet(frames), np.full(8, -7.0))
    assert len(checked.frames) == 6
    assert len(checked.set_aside) == 2
    assert "structure 3: set aside: a force of 104 eV/A" in checked.reasons[0]
    assert "structure 5: set aside: an energy 30.0 eV from the prediction" in checked.reasons[1]


def test_a_constant_shift_of_the_energies_is_no_reason():
    frames = [water(i, -1000.0 + 0.3 * i, 0.1) for i in range(8)]
    assert len(checked_labels(FrameSet(frames), np.zeros(8)).frames) == 8


def test_the_user_labels_a_file(tmp_path):
    settings = LabelSettings(method="file")
    frames = [water(0), water(1)]
    with pytest.raises(LabelsMissingError) as missing:
        label_round(frames, settings, tmp_path)
    written = read_frames(missing.value.structures)
    assert [frame.positions[0, 0] for frame in written] == pytest.approx([0, 1], abs=1e-6)
    labeled = FrameSet([water(0, -1.0, 0.1), water(1, -2.0, 0.1)])
    write_frames(labeled, missing.value.structures, force=True)
    with pytest.raises(LabelsMissingError):
        label_round(frames, settings, tmp_path)
    assert read_frames(missing.value.structures)[1].has_energy  # labels in the wrong file are not lost
    write_frames(labeled, missing.value.expected)
    assert [frame.energy for frame in label_round(frames, settings, tmp_path)] == [-1.0, -2.0]


def test_charge_and_cell_are_those_of_the_requested_structures(tmp_path):
    settings = LabelSettings(method="file")
    asked = replace(water(0), charge=1.0, cell=9.0 * np.eye(3), pbc=(True, True, True))
    expected = tmp_path / "labeled.extxyz"
    write_frames(FrameSet([water(0, -1.0, 0.1)]), expected)
    (labeled,) = label_round([asked], settings, tmp_path)
    assert (labeled.charge, labeled.pbc, labeled.cell[0, 0]) == (1.0, (True, True, True), 9.0)
    assert labeled.has_forces
    for change in ({"charge": 0.0}, {"charge": 1.0, "cell": 8.0 * np.eye(3)}):
        write_frames(FrameSet([replace(asked, energy=-1.0, **change)]), expected, force=True)
        with pytest.raises(DataError, match=r"frame 0 states another charge, spin or cell than .*to_label"):
            label_round([asked], settings, tmp_path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([water(0, -1.0, 0.1)], "contains 1 frames, but .* contains 2"),
        ([water(1, -1.0, 0.1), water(0, -2.0, 0.1)], "frame 0 is not the structure"),
        ([water(0), water(1)], "no frame has an energy and forces"),
    ],
)
def test_labels_of_the_user_that_do_not_fit_are_refused(tmp_path, given, message):
    settings = LabelSettings(method="file")
    with pytest.raises(LabelsMissingError) as missing:
        label_round([water(0), water(1)], settings, tmp_path)
    write_frames(FrameSet(given), missing.value.expected)
    with pytest.raises(DataError, match=message):
        label_round([water(0), water(1)], settings, tmp_path)


def test_existing_labels_need_forces_and_the_same_elements(tmp_path):
    path = tmp_path / "labels.extxyz"
    write_frames(FrameSet([water(0, -1.0, 0.1), water(1, -1.0)]), path)
    with pytest.raises(DataError, match="frame 1 lacks an energy or forces"):
        existing_labels(LabelSettings(file=path), water())
    write_frames(FrameSet([water(0, -1.0, 0.1)]), path, force=True)
    assert len(existing_labels(LabelSettings(file=path), water())) == 1
    with pytest.raises(ConfigError, match="elements differ"):
        existing_labels(LabelSettings(file=path), Frame.from_atoms(molecule("CH4")))
