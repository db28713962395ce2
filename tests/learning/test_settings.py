"""Settings of a learning job: shares of the budget and of the time, and mistakes."""

import pytest
import yaml

from piwsl.errors import ConfigError
from piwsl.learning.settings import LearnSettings, load_learn_settings, template


@pytest.mark.parametrize(("budget", "rounds"), [(100, 3), (101, 3), (50, 4), (20, 1), (37, 5)])
def test_the_rounds_use_the_whole_budget(budget, rounds):
    settings = load_learn_settings(None, [f"labels.budget={budget}", f"labels.rounds={rounds}"])
    counts = [settings.labels_of(number) for number in range(1, settings.rounds + 1)]
    assert settings.student_labels == round(0.1 * budget)
    assert sum(counts) == budget - settings.student_labels
    assert counts[0] == (sum(counts) if rounds == 1 else round(0.5 * budget))
    assert max(counts[1:], default=0) - min(counts[1:], default=0) <= 1


@pytest.mark.parametrize(
    ("budget", "options", "rounds", "student"),
    [
        (10, ["labels.rounds=1"], [10], 0),  # a first model needs ten
        (11, ["labels.rounds=1", "labels.student_share=0.5"], [10], 1),
        (11, ["labels.rounds=1", "labels.student_share=0.5", "labels.file=few.xyz"], [5], 6),
        (40, ["labels.first_share=1"], [36], 4),  # no round without labels
        (40, ["labels.first_share=0.9", "labels.student_share=0.3"], [36, 0, 0], 4),
        (1, ["labels.file=few.xyz"], [1], 0),
    ],
)
def test_labels_for_the_student_leave_the_first_model_its_own(budget, options, rounds, student):
    settings = load_learn_settings(None, [f"labels.budget={budget}", *options])
    assert [settings.labels_of(number) for number in range(1, settings.rounds + 1)] == rounds
    assert settings.student_labels == student


@pytest.mark.parametrize("rounds", [1, 2, 5])
@pytest.mark.parametrize("attempts", [1, 3])
def test_the_trainings_use_the_whole_time(rounds, attempts):
    settings = load_learn_settings(None, [f"labels.rounds={rounds}", f"student.attempts={attempts}", "minutes=90"])
    teachers = sum(settings.teacher_minutes(number) for number in range(1, rounds + 1))
    students = sum(settings.student_minutes(number) for number in range(1, attempts + 1))
    assert (teachers, students) == (pytest.approx(45), pytest.approx(45))


def test_without_labels_to_compute_there_is_one_round():
    settings = load_learn_settings(None, ["labels.budget=0", "labels.file=labels.xyz"])
    assert (settings.rounds, settings.labels_of(1), settings.student_labels) == (1, 0, 0)


def test_the_template_contains_the_defaults():
    values = yaml.safe_load(template())
    assert load_learn_settings(None, base=values) == LearnSettings()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("labels.budgt=10", r"unknown key labels\.budgt: did you mean labels\.budget"),
        ("labels.budget=0", "labels.budget is 0 and no labels exist"),
        ("teacher.training.optimizer.stepz=4", r"teacher\.training: .*optimizer\.stepz.*optimizer\.steps"),
        ("student.training.data.file=x", r"student\.training\.data: the job chooses the frames"),
        ("explore.temperature_factors=[]", "temperature_factors"),
        ("explore.temperature_factors=[1, 0]", "temperature_factors"),
        ("minutes=-1", "minutes = -1"),
    ],
)
def test_mistakes_are_one_line(override, message):
    with pytest.raises(ConfigError, match=message) as error:
        load_learn_settings(None, [override])
    assert "\n" not in str(error.value)


def test_workers_and_scheduler_exclude_each_other():
    with pytest.raises(ConfigError, match=r"labels\.workers has no effect"):
        load_learn_settings(None, ["labels.workers=2", "labels.scheduler=tcp://x:1"])
