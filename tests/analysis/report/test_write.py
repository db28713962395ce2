import csv
import json

import numpy as np
import pytest
from PIL import Image

from piwsl.analysis.groups import RunGroup
from piwsl.analysis.report import write, write_analysis
from piwsl.errors import RunDirectoryError
from tests.support import made_up
from tests.support import run_directories as runs

pytestmark = pytest.mark.slow

NUMBERS = ["analysis.json", "curves.csv", "observables.csv"]
PICTURES = [
    f"figures/{name}.{kind}" for name in ("angle", "bond_lengths", "energy", "h_of_r") for kind in ("png", "svg")
]


def group(path, positions):
    return RunGroup(path.name, (made_up.comparison(path, positions),))


def names(directory):
    return sorted(str(file.relative_to(directory)) for file in directory.rglob("*") if file.is_file())


def rows(file):
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_files(tmp_path):
    found = group(tmp_path / "run", runs.shaking(200, seed=1))
    output = tmp_path / "out" / "analysis"
    files = write_analysis([found], output)
    assert names(output) == sorted(files) == sorted([*NUMBERS, *PICTURES, "report.html"])
    assert json.loads(files["analysis.json"].read_text())["stable"] is True
    for name in PICTURES[::2]:
        picture = np.asarray(Image.open(files[name]).convert("L"))
        assert picture.shape[1] > 2000
        assert np.ptp(picture) > 150
    # A second analysis replaces the first; figures that it does not have are gone.
    broken = group(tmp_path / "broken", 3 * runs.shaking(20, seed=2))
    write_analysis([broken], output)
    assert names(output) == sorted([*NUMBERS, "figures/energy.png", "figures/energy.svg", "report.html"])
    write_analysis([broken], output, with_report=False)
    assert sorted(file.name for file in output.iterdir()) == NUMBERS


def test_hidden_files_of_other_processes_are_no_obstacle(tmp_path):
    output = tmp_path / "out"
    (output / "figures" / ".energy.png.ab12cd34.tmp").mkdir(parents=True)  # another process writes this figure
    (output / ".analysis.json.ab12cd34.tmp").mkdir()
    (output / ".DS_Store").touch()
    broken = group(tmp_path / "run", 3 * runs.shaking(20, seed=2))
    write_analysis([broken], output)
    write_analysis([broken], output, with_report=False)
    assert sorted(file.name for file in output.iterdir() if file.is_file()) == [".DS_Store", *NUMBERS]


def test_links_of_the_page_lead_to_files(tmp_path):
    files = write_analysis([group(tmp_path / "run", runs.shaking(50, seed=1))], tmp_path / "out")
    text = files["report.html"].read_text()
    targets = {part.split('"')[0] for part in text.split('<a href="')[1:]}
    assert targets == set(files) - {"report.html"}


def test_tables(tmp_path):
    one = made_up.single(tmp_path / "one", 1, (made_up.torsion(),))
    members = tuple(made_up.comparison(tmp_path / name, runs.shaking(100, seed=n)) for n, name in enumerate("ab"))
    groups = [one, RunGroup("two", members, (made_up.survival(),))]
    files = write_analysis(groups, tmp_path / "out", with_report=False)
    assert [found["name"] for found in json.loads(files["analysis.json"].read_text())] == ["one", "two"]
    lines = {(row["run"], row["key"]): row for row in rows(files["observables.csv"])}
    assert len(lines) == len(one.rows) + len(groups[1].rows)
    row = lines["one", "bond.C-H.mean"]
    bond = one.members[0]["bonds"][1]
    assert float(row["value"]) == pytest.approx(bond.mean.value, rel=1e-7)
    assert float(row["reference"]) == pytest.approx(bond.reference_mean.value, rel=1e-7)
    assert float(row["difference_uncertainty"]) == pytest.approx(bond.mean_difference.measured.uncertainty, rel=1e-7)
    assert float(row["noise_limit"]) == pytest.approx(bond.mean_difference.threshold, rel=1e-7)
    assert (row["unit"], row["verdict"]) == ("angstrom", "within noise" if bond.mean_difference.agrees else "differs")
    assert lines["one", "stable_time"]["verdict"] == "not compared"
    points = rows(files["curves.csv"])
    profile = [point for point in points if point["key"].startswith("torsion.")]
    curve = one.members[0].curves[0]
    assert len(profile) == 2 * len(curve.run.x)
    ours = [point for point in profile if point["curve"] == "one"]
    assert [point["y"] == "" for point in ours] == list(np.isnan(curve.run.y))
    assert {point["x_unit"] for point in ours} == {"degree"}
    assert {point["band"] for point in points if point["key"] == "h_of_r"} == {"95 %"}
    assert {point["curve"] for point in points if point["key"] == "h_of_r"} == {"one", "two", "reference"}
    assert {point["curve"] for point in points if point["key"] == "survival"} == {"two"}


@pytest.mark.parametrize("name", ["thesis.tex", "figures/thesis.tex"])
def test_foreign_directory_is_left_alone(tmp_path, name):
    found = group(tmp_path / "run", runs.shaking(20, seed=1))
    home = tmp_path / "home"
    (home / name).parent.mkdir(parents=True)
    (home / name).write_text("mine")
    with pytest.raises(RunDirectoryError, match=rf"contains {name}"):
        write_analysis([found], home)
    assert names(home) == [name]
    with pytest.raises(RunDirectoryError, match="a file, not a directory"):
        write.check_output(home / name)


def test_nothing_is_written_when_the_page_cannot_be_made(tmp_path, monkeypatch):
    found = group(tmp_path / "run", runs.shaking(20, seed=1))

    def fail(*_):
        raise RuntimeError("no page")

    # No analysis is known that the page cannot show: an argument for the renderer would serve this test alone.
    monkeypatch.setattr(write, "render_page", fail)
    with pytest.raises(RuntimeError):
        write_analysis([found], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    found = group(tmp_path / "run", runs.shaking(20, seed=1))
    with pytest.raises(RunDirectoryError, match=r"out.*: .*(Not a directory|cannot be written)"):
        write_analysis([found], tmp_path / "file" / "out")
