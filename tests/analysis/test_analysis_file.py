"""The typed content of analysis.json: everything that is written comes back."""

import json

import pytest

from piwsl.analysis import ScalarQuantity, analyze, read_analysis
from piwsl.analysis.analysis_file import AnalysisRecord, ReplicasRecord
from piwsl.analysis.groups import RunGroup
from piwsl.analysis.report import write_analysis
from piwsl.errors import DataError, RunDirectoryError
from tests.support import made_up
from tests.support import run_directories as runs

pytestmark = pytest.mark.slow


class Width(ScalarQuantity):
    key = "width"
    title = "Width"
    unit = "angstrom"

    def values(self, frames, sample):
        return frames.positions[..., 0].std(axis=-1)


def written(groups, directory):
    """Return the plain content of analysis.json and its records."""
    file = write_analysis(groups, directory, with_report=False)["analysis.json"]
    return json.loads(file.read_text()), read_analysis(directory)


def dumped(record):
    """Return a record as JSON, without the entries that a file leaves out."""
    return json.loads(record.model_dump_json(exclude_unset=True))


def test_every_key_of_a_molecule_comes_back(tmp_path):
    curves = (made_up.torsion(), made_up.spectrum())
    content, (record,) = written([made_up.single(tmp_path / "run", 1, curves)], tmp_path / "out")
    assert dumped(record) == content
    assert isinstance(record, AnalysisRecord)
    assert record.model_extra == {}
    assert record.name is None
    assert record.h_of_r.difference.within_noise in (True, False, None)
    assert record.bonds["C-H"].mean.run.unit == "angstrom"
    assert record.curves["spectrum"].numbers["highest peak"][0].value == 1700.0
    assert record.observables["stable_time"].difference is None


def test_a_run_that_broke(tmp_path):
    positions = runs.shaking(100, seed=2)
    positions[60:, 8] += 4
    stop = {"rule": "bond", "step": 6100, "message": "a bond broke"}
    comparison = made_up.comparison(tmp_path / "run", positions, result="stopped", stop=stop)
    content, (record,) = written([RunGroup("run", (comparison,))], tmp_path / "out")
    assert dumped(record) == content
    assert record.stability.broken.frame == 60
    assert record.run.stop.rule == "bond"


def test_several_runs_and_replicas(tmp_path):
    members = tuple(made_up.comparison(tmp_path / name, runs.shaking(100, seed=n)) for n, name in enumerate("ab"))
    groups = [made_up.single(tmp_path / "one"), RunGroup("two", members, (made_up.survival(),))]
    content, records = written(groups, tmp_path / "out")
    assert [dumped(record) for record in records] == content
    assert [record.name for record in records] == ["one", "two"]
    assert isinstance(records[1], ReplicasRecord)
    assert len(records[1].replicas) == 2
    alone = written(groups[1:], tmp_path / "alone")[1]
    assert alone == records[1:]


def test_keys_of_other_quantities_are_kept(tmp_path):
    path = runs.write_run(tmp_path / "run", runs.shaking(60, seed=1))
    analyze(path, reference=made_up.reference(), quantities=[Width()], output=tmp_path / "out", report=False)
    (record,) = read_analysis(tmp_path / "out" / "analysis.json")
    assert dumped(record) == json.loads((tmp_path / "out" / "analysis.json").read_text())
    assert record.observables["width"].run.unit == "angstrom"


def test_a_periodic_cell(tmp_path):
    from piwsl.analysis.reference import Reference
    from piwsl.trajectories.frame_source import FrameSource
    from tests.analysis.test_crystal import NUMBERS, shaking

    positions, cells = shaking(runs, 300, 100)
    reference = Reference(
        "mine", FrameSource.of_array(NUMBERS, positions, 50.0 * NUMBERS[:1].repeat(300).cumsum(), cells)
    )
    positions, cells = shaking(runs, 200, 1)
    thermo = runs.thermal_rows(200, len(NUMBERS), 500.0, seed=7)
    path = runs.write_run(tmp_path / "run", positions, NUMBERS, thermo, cells=cells)
    analyze(path, reference=reference, output=tmp_path / "out", report=False)
    (record,) = read_analysis(tmp_path / "out")
    assert dumped(record) == json.loads((tmp_path / "out" / "analysis.json").read_text())
    assert record.h_of_r is None
    assert record.coordination["O around Ti"].shell_angstrom > 1
    assert {"rdf.O-Ti", "msd.O"} <= set(record.curves)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "something"}, "not an analysis of this version"),
        ({"format_version": 2}, "not an analysis of this version: .*format_version"),
        ({"stable": "yes"}, "not an analysis of this version: .*stable"),
    ],
)
def test_another_version_is_refused(tmp_path, change, message):
    content, _ = written([made_up.single(tmp_path / "run")], tmp_path / "out")
    (tmp_path / "out" / "analysis.json").write_text(json.dumps(content | change))
    with pytest.raises(DataError, match=message):
        read_analysis(tmp_path / "out")


def test_files_that_are_no_analysis(tmp_path):
    with pytest.raises(RunDirectoryError, match=r"analysis\.json: cannot be read"):
        read_analysis(tmp_path)
    (tmp_path / "analysis.json").write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        read_analysis(tmp_path)
    for text in ("[1]", "3", "{}"):
        (tmp_path / "analysis.json").write_text(text)
        with pytest.raises(DataError, match="not an analysis"):
            read_analysis(tmp_path)
