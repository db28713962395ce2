from pathlib import Path

import matplotlib
import numpy as np
import pytest

from piwsl.md import report
from piwsl.md.analysis.comparison import compare_run
from piwsl.md.analysis.reference import Reference
from piwsl.md.analysis.run_directory import read_run
from piwsl.md.report.figures import draw_bonds, draw_distances, draw_energies
from piwsl.md.report.style import LIGHT, NARROW, WIDE, drawing
from piwsl.md.report.svg import page_svg
from tests import run_directories as runs


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    path = tmp_path_factory.mktemp("figures") / "run"
    reference = Reference.of_frames("mine", runs.ETHANOL.numbers, runs.shaking(600, seed=50), 50.0 * np.arange(600))
    return compare_run(read_run(runs.write_run(path, runs.shaking(500, seed=1))), reference)


def line(axes, label):
    (found,) = [one for one in axes.lines if one.get_label() == label]
    return found


def test_h_of_r_shows_the_numbers(comparison):
    upper, lower = draw_distances(comparison, WIDE, LIGHT).axes
    found = comparison.distances
    np.testing.assert_allclose(line(upper, "run").get_ydata(), found.run.density)
    np.testing.assert_allclose(lower.lines[0].get_ydata(), found.run.density - found.reference.density)
    assert upper.get_ylabel() == "h(r)  [1/Å]"
    assert lower.get_xlabel() == "Interatomic distance r  [Å]"


def test_a_panel_for_each_bond_type(comparison):
    panels = [axes for axes in draw_bonds(comparison, WIDE, LIGHT).axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in panels] == [
        f"{a}\N{EN DASH}{b}" for a, b in ("CC", "CH", "CO", "OH")
    ]
    for axes, bond in zip(panels, comparison.bonds, strict=True):
        np.testing.assert_allclose(line(axes, "run").get_ydata(), bond.distribution.run.density)


def test_temperature_and_energy(comparison):
    upper, lower = draw_energies(comparison, NARROW, LIGHT).axes
    np.testing.assert_allclose(upper.lines[0].get_ydata(), comparison.run.thermo.temperature)
    energy = 1e3 * (comparison.run.thermo.total - comparison.run.thermo.total.mean()) / 9
    np.testing.assert_allclose(lower.lines[0].get_ydata(), energy, atol=1e-9)
    assert line(upper, "thermostat 500 K").get_ydata()[0] == 500


def test_settings_of_matplotlib_come_back(comparison):
    before = dict(matplotlib.rcParams)
    with drawing(WIDE, LIGHT):
        draw_distances(comparison, WIDE, LIGHT)
        assert matplotlib.rcParams["svg.fonttype"] == "none"
    assert dict(matplotlib.rcParams) == before


def test_same_figure_same_svg(comparison):
    texts = {page_svg(draw_bonds, comparison, WIDE, "bonds", "Bond lengths") for _ in range(2)}
    assert len(texts) == 1
    (text,) = texts
    assert text.startswith('<svg role="img" aria-label="Bond lengths"')
    assert ">Bond length  [Å]</text>" in text  # text stays text


def test_no_global_state():
    """pyplot keeps every figure, and chooses a window system when it is imported."""
    for file in Path(report.__file__).parent.glob("*.py"):
        assert "pyplot" not in file.read_text(), file
