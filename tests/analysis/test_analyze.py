"""The function `analyze` and its result."""

import json
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from piwsl.analysis import Analysis, analyze
from piwsl.analysis.analyze import unique_names
from piwsl.errors import ConfigError, RunDirectoryError
from tests.support import run_directories as runs


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    path = tmp_path_factory.mktemp("analyze")
    np.savez(path / "reference.npz", nuclear_charges=runs.ETHANOL.numbers, coords=runs.shaking(300, seed=50))
    runs.write_run(path / "run", runs.shaking(200, seed=1))
    broken = runs.shaking(200, seed=3)
    broken[60:, 8] += 4
    runs.write_run(path / "many" / "replica-000", runs.shaking(200, seed=4))
    runs.write_run(path / "many" / "replica-001", broken)
    runs.write_replica_summary(path / "many", ["replica-000", "replica-001"])
    return path


@pytest.fixture(scope="module")
def single(work) -> Analysis:
    return analyze(str(work / "run"), reference=str(work / "reference.npz"))


def test_one_run(work, single):
    assert single.verdict.startswith("Stable for all 10 ps. ")
    assert single.verdict.endswith("observables agree with the reference within noise.")
    assert {line.key: line for line in single.rows}["bond.C-O.mean"].cells[0].run.unit == "angstrom"
    assert single.reference.name == "reference.npz"
    assert "rmsd" in single.curves
    assert not single.files
    assert not (work / "run" / "analysis").exists()


def test_the_output_holds_the_numbers_of_the_result(work, single, tmp_path):
    written = analyze(work / "run", reference=work / "reference.npz", output=tmp_path / "out", report=False)
    assert sorted(written.files) == ["analysis.json", "curves.csv", "observables.csv"]
    assert json.loads(written.files["analysis.json"].read_text()) == written.to_dict() == single.to_dict()


def test_several_runs_and_progress(work):
    calls = []
    several = analyze([work / "run", work / "many"], reference=work / "reference.npz", progress=calls.append)
    first, second = several.verdict.splitlines()
    assert first.startswith("run: Stable for all 10 ps.")
    assert second.startswith("many: 1 of 2 replicas stable")
    assert list(dict.fromkeys(name for name, _, _ in calls)) == [
        "reference", "run run, 1 of 3", "run replica-000, 2 of 3", "run replica-001, 3 of 3",
    ]  # fmt: skip
    assert all(0 < done <= total for _, done, total in calls)
    assert len(several.comparisons) == 3
    assert len(several.to_dict()) == 2
    assert len(several.curves["survival"]) == 1


def test_a_result_shows_itself_in_a_notebook(single):
    html = single._repr_html_()
    assert html.count("<svg ") == html.count("</svg>") == 1
    assert html.count("<tr>") == html.count("</tr>") == len(single.rows) + 1
    assert f"<p>{single.verdict}</p>" in html
    assert "var(--" not in html  # no style sheet of the report


def test_plots(single):
    labels = {axes.get_ylabel() for axes in single.plot().axes}
    assert any(label.startswith("h(r)") for label in labels)
    assert len(single.plot("bond_lengths").axes) == 4
    with pytest.raises(ConfigError, match=r"no figure 'rdf' in this analysis: use one of h_of_r, bond_lengths, "):
        single.plot("rdf")


@pytest.mark.slow
def test_crystals_have_a_verdict_and_g_of_r(tmp_path):
    copper = bulk("Cu", cubic=True) * (3, 3, 3)
    rng = np.random.default_rng(1)
    cells = np.repeat(copper.cell.array[None], 60, axis=0)
    for name in ("one", "two", "other"):
        positions = copper.positions + rng.normal(scale=0.08, size=(60, len(copper), 3))
        runs.write_run(tmp_path / name, positions, copper.numbers, cells=cells)
    crystals = analyze([tmp_path / "one", tmp_path / "two"], reference=tmp_path / "other")
    for line in crystals.verdict.splitlines():
        assert "Stable for all 3 ps." in line
        assert "with the reference within noise." in line  # the sentence on agreement, which needs no h(r)
    assert crystals.plot().axes[0].get_ylabel().startswith("g(r)")


def test_what_cannot_be_analyzed(work, tmp_path):
    with pytest.raises(ConfigError, match="give at least one run directory"):
        analyze([])
    with pytest.raises(ConfigError, match="apply only to a reference file"):
        analyze(work / "run", units="nm")
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(RunDirectoryError, match=r"contains mine\.txt"):
        analyze(work / "none", output=tmp_path)  # before anything is read


def test_names_are_as_short_as_they_can_be():
    assert unique_names([Path("runs/a"), Path("runs/b")]) == ("a", "b")
    assert unique_names([Path("x/md"), Path("y/md"), Path("z/run")]) == ("x/md", "y/md", "z/run")
    with pytest.raises(ConfigError, match="given twice: give each run once"):
        unique_names([Path("runs/a"), Path("b"), Path("runs/../runs/a")])
