"""Quantities of the caller, beside those of piwsl."""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from examples import own_quantity
from examples.own_quantity import EndToEndDistance
from piwsl.analysis import (
    Frames,
    Observable,
    Quantity,
    QuantityComparison,
    Reference,
    Sample,
    ScalarQuantity,
    analyze,
    compare_run,
    read_reference_statistics,
    read_run,
)
from piwsl.analysis.reference_statistics import save_statistics
from piwsl.analysis.statistics.results import Measurement
from piwsl.errors import ConfigError
from tests.support import run_directories as runs

QUANTITY = EndToEndDistance()


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference.of_frames("mine", runs.ETHANOL.numbers, runs.shaking(800, seed=100), 50.0 * np.arange(800))


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return runs.write_run(tmp_path_factory.mktemp("own") / "run", runs.shaking(600, seed=1))


@pytest.mark.slow
def test_it_is_in_table_json_csv_and_report(path, reference, tmp_path):
    analysis = analyze(path, reference=reference, quantities=[QUANTITY], output=tmp_path / "out")
    positions = read_run(path).frames.all()
    expected = np.linalg.norm(positions[:, 2] - positions[:, 0], axis=1).mean()
    (row,) = [line for line in analysis.rows if line.key == "end_to_end"]
    assert row.cells[0].run.value == pytest.approx(expected, abs=1e-5)
    assert row.cells[0].agrees is not None
    numbers = json.loads((tmp_path / "out" / "analysis.json").read_text())
    assert numbers["observables"]["end_to_end"]["run"]["value"] == pytest.approx(expected, abs=1e-5)
    assert "end_to_end.distribution" in numbers["within_noise"]
    for name in ("observables.csv", "curves.csv"):
        with (tmp_path / "out" / name).open(newline="") as stream:
            assert "end_to_end" in {line["key"] for line in csv.DictReader(stream)}, name
    assert "End-to-end distance" in (tmp_path / "out" / "report.html").read_text()
    assert (tmp_path / "out" / "figures" / "end_to_end.svg").is_file()


@pytest.mark.slow
def test_the_example_runs(path, tmp_path, monkeypatch, capsys):
    runs.write_run(tmp_path / "other", runs.shaking(300, seed=2))
    monkeypatch.setattr("sys.argv", ["own_quantity.py", str(path), str(tmp_path / "other")])
    own_quantity.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Stable for all 30 ps.")
    assert lines[1].startswith("end-to-end distance: 2.")


@pytest.mark.slow
def test_a_longer_molecule_differs(reference, tmp_path):
    longer = runs.ETHANOL.copy()
    longer.set_distance(0, 2, longer.get_distance(0, 2) + 0.03, fix=0)
    positions = runs.shaking(1500, seed=3, atoms=longer)
    run = read_run(runs.write_run(tmp_path / "run", positions))
    comparison = compare_run(run, reference, quantities=[QUANTITY])
    assert comparison["end_to_end"].difference.agrees is False
    assert comparison["end_to_end"].distribution.difference.agrees is False


@pytest.mark.slow
def test_statistics_are_saved_and_loaded(path, reference, tmp_path):
    save_statistics(reference.measured([QUANTITY]), tmp_path / "r.npz", [QUANTITY])
    loaded = read_reference_statistics(tmp_path / "r.npz", [QUANTITY])
    run = read_run(path)
    ours, theirs = (compare_run(run, side, quantities=[QUANTITY]).as_dict() for side in (reference, loaded))
    assert ours == theirs


@pytest.mark.slow
def test_a_reference_without_it_leaves_the_value_of_the_run(path, reference, tmp_path):
    reference.save_statistics(tmp_path / "r.npz")
    analysis = analyze(path, reference=tmp_path / "r.npz", quantities=[QUANTITY])
    (row,) = [line for line in analysis.rows if line.key == "end_to_end"]
    assert row.cells[0].run is not None
    assert row.cells[0].difference is None


@dataclass(frozen=True)
class Count:
    """Frames and a table by name, as a quantity may keep them."""

    frames: int
    by_name: dict[str, float]


class CountCollector:
    def __init__(self) -> None:
        self._frames = 0

    def add(self, frames: Frames) -> None:
        self._frames += len(frames)

    def statistics(self) -> Count:
        return Count(self._frames, {"twice": 2.0 * self._frames})


class FrameCount(Quantity[Count]):
    """A quantity with statistics of its own type, which needs the reference."""

    key = "count"
    statistics = Count

    def collector(self, sample: Sample) -> CountCollector:
        return CountCollector()

    def compare(self, run: Count, reference: Count | None, sample: Sample) -> QuantityComparison[Count]:
        assert reference is not None
        sides = (Measurement(float(side.by_name["twice"]), None, "", side.frames) for side in (run, reference))
        plain: Mapping[str, int] = {"counted": run.frames}
        return QuantityComparison(self.key, run, [Observable("count", "Frames twice", *sides)], plain=plain)


@pytest.mark.slow
def test_any_statistics_can_be_kept(path, reference, tmp_path):
    save_statistics(reference.measured([FrameCount()]), tmp_path / "r.npz", [FrameCount()])
    loaded = read_reference_statistics(tmp_path / "r.npz", [FrameCount()])
    assert loaded.measured["count"] == Count(800, {"twice": 1600.0})
    comparison = compare_run(read_run(path), loaded, quantities=[FrameCount()])
    assert comparison["count"].frames == 600
    assert comparison.as_dict()["counted"] == 600
    (row,) = [row for row in comparison.observables if row.key == "count"]
    assert (row.run.value, row.reference.value) == (1200.0, 1600.0)
    plain = compare_run(read_run(path), reference.statistics, quantities=[FrameCount()])
    assert "count" not in plain
    assert "mine contains no statistics of count, which is not compared" in plain.notes


class OneNumber(ScalarQuantity):
    key = "one"
    title = "One number"

    def values(self, frames: Frames, sample: Sample) -> np.ndarray:
        return np.zeros(3)


def test_mistakes_are_one_line(path, reference):
    with pytest.raises(ConfigError, match="EndToEndDistance is not an instance of a class derived from Quantity"):
        analyze(path, reference=reference, quantities=[EndToEndDistance])
    with pytest.raises(ConfigError, match="the key 'end_to_end' is already used"):
        analyze(path, reference=reference, quantities=[QUANTITY, EndToEndDistance()])
    with pytest.raises(ConfigError, match=r"'one': values of shape \(3,\) for 800 frames: return one number per frame"):
        analyze(path, reference=reference, quantities=[OneNumber()])
