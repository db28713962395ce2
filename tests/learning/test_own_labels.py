"""Labels of the reference method in the dynamics of a student."""

import numpy as np
import pytest

from piwsl.data.frames import Frame
from piwsl.data.read import read_frames
from piwsl.errors import DataError
from piwsl.interfaces.ase import PiwslCalculator
from piwsl.learning.directory import LearnSummary, OwnLabelsRecord, RoundRecord, StudentRecord, SurvivalRecord
from piwsl.learning.labels import LabelsMissingError
from piwsl.learning.own_labels import label_own_dynamics
from piwsl.learning.report import render_report
from piwsl.learning.settings import LabelSettings, LearnSettings
from piwsl.learning.verdict import verdict_of
from tests.support.models_for_tests import trained_file
from tests.support.molecules import frame

SPRINGS = "tests.support.faulty_calculators:Springs"


def dynamics(count: int) -> list[Frame]:
    """Return water molecules, whose first atom is at x = 0, 1, 2, ..."""
    frames = []
    for place in range(count):
        atoms = frame("H2O", seed=place).atoms()
        atoms.positions[:, 0] += place - atoms.positions[0, 0]
        frames.append(Frame.from_atoms(atoms))
    return frames


@pytest.fixture
def student(tmp_path):
    return trained_file(tmp_path / "student.pt")


@pytest.mark.slow
def test_errors_are_those_on_evenly_spaced_frames_and_unusual_labels_count(tmp_path, student):
    # The springs pull far atoms with more than 50 eV/A, which would be set aside in a round.
    record, labeled = label_own_dynamics(
        student, dynamics(80), 4, LabelSettings(method=SPRINGS, options={"fail": [30]}), tmp_path / "own", False
    )
    assert [round(one.positions[0, 0]) for one in labeled] == [10, 50, 70]
    assert (record.bought, record.labels) == (4, 3)
    assert len(record.failed) == 1
    assert record.failed[0].startswith("structure 1: ")
    calculator = PiwslCalculator(student)
    expected = [np.abs(calculator.get_forces(one.atoms()) + one.positions) for one in labeled]
    assert np.abs(labeled[-1].forces).max() > 50
    assert record.force_mae == pytest.approx(np.mean(expected), rel=1e-4)
    assert list(record.force_mae_by_atom.values()) == pytest.approx(np.mean(expected, (0, 2)), rel=1e-4)
    energies = [calculator.get_potential_energy(one.atoms()) - 0.5 * np.square(one.positions).sum() for one in labeled]
    assert record.energy_mae == pytest.approx(np.abs(energies).mean(), rel=1e-4)


@pytest.mark.slow
def test_an_interrupted_job_labels_the_same_structures_and_none_twice(tmp_path, student):
    settings = LabelSettings(method=SPRINGS, options={"log": str(tmp_path / "log")})
    first, _ = label_own_dynamics(student, dynamics(20), 2, settings, tmp_path / "own", False)
    again, _ = label_own_dynamics(student, dynamics(19), 2, settings, tmp_path / "own", False)
    assert again == first
    assert (tmp_path / "log").read_text().split() == ["5", "15"]


@pytest.mark.slow
def test_a_method_that_fails_everywhere_is_one_line_with_the_structures(tmp_path, student):
    settings = LabelSettings(method=SPRINGS, options={"fail": list(range(20))})
    with pytest.raises(DataError, match=r"structures of the student's dynamics in .*chosen\.extxyz: no frame could be"):
        label_own_dynamics(student, dynamics(20), 2, settings, tmp_path / "own", False)


def test_the_user_is_asked_for_labels(tmp_path, student):
    settings = LabelSettings(method="file")
    with pytest.raises(LabelsMissingError) as missing:
        label_own_dynamics(student, dynamics(20), 3, settings, tmp_path / "own", False)
    assert len(read_frames(missing.value.structures)) == 3


def test_fewer_frames_than_labels_are_labeled_once_each(tmp_path, student):
    with pytest.raises(LabelsMissingError) as missing:
        label_own_dynamics(student, dynamics(2), 5, LabelSettings(method="file"), tmp_path / "own", False)
    assert len(read_frames(missing.value.structures)) == 2


SURVIVAL = SurvivalRecord(temperature=500, picoseconds=50, times=[50.0], survived=1)


@pytest.mark.parametrize(
    ("own", "verdict"),
    [
        (
            0.029,
            "stable: 1 of 1 replicas whole after 50 ps at 500 K, 20.0 meV/A on 9 held-back labels, 29.0 meV/A on 10",
        ),
        (
            0.031,
            "stable, but less accurate in its own dynamics: 1 of 1 replicas whole after 50 ps at 500 K, 20.0 meV/A",
        ),
    ],
)
def test_a_larger_error_in_its_own_dynamics_is_the_verdict(own, verdict):
    summary = LearnSummary(
        name="water",
        result="completed",
        held_back=9,
        budget=100,
        labels=100,
        rounds=[RoundRecord(number=1, labels=90, force_mae=0.015)],
        students=[
            StudentRecord(
                number=1,
                energy_mae=0.01,
                force_mae=0.020,
                survival=SURVIVAL,
                own_force_mae=0.012,
                largest_own_force_mae=0.015,
                own_force_mae_by_atom={"O0": 0.011, "H1": 0.013},
            )
        ],
        own_labels=OwnLabelsRecord(
            bought=11,
            labels=10,
            failed=["structure 2: no"],
            energy_mae=0.012,
            force_mae=own,
            force_mae_by_atom={"O0": own},
        ),
    )
    summary.verdict = verdict_of(summary)
    assert summary.verdict.startswith(verdict)
    assert summary.verified is summary.verdict.startswith("stable: ")
    page = render_report(summary, LearnSettings(), "water")
    assert f"the MAE is 12.0 meV and {1e3 * own:.1f} meV/Å" in page
    assert "10 labels in its dynamics" in page
    assert "structure 2: no" in page
    assert "reference method" in page
    assert ('class="verdict unstable"' in page) is not summary.verified


def test_energies_are_compared_where_labels_have_no_forces():
    student = StudentRecord(number=1, energy_mae=0.01)
    assert OwnLabelsRecord(energy_mae=0.016).exceeds(student)
    assert not OwnLabelsRecord(energy_mae=0.014).exceeds(student)
