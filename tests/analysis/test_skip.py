"""The start of a run that is left out, and runs that are too short for a verdict."""

import json
import shutil

import numpy as np
import pytest
import yaml

from piwsl.analysis import analyze, judge
from piwsl.analysis.compare_run import compare_run
from piwsl.analysis.reference import Reference
from piwsl.analysis.run_directory import read_run
from piwsl.analysis.skip import FEWEST_SAMPLES, _automatic, _Drift, coupling_time
from piwsl.analysis.statistics.equilibration import equilibration
from piwsl.errors import ConfigError
from piwsl.trajectories.frame_source import FrameSource

FRAMES = 400
TIMES = 50.0 * np.arange(FRAMES)


@pytest.fixture(scope="module")
def reference(runs):
    return Reference.of_frames("mine", runs.ETHANOL.numbers, runs.shaking(FRAMES, seed=100), TIMES)


@pytest.fixture
def hot_start(runs, tmp_path):
    """A run whose first 60 frames of 400 (3 ps of 20) are far too hot and too wide."""
    positions = runs.shaking(FRAMES, seed=1)
    positions[:60] = runs.shaking(60, seed=2, amplitude=0.06)
    thermo = runs.thermal_rows(FRAMES, 9, 500.0, seed=3)
    thermo[:60, 1:] *= 2.0
    thermo[:60, 0] += 1.0
    return runs.write_run(tmp_path / "run", positions, thermo=thermo)


@pytest.mark.slow
def test_a_hot_start_is_left_out_and_said(hot_start, reference):
    found = compare_run(read_run(hot_start), reference)
    assert 55 <= found.skip.frames <= 75
    assert found.skip.automatic
    note = found.notes[0]
    assert note.startswith("the first ")
    assert "are skipped: the " in note
    assert "higher there" in note
    assert "standard errors (choose with skip=PS)" in note
    rows = {row.key: row for row in found.observables}
    assert rows["bond.C-H.width"].agrees is True
    assert rows["temperature"].run.value == pytest.approx(500, rel=0.05)
    whole = compare_run(read_run(hot_start), reference, skip=0)
    assert whole.skip.frames == 0
    widths = [{row.key: row.run for row in entry.observables if row.run}["bond.C-H.width"] for entry in (whole, found)]
    assert widths[0].value > 1.1 * widths[1].value
    assert found.stability.time.value == whole.stability.time.value  # of the whole run
    assert found.as_dict()["skipped"]["frames"] == found.skip.frames


def test_the_choice_is_printed_in_any_case(runs, tmp_path, reference):
    run = read_run(runs.write_run(tmp_path / "run", runs.shaking(FRAMES, seed=5)))
    found = compare_run(run, reference)
    assert found.skip.frames == 0
    assert any("choose with skip=PS" in note for note in found.notes)


def test_a_run_with_few_independent_samples_cannot_exclude_a_drift():
    times = np.arange(200) * 0.75
    warming = 168.0 + 0.1 * times + np.random.default_rng(0).normal(scale=5.0, size=200)
    found = equilibration([-times, warming])
    assert found.start == 0
    assert found.samples < FEWEST_SAMPLES
    time, note = _automatic(_Drift(found, times))
    assert time == 0
    assert note.startswith("too few independent samples of the energies (")
    noise = np.random.default_rng(1).normal(size=(2, 200))
    assert _automatic(_Drift(equilibration(list(noise)), times))[1].startswith("no drift of energies")


def test_chosen_times_are_left_out(hot_start, reference):
    found = compare_run(read_run(hot_start), reference, skip=5.0)
    assert (found.skip.frames, found.skip.automatic) == (100, False)
    assert found.notes[0] == "the first 5 ps are skipped, as chosen"
    curves = {curve.key: curve for curve in found.curves}
    assert curves["rmsd"].run.x[0] == pytest.approx(5.05)
    for skip, message in ((20.0, "leaves no frame of a run that is stable for 20 ps"), (-1.0, "0 or more")):
        with pytest.raises(ConfigError, match=message):
            compare_run(read_run(hot_start), reference, skip=skip)
    with pytest.raises(ConfigError, match="0 or more"):
        compare_run(read_run(hot_start), reference, skip=np.nan)


def test_pieces_after_a_start_are_those_of_the_whole():
    positions = np.random.default_rng(0).normal(size=(2300, 2, 3))
    source = FrameSource.of_array(np.ones(2), positions, np.arange(2300.0))
    for skipped in (0, 1, 999, 1000, 1700, 2299):
        rest = source.after(skipped)
        assert np.array_equal(np.concatenate([piece for _, piece in rest.pieces()]), positions[skipped:])
        assert rest.times[0] == skipped
        assert len(rest) == 2300 - skipped


@pytest.mark.slow
def test_a_run_shorter_than_ten_times_its_thermostat_gets_no_verdict(hot_start, reference, tmp_path):
    config = {"ensemble": "nvt-langevin", "friction": 0.0005}  # 2 ps
    (hot_start / "config.yaml").write_text(yaml.safe_dump(config))
    analysis = analyze(hot_start, reference=reference, report=False, output=tmp_path / "out")
    assert "No verdict: " in analysis.verdict
    assert "less than 10 time constants of the thermostat or barostat, 2 ps" in analysis.verdict
    assert all(row.agrees is None for row in analysis.comparisons[0].observables)
    text = (tmp_path / "out" / "analysis.json").read_text()
    assert json.loads(text)["no_verdict"]
    assert '"within_noise": true' not in text
    assert '"within_noise": false' not in text
    other = shutil.copytree(hot_start, tmp_path / "other")
    assert analyze([hot_start, other], reference=reference).verdict.count("No verdict") == 2


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"ensemble": "nve"}, None),
        ({"ensemble": "nvt-langevin", "friction": 0.01}, 100.0),
        ({"ensemble": "nvt-csvr", "thermostat_time": 300.0}, 300.0),
        ({"ensemble": "npt", "friction": 0.01, "barostat_time": 1000.0}, 1000.0),
        ({"ensemble": "nvt-langevin", "friction": -1}, None),
        ({}, None),
    ],
)
def test_the_time_of_a_thermostat_comes_from_the_run(config, expected, tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert coupling_time(tmp_path) == expected


def test_a_few_correlated_frames_do_not_agree(runs, tmp_path, reference):
    """Frames 10 fs apart that hardly differ: nothing is within noise, because nothing can be told."""
    positions = runs.shaking(120, seed=8, memory=0.99)
    found = compare_run(read_run(runs.write_run(tmp_path / "run", positions, interval=20)), reference)
    rows = [row for row in found.observables if row.key.startswith(("bond.", "h_of_r", "angle."))]
    assert len([row for row in rows if row.agrees is True]) <= 0.05 * len(rows)
    assert "Too few independent samples" in judge(found).agreement or judge(found).undecided
