from dataclasses import astuple, fields
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from piwsl.analysis import report
from piwsl.analysis.groups import RunGroup
from piwsl.analysis.report.energies import draw_energies, draw_several_energies, has_running_mean
from piwsl.analysis.report.figures import draw_panels, draw_with_difference
from piwsl.analysis.report.overlays import overlays_of
from piwsl.analysis.report.plots import plots_of
from piwsl.analysis.report.style import DASHES, LIGHT, NARROW, WIDE, drawing, page_svg, pictures_of
from tests.support import made_up
from tests.support import run_directories as runs


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    path = tmp_path_factory.mktemp("figures")
    curves = (made_up.torsion("C-C-O-H"), made_up.torsion("H-C-C-H"), made_up.spectrum(), made_up.survival())
    return made_up.single(path / "run", 1, curves), made_up.single(path / "other", 2)


@pytest.fixture(scope="module")
def families(groups):
    return overlays_of(groups[:1])


@pytest.fixture(scope="module")
def comparison(groups):
    return groups[0].members[0]


def line(axes, label):
    (found,) = [one for one in axes.lines if one.get_label() == label]
    return found


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_h_of_r_shows_the_numbers(comparison, families):
    upper, lower = draw_with_difference(families["h_of_r"][0], WIDE, LIGHT).axes
    found = comparison["h_of_r"].all_pairs
    np.testing.assert_allclose(line(upper, "run").get_ydata(), found.run.density)
    np.testing.assert_allclose(lower.lines[0].get_ydata(), found.run.density - found.reference.density)
    assert upper.get_ylabel() == "h(r)  [1/Å]"
    assert lower.get_xlabel() == "Interatomic distance r  [Å]"


@pytest.mark.slow
def test_a_panel_for_each_bond_type(comparison, families):
    panels = [axes for axes in draw_panels(families["bond"], WIDE, LIGHT).axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in panels] == [
        f"{a}\N{EN DASH}{b}" for a, b in ("CC", "CH", "CO", "OH")
    ]
    for axes, bond in zip(panels, comparison["bonds"], strict=True):
        np.testing.assert_allclose(line(axes, "run").get_ydata(), bond.distribution.run.density)


def test_any_curve_with_its_band_and_reference(comparison, families):
    figure = draw_panels(families["torsion"], WIDE, LIGHT)
    first = figure.axes[0]
    curve = comparison.curves[0]
    np.testing.assert_array_equal(line(first, "run").get_ydata(), curve.run.y)  # gaps stay gaps
    np.testing.assert_array_equal(line(first, "reference").get_ydata(), curve.reference.y)
    assert len(first.collections) == 2  # two bands
    assert first.get_title(loc="right") == "2.0 meV, within noise"
    assert figure.get_supxlabel() == "Dihedral angle  [°]"
    assert legend_of(figure) == ["reference", "run"]
    (alone,) = draw_panels(families["spectrum"], NARROW, LIGHT).axes
    assert alone.get_ylabel() == "Intensity"
    assert alone.get_xlim() == (0, 4000)


def test_long_remarks_do_not_run_into_titles(families):
    first = draw_panels(families["torsion"] * 2, NARROW, LIGHT).axes[0]
    assert first.get_title(loc="right") == ""
    assert [text.get_text().replace("\n", " ") for text in first.texts] == ["2.0 meV, within noise"]


def test_steps_are_drawn_as_steps(families):
    (axes,) = draw_panels(families["survival"], WIDE, LIGHT).axes
    assert line(axes, "run").get_drawstyle() == "steps-post"
    assert axes.get_ylim()[0] == 0


def test_several_runs_differ_in_color_and_dashes(groups):
    figure = draw_panels(overlays_of(groups)["bond"], WIDE, LIGHT)
    assert legend_of(figure) == ["reference", "run", "other"]
    ours, other = (line(figure.axes[0], label) for label in ("run", "other"))
    assert (ours.get_color(), other.get_color()) == LIGHT.series[:2]
    assert (ours.get_linestyle(), other.get_linestyle()) == ("-", "--")
    assert len(set(DASHES)) == len(set(LIGHT.series)) == 6
    assert len(set(astuple(LIGHT))) == len(fields(LIGHT))  # on the page, a color becomes the variable of its role
    # A run is drawn alike where the others have nothing.
    assert (
        line(draw_panels(overlays_of(groups[::-1])["survival"], WIDE, LIGHT).axes[0], "run").get_color() == LIGHT.second
    )


@pytest.mark.slow
@pytest.mark.parametrize("layout", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("length", [3, 25, 200])
def test_names_of_runs_fit_above_the_panels(groups, layout, length):
    """However long they are: no entry sticks out of the figure, none lies on a panel."""
    several = [RunGroup(str(number) * length, groups[0].members) for number in range(7)]
    with drawing(layout, LIGHT):
        for figure in (
            draw_panels(overlays_of(several)["bond"], layout, LIGHT),
            draw_with_difference(overlays_of(several)["h_of_r"][0], layout, LIGHT),
            draw_several_energies(several, layout, LIGHT),
        ):
            figure.draw_without_rendering()
            box = figure.legends[0].get_window_extent()
            assert box.x0 >= -1
            assert box.x1 <= figure.bbox.width + 1
            assert len(legend_of(figure)) >= 7
            panel = figure.axes[0].get_window_extent()
            assert panel.y1 <= box.y0
            assert panel.height > 60


def test_temperature_and_energy(comparison):
    upper, lower = draw_energies(comparison, NARROW, LIGHT).axes
    np.testing.assert_allclose(upper.lines[0].get_ydata(), comparison.run.thermo.temperature)
    energy = 1e3 * (comparison.run.thermo.total - comparison.run.thermo.total.mean()) / 9
    np.testing.assert_allclose(lower.lines[0].get_ydata(), energy, atol=1e-9)
    assert line(upper, "thermostat").get_ydata()[0] == 500


def test_energies_of_several(groups):
    figure = draw_several_energies(groups, WIDE, LIGHT)
    assert legend_of(figure) == ["run", "other", "thermostat"]
    upper = figure.axes[0]
    np.testing.assert_allclose(np.mean(upper.lines[0].get_ydata()), 500, atol=15)
    assert len(upper.lines) == 3  # two runs and their one thermostat


def test_plots_have_names_of_files_and_captions(groups):
    plots = {plot.name: plot for plot in plots_of(groups[:1])}
    assert list(plots) == ["h_of_r", "bond_lengths", "angle", "torsion", "spectrum", "survival", "energy"]
    assert plots["torsion"].title == "Torsion profiles"
    assert plots["torsion"].caption == (
        "Gray: the reference. Bands are one standard error. Zero is the minimum of each profile."
    )
    assert plots["survival"].caption == "Bands are one standard error."


@pytest.mark.slow
def test_no_legend_lies_on_data(groups):
    for several in (groups, groups[:1]):
        for plot in plots_of(several):
            with drawing(WIDE, LIGHT):
                figure = plot.draw(WIDE, LIGHT)
            assert [axes.get_legend() for axes in figure.axes] == [None] * len(figure.axes)


def test_a_single_panel_has_its_name(families):
    bond = families["bond"][:1]
    name = bond[0].name.replace("-", "\N{EN DASH}")
    (axes,) = draw_panels(bond, WIDE, LIGHT).axes
    assert axes.get_title(loc="left") == name
    (axes,) = draw_panels(bond, WIDE, LIGHT, named=False).axes
    assert axes.get_title(loc="left") == ""


def test_few_energies_are_drawn_as_values_alone(tmp_path):
    short = made_up.comparison(tmp_path / "run", runs.shaking(60, seed=1))
    assert not has_running_mean(short)
    figure = draw_energies(short, WIDE, LIGHT)
    assert legend_of(figure) == ["thermostat"]
    assert figure.axes[0].lines[0].get_color() == LIGHT.run
    assert plots_of([RunGroup("run", (short,))])[-1].caption == "Values in thermo.csv."


def test_settings_of_matplotlib_come_back(families):
    before = dict(matplotlib.rcParams)
    with drawing(WIDE, LIGHT):
        draw_with_difference(families["h_of_r"][0], WIDE, LIGHT)
        assert matplotlib.rcParams["svg.fonttype"] == "none"
    assert dict(matplotlib.rcParams) == before


@pytest.mark.slow
def test_same_figure_same_svg(groups):
    plot = plots_of(groups[:1])[1]
    texts = {page_svg(plot, WIDE) for _ in range(2)}
    assert len(texts) == 1
    (text,) = texts
    assert text.startswith('<svg role="img" aria-label="Bond lengths"')
    assert ">Bond length  [Å]</text>" in text  # text stays text
    pictures = pictures_of(plot)
    assert pictures.svg.startswith("<?xml")
    assert LIGHT.run in pictures.svg
    assert "var(--" not in pictures.svg
    assert pictures.wide == text
    assert not any(color in text for color in astuple(LIGHT))
    assert (pictures.svg.count("fill: #ffffff"), text.count("fill: #ffffff")) == (1, 0)
    assert pictures.narrow == page_svg(plot, NARROW)
    assert pictures.png.startswith(b"\x89PNG")


def test_no_global_state():
    """pyplot keeps every figure, and chooses a window system when it is imported."""
    for file in Path(report.__file__).parent.glob("*.py"):
        assert "pyplot" not in file.read_text(), file
