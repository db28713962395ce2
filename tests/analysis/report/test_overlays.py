import numpy as np
import pytest

from piwsl.analysis.groups import RunGroup
from piwsl.analysis.report.overlays import ALONE, axis_label, curve_of, overlays_of, pooled
from piwsl.analysis.statistics.curves import Axis, Curve
from piwsl.analysis.statistics.results import Distribution
from tests.support import made_up
from tests.support import run_directories as runs


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    path = tmp_path_factory.mktemp("overlays")
    curves = (made_up.torsion("C-C-O-H"), made_up.torsion("H-C-C-H"), made_up.spectrum())
    one = made_up.single(path / "one", 1, curves)
    two = made_up.single(path / "two", 2)
    members = tuple(made_up.comparison(path / f"r{seed}", runs.shaking(200, seed=seed)) for seed in (3, 4))
    return one, two, RunGroup("three", members, (made_up.survival(),))


def test_families_of_one_run(groups):
    families = overlays_of(groups[:1])
    assert list(families) == ["h_of_r", "bond", "angle", "torsion", "spectrum"]
    assert [one.name for one in families["bond"]] == ["C-C", "C-H", "C-O", "O-H"]
    assert [one.name for one in families["torsion"]] == ["C-C-O-H", "H-C-C-H"]
    (distances,) = families["h_of_r"]
    assert [line.label for line in distances.lines] == [ALONE]
    found = groups[0].members[0]["h_of_r"].all_pairs
    assert distances.lines[0].curve.y is found.run.density
    assert distances.reference.y is found.reference.density
    assert distances.is_density
    assert families["torsion"][0].remark == "2.0 meV, within noise"
    assert families["bond"][0].remark.startswith("overlap 0.")


def test_runs_keep_their_place(groups):
    families = overlays_of(groups)
    assert [(line.label, line.place) for line in families["h_of_r"][0].lines] == [("one", 0), ("two", 1), ("three", 2)]
    assert [(line.label, line.place) for line in families["survival"][0].lines] == [("three", 2)]
    assert families["survival"][0].is_steps
    assert families["h_of_r"][0].remark == ""


def test_replicas_are_one_line_with_the_band_of_their_spread(groups):
    (distances,) = overlays_of(groups)["h_of_r"]
    first, second = (one["h_of_r"].all_pairs.run.density for one in groups[2].members)
    curve = distances.lines[2].curve
    np.testing.assert_allclose(curve.y, (first + second) / 2)
    np.testing.assert_allclose(curve.high - curve.y, 1.96 * np.abs(first - second) / 2, atol=1e-12)


def test_pooled_on_other_points():
    """Of straight lines interpolation is exact; nothing is made up beyond the ends."""
    x, other = np.linspace(0, 1, 11), np.linspace(0, 0.75, 40)
    found = pooled([Curve(x, x, None, None, 3), Curve(other, 3 * other, None, None, 5)], 1.0)
    np.testing.assert_allclose(found.y[:8], 2 * x[:8])
    assert np.isnan(found.y[8:]).all()
    assert found.samples == 8


def test_band_of_a_distribution():
    distribution = Distribution(np.array([0.0, 1, 2]), np.array([0.9, 0.1]), np.array([0.1, 0.1]), "angstrom", 9, 0.0)
    curve = curve_of(distribution)
    np.testing.assert_allclose(curve.low, [0.9 - 0.196, 0.0])
    np.testing.assert_allclose(curve.high, [0.9 + 0.196, 0.296])
    assert axis_label(Axis("Bond length", "angstrom")) == "Bond length  [Å]"
    assert axis_label(Axis("Intensity", "")) == "Intensity"
