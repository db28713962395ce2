import json

import numpy as np
import pytest
from PIL import Image

from piwsl.errors import RunDirectoryError
from piwsl.md.analysis.comparison import compare_run
from piwsl.md.analysis.reference import Reference
from piwsl.md.analysis.run_directory import read_run
from piwsl.md.report import write, write_analysis
from tests import run_directories as runs

FILES = ["analysis.json", "bond_lengths.png", "energy.png", "h_of_r.png", "report.html"]


def comparison(path, positions):
    reference = Reference.of_frames("mine", runs.ETHANOL.numbers, runs.shaking(300, seed=50), None)
    return compare_run(read_run(runs.write_run(path, positions)), reference)


def names(directory):
    return sorted(file.name for file in directory.iterdir())


def test_files(tmp_path):
    found = comparison(tmp_path / "run", runs.shaking(200, seed=1))
    files = write_analysis(found, tmp_path / "out" / "analysis")
    assert names(tmp_path / "out" / "analysis") == sorted(files) == FILES
    assert json.loads(files["analysis.json"].read_text())["stable"] is True
    for name in ("bond_lengths.png", "energy.png", "h_of_r.png"):
        picture = np.asarray(Image.open(files[name]).convert("L"))
        assert picture.shape[1] > 2000
        assert np.ptp(picture) > 150
    # A second analysis replaces the first; figures that it does not have are gone.
    write_analysis(comparison(tmp_path / "broken", 3 * runs.shaking(20, seed=2)), tmp_path / "out" / "analysis")
    assert names(tmp_path / "out" / "analysis") == ["analysis.json", "energy.png", "report.html"]


def test_foreign_directory_is_left_alone(tmp_path):
    found = comparison(tmp_path / "run", runs.shaking(20, seed=1))
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("mine")
    with pytest.raises(RunDirectoryError, match=r"holds thesis\.tex"):
        write_analysis(found, home)
    assert names(home) == ["thesis.tex"]
    with pytest.raises(RunDirectoryError, match="a file, not a directory"):
        write.check_output(home / "thesis.tex")


def test_nothing_is_written_when_the_page_cannot_be_made(tmp_path, monkeypatch):
    found = comparison(tmp_path / "run", runs.shaking(20, seed=1))

    def fail(_):
        raise RuntimeError("no page")

    monkeypatch.setattr(write, "render_page", fail)
    with pytest.raises(RuntimeError):
        write_analysis(found, tmp_path / "out")
    assert not (tmp_path / "out").exists()
