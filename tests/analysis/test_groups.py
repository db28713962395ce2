import json

import numpy as np
import pytest

from piwsl.analysis.groups import Row, RunGroup, mean_of, side_by_side
from piwsl.analysis.statistics.results import Measurement
from piwsl.analysis.verdict import verdict_of
from tests.support import made_up
from tests.support import run_directories as runs


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    path = tmp_path_factory.mktemp("groups")
    broken = runs.shaking(200, seed=3)
    broken[60:, 8] += 4
    members = tuple(
        made_up.comparison(path / str(seed), positions)
        for seed, positions in enumerate((runs.shaking(200, seed=5), runs.shaking(200, seed=6), broken))
    )
    return made_up.single(path / "one"), RunGroup("three", members, (made_up.survival(),))


def test_a_single_run_keeps_its_numbers(groups):
    one = groups[0]
    for row, observable in zip(one.rows, one.members[0].observables, strict=True):
        assert (row.key, row.run, row.reference) == (observable.key, observable.run, observable.reference)
        assert row.agrees is observable.agrees
        if observable.difference is not None:
            assert row.difference is observable.difference.measured
            assert row.threshold == observable.difference.threshold


def test_replicas_have_the_mean_and_the_error_of_their_spread(groups):
    (row,) = [row for row in groups[1].rows if row.key == "bond.C-H.mean"]
    values = [member["bonds"][1].mean.value for member in groups[1].members]
    assert row.run.value == pytest.approx(np.mean(values))
    assert row.run.uncertainty == pytest.approx(np.std(values, ddof=1) / np.sqrt(3))
    assert row.run.samples == sum(member["bonds"][1].mean.samples for member in groups[1].members)
    assert row.judged == 3
    assert row.reference == groups[1].members[0]["bonds"][1].reference_mean


def test_spread_of_replicas_covers_the_truth():
    """95 of 100 intervals of Student's t with 4 degrees of freedom hold the mean."""
    random = np.random.default_rng(1)
    means = [mean_of([Measurement(value, 1.0, "K", 2) for value in random.normal(size=5)]) for _ in range(2000)]
    inside = np.mean([abs(one.value) < 2.776 * one.uncertainty for one in means])
    assert inside == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(
    ("judged", "agreeing", "verdict"),
    [(0, 0, None), (1, 1, True), (1, 0, False), (2, 1, True), (3, 1, False), (20, 17, True), (20, 16, False)],
)
def test_replicas_differ_where_more_do_than_chance(judged, agreeing, verdict):
    assert Row("key", "name", None, None, None, None, judged, agreeing).agrees is verdict


def test_side_by_side(groups):
    lines = {line.key: line for line in side_by_side(groups)}
    assert next(iter(lines)) == "stable_time"
    bond = lines["bond.C-O.mean"]
    assert [cell.run.samples > 0 for cell in bond.cells] == [True, True]
    assert bond.reference == groups[0].members[0]["bonds"][2].reference_mean
    assert lines["stable_time"].reference is None


def test_quantities_that_a_run_lacks_are_left_open(groups, tmp_path):
    broken = RunGroup("broken", (made_up.comparison(tmp_path / "run", 3 * runs.shaking(20, seed=1)),))
    lines = {line.key: line for line in side_by_side([groups[0], broken])}
    assert lines["bond.C-O.mean"].cells[1] is None
    assert lines["bond.C-O.mean"].reference is not None


def test_verdicts(groups):
    assert verdict_of(groups[0])[0] == "Stable for all 25 ps."
    stability, agreement = verdict_of(groups[1])
    assert stability == "2 of 3 replicas stable; the first to break did so at 3.05 ps."
    assert agreement.endswith("observables agree with the reference within noise.")
    assert verdict_of(RunGroup("two", groups[1].members[:2]))[0] == "All 2 replicas stable, for 10 ps or longer."


def test_json(groups):
    one, three = (json.loads(json.dumps(group.as_dict(), allow_nan=False)) for group in groups)
    assert one["name"] == "one"
    assert one["format"] == "piwsl-analysis"
    assert three["format"] == "piwsl-analysis-replicas"
    assert (three["stable"], three["stable_replicas"], len(three["replicas"])) == (False, 2, 3)
    assert three["observables"]["bond.C-H.mean"]["judged"] == 3
    assert list(three["curves"]) == ["survival"]
