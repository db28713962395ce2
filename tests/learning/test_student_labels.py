"""Labels of the reference method in the dynamics of a student."""

from dataclasses import replace

import numpy as np
import pytest

from piwsl.data.frames import Frame, FrameSet
from piwsl.data.read import read_frames
from piwsl.interfaces.ase import PiwslCalculator
from piwsl.learning.directory import (
    LearnSummary,
    RoundRecord,
    StudentLabelsRecord,
    StudentRecord,
    SurvivalRecord,
)
from piwsl.learning.labels import LabelsMissingError
from piwsl.learning.report import render_report
from piwsl.learning.settings import LabelSettings, LearnSettings
from piwsl.learning.student_labels import MeanError, judge_student, label_dynamics, spread_frames
from piwsl.learning.verdict import verdict_of
from tests.support.models_for_tests import trained_file
from tests.support.molecules import frame

SPRINGS = "tests.support.faulty_calculators:Springs"


def marked(count: int) -> list[Frame]:
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


@pytest.mark.parametrize("count", [2, 4, 5, 10, 16, 20, 32, 40, 100])
def test_frames_are_spread_over_replicas_and_times(count):
    one = marked(1)[0]
    replicas = [[replace(one, energy=1000.0 * replica + time) for time in range(1000)] for replica in range(32)]
    marks = [divmod(int(chosen.energy), 1000) for chosen in spread_frames(replicas, count)]
    assert len(set(marks)) == count
    assert len({replica for replica, _ in marks}) == min(count, 32)
    times = np.sort([time for _, time in marks])
    assert times[0] >= 200  # after equilibration
    gaps = np.diff(np.concatenate([[200], times, [1000]])) * count / 800
    assert gaps.max() < 2.7  # of an even distribution: 1


def test_short_dynamics_gives_each_frame_once():
    assert [one.positions[0, 0] for one in spread_frames([marked(2)], 5)] in ([0, 1], [1, 0])


@pytest.mark.slow
def test_errors_are_those_on_all_usable_labels(tmp_path, student):
    # The springs pull far atoms with more than 50 eV/A, which would be set aside in a round.
    replicas = [marked(80)[40:], marked(160)[120:]]
    settings = LabelSettings(method=SPRINGS, options={"fail": list(range(100))})
    labeled = label_dynamics(replicas, 4, settings, tmp_path / "own", False)
    record = judge_student(student, labeled, FrameSet([one for one in labeled if one.has_energy]))
    assert (record.bought, record.labels) == (4, 2)
    assert [note.partition(": ")[0] for note in record.failed] == ["structure 0", "structure 2"]
    usable = [one for one in labeled if one.has_energy]
    calculator = PiwslCalculator(student)
    expected = [np.abs(calculator.get_forces(one.atoms()) + one.positions) for one in usable]
    assert np.abs(usable[-1].forces).max() > 100
    assert record.force_mae == pytest.approx(np.mean(expected), rel=1e-4)
    assert list(record.force_mae_by_atom.values()) == pytest.approx(np.mean(expected, (0, 2)), rel=1e-4)
    energies = [calculator.get_potential_energy(one.atoms()) - 0.5 * np.square(one.positions).sum() for one in usable]
    assert record.energy_mae == pytest.approx(np.abs(energies).mean(), rel=1e-4)
    assert not record.exceeds


def test_an_error_that_is_larger_than_on_held_back_labels_is_noticed(student):
    held_back = PiwslCalculator(student)

    def labeled(error: float, seeds: range) -> FrameSet:
        # Labels that the user has already may be of several molecules.
        frames = [frame("H2O2" if seed > 14 else "H2O", seed=seed) for seed in seeds]
        shift = [error * (1 + 0.1 * (seed % 3)) for seed in seeds]
        return FrameSet(
            [
                replace(
                    one,
                    energy=held_back.get_potential_energy(one.atoms()) + shifted,
                    forces=held_back.get_forces(one.atoms()) + shifted,
                )
                for one, shifted in zip(frames, shift, strict=True)
            ]
        )

    assert judge_student(student, labeled(0.08, range(10)), labeled(0.04, range(10, 19))).exceeds
    assert not judge_student(student, labeled(0.05, range(10)), labeled(0.04, range(10, 19))).exceeds
    forceless = FrameSet([replace(one, forces=np.full((3, 3), np.nan)) for one in labeled(0.08, range(10))])
    record = judge_student(student, forceless, labeled(0.04, range(10, 19)), energies_only=True)
    assert record.exceeds
    assert record.force_mae is None


def test_an_uncertain_error_is_no_excess():
    assert MeanError.of(np.array([0.3, 0.3, 0.4])).clearly_exceeds(MeanError.of(np.array([0.1, 0.1, 0.2])))
    assert not MeanError.of(np.array([0.0, 0.1, 0.9])).clearly_exceeds(MeanError.of(np.array([0.1, 0.1, 0.2])))
    assert not MeanError.of(np.array([0.9])).clearly_exceeds(MeanError.of(np.array([0.1, 0.1, 0.2])))
    assert not MeanError(0.14, 0.001).clearly_exceeds(MeanError(0.1, 0.001))


@pytest.mark.slow
def test_an_interrupted_job_labels_the_same_structures_and_none_twice(tmp_path):
    settings = LabelSettings(method=SPRINGS, options={"log": str(tmp_path / "log"), "fail": [8]})
    first = label_dynamics([marked(20)], 2, settings, tmp_path / "own", False)
    again = label_dynamics([marked(19)], 2, settings, tmp_path / "own", False)
    assert [one.energy for one in again] == pytest.approx([one.energy for one in first], nan_ok=True)
    assert again.notes == first.notes
    assert sorted(map(int, (tmp_path / "log").read_text().split())) == [8, 18]  # a failure is not tried again


@pytest.mark.slow
def test_a_method_that_fails_everywhere_leaves_the_errors_unknown(tmp_path, student):
    settings = LabelSettings(method=SPRINGS, options={"fail": list(range(20))})
    labeled = label_dynamics([marked(20)], 2, settings, tmp_path / "own", False)
    record = judge_student(student, labeled, FrameSet([]))
    assert (record.bought, record.labels, len(record.failed)) == (2, 0, 2)
    made = summary(record)
    assert made.verdict.startswith("stable, but its errors in its own dynamics are unknown: 1 of 1 replicas intact")
    assert "no label of 2 succeeded in its own dynamics" in made.verdict
    assert not made.verified


def test_the_user_is_asked_for_labels(tmp_path):
    settings = LabelSettings(method="file")
    with pytest.raises(LabelsMissingError) as missing:
        label_dynamics([marked(20)], 3, settings, tmp_path / "own", False)
    assert len(read_frames(missing.value.structures)) == 3


SURVIVAL = SurvivalRecord(temperature=500, picoseconds=50, times=[50.0], survived=1)


def summary(record: StudentLabelsRecord) -> LearnSummary:
    """Return the summary of a job whose student is stable."""
    made = LearnSummary(
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
        student_labels=record,
    )
    made.verdict = verdict_of(made)
    return made


@pytest.mark.parametrize(
    ("exceeds", "verdict"), [(False, "stable: "), (True, "stable, but less accurate in its own dynamics: ")]
)
def test_a_larger_error_in_its_own_dynamics_is_the_verdict(exceeds, verdict):
    record = StudentLabelsRecord(
        bought=11,
        labels=10,
        failed=["structure 2: no"],
        energy_mae=0.012,
        force_mae=0.029,
        force_mae_by_atom={"O0": 0.03},
        exceeds=exceeds,
    )
    made = summary(record)
    facts = (
        "1 of 1 replicas intact after 50 ps at 500 K, 20.0 meV/A on 9 held-back labels, 29.0 meV/A on 10 labels in its"
    )
    assert made.verdict.startswith(verdict + facts)
    assert made.verified is not exceeds
    page = render_report(made, LearnSettings(), "water")
    assert "the MAE is 12.0 meV and 29.0 meV/Å" in page
    assert "10 labels in its dynamics" in page
    assert "structure 2: no" in page
    assert "reference method" in page
    assert ('class="verdict unstable"' in page) is exceeds
