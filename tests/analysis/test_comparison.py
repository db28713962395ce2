import json

import numpy as np
import pytest

from piwsl.analysis.compare_run import compare_run
from piwsl.analysis.quantity import Observable
from piwsl.analysis.reference import Reference
from piwsl.analysis.run_directory import read_run
from piwsl.analysis.statistics.results import Difference, Measurement
from piwsl.analysis.verdict import _by_chance, judge
from piwsl.errors import DataError


@pytest.fixture(scope="module")
def reference(runs):
    return Reference.of_frames("mine", runs.ETHANOL.numbers, runs.shaking(2000, seed=100), 50.0 * np.arange(2000))


def compared(runs, path, reference, positions, **options):
    return compare_run(read_run(runs.write_run(path, positions, **options)), reference)


def test_run_of_the_same_molecule_agrees(runs, tmp_path, reference):
    found = compared(runs, tmp_path / "run", reference, runs.shaking(1500, seed=1))
    words = judge(found)
    assert found.stable
    assert words.stability == "Stable for all 75 ps."
    assert not words.undecided
    assert len(words.differing) <= 5  # of 50, each right in 95 of 100 cases
    assert {one.key for one in words.agreeing} >= {"h_of_r", "bond.C-O.mean", "temperature"}
    assert found["h_of_r"].all_pairs.run.samples > 100


def test_json_has_every_number_and_no_nan(runs, tmp_path, reference):
    found = compared(runs, tmp_path / "run", reference, runs.shaking(300, seed=2))
    numbers = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert numbers["format"] == "piwsl-analysis"
    assert set(numbers["bonds"]) == {"C-C", "C-H", "C-O", "O-H"}
    assert set(numbers["h_of_r"]["difference"]) >= {"value", "uncertainty", "unit", "samples", "noise_floor"}
    assert numbers["temperature"]["target"] == 500.0
    assert numbers["energy_drift"] is None
    assert numbers["run"]["directory"] == "run"


def test_stretched_bond_is_found(runs, tmp_path, reference):
    stretched = runs.ETHANOL.copy()
    stretched.set_distance(0, 1, stretched.get_distance(0, 1) + 0.03, fix=0)
    found = compared(runs, tmp_path / "run", reference, runs.shaking(1500, seed=3, atoms=stretched))
    names = {one.key for one in judge(found).differing}
    assert "bond.C-C.mean" in names
    assert "bond.C-C.distribution" in names
    assert found.stable


def test_only_stable_frames_are_compared(runs, tmp_path, reference):
    positions = runs.shaking(400, seed=4)
    positions[300:, 8] += 5.0
    found = compared(runs, tmp_path / "run", reference, positions)
    assert not found.stable
    assert found.stability.frames == 300
    assert found.stable_time.value == 301 * 50.0
    assert judge(found).stability.startswith("Not stable: broken at 15.05 ps of 20 ps; the C-H bond of atoms ")
    whole = compared(runs, tmp_path / "first", reference, runs.shaking(400, seed=4)[:300])
    np.testing.assert_array_equal(found["h_of_r"].all_pairs.run.density, whole["h_of_r"].all_pairs.run.density)
    assert found["bonds"][0].mean == whole["bonds"][0].mean
    # what comes after the break is no physics: 300 of 400 rows of energies
    assert found["temperature"].mean.value == pytest.approx(np.mean(found.run.thermo.temperature[:300]))


def test_broken_in_the_first_frame(runs, tmp_path, reference):
    found = compared(runs, tmp_path / "run", reference, 3 * runs.shaking(20, seed=5))
    assert "h_of_r" not in found
    assert "bonds" not in found
    assert "structure is not compared" in " ".join(found.notes)
    assert judge(found).stability.startswith("Not stable: broken in the first frame")
    json.dumps(found.as_dict(), allow_nan=False)


def test_stopped_between_two_frames(runs, tmp_path, reference):
    """The stop rule looks more often than frames are written."""
    stop = {"rule": "bond", "step": 30_040, "message": "step 30040: bond O2-H3 is 1.60 angstrom long"}
    found = compared(
        runs, tmp_path / "run", reference, runs.shaking(300, seed=6), result="stopped", stop=stop,
        steps_requested=100_000, steps_done=30_040,
    )  # fmt: skip
    assert found.stability.broken is None
    assert not found.stable
    assert found.stable_time.value == 15_020.0
    assert judge(found).stability.startswith("Not stable: stopped after 15.02 ps of 50 ps; step 30040: bond O2-H3")


def test_interrupted_run(runs, tmp_path, reference):
    found = compared(
        runs, tmp_path / "run", reference, runs.shaking(200, seed=7), result="interrupted", steps_requested=50_000
    )
    assert found.stable
    assert judge(found).stability == "Stable for the 10 ps in the trajectory, of 25 ps requested."


def test_too_short_to_tell(runs, tmp_path, reference):
    found = compared(runs, tmp_path / "run", reference, runs.shaking(1, seed=8))
    words = judge(found)
    assert not words.agreeing
    assert not words.differing
    assert len(words.undecided) == 50
    assert words.agreement.startswith("Too few independent samples")
    assert "no error bar" in " ".join(found.notes)


def test_constant_energy(runs, tmp_path, reference):
    times = 50.0 * np.arange(1, 401)
    kinetic = 0.35 + 0.05 * runs.correlated(400, 1, 0.0, 9)[:, 0]
    total = -100 + 9 * 0.5e-3 * times / 10_000  # 0.5 meV/atom in 10 ps
    rows = np.stack([total - kinetic, kinetic, total, kinetic * 860], axis=1)
    found = compared(runs, tmp_path / "run", reference, runs.shaking(400, seed=10), thermo=rows, ensemble="nve")
    assert found["energy_drift"].per_10_ps.value == pytest.approx(0.5, rel=1e-3)
    assert found["temperature"].target is None
    assert "energy_drift.per_ns" in {one.key for one in found.observables}
    assert "constant-energy" in " ".join(found.notes)


def test_other_molecule(runs, tmp_path, reference):
    with pytest.raises(DataError, match="different order"):
        compared(
            runs, tmp_path / "run", reference, runs.shaking(5, seed=11)[:, ::-1], numbers=runs.ETHANOL.numbers[::-1]
        )


@pytest.mark.parametrize(
    ("times_its_limit", "differing", "chance"), [(1.1, 1, True), (1.1, 2, True), (1.1, 4, False), (2.0, 1, False)]
)
def test_chance_is_named_where_it_explains_what_differs(times_its_limit, differing, chance):
    """One or two of fourteen a little outside are chance; far outside they are not, and neither are four."""
    outside = Difference(Measurement(times_its_limit, 0.5, "angstrom", 9), limit=1.0, floor=0.5)
    assert _by_chance(14, (Observable("x", "x", difference=outside),) * differing) is chance


def test_wrong_temperature_is_found(runs, tmp_path, reference):
    """Amplitudes of 600 K against those of 500 K, and a thermostat that did not hold."""
    hot = 0.03 * np.sqrt(600 / 500)
    found = compared(
        runs, tmp_path / "run", reference, runs.shaking(2000, seed=13, amplitude=hot),
        thermo=runs.thermal_rows(2000, 9, 600.0, seed=14),
    )  # fmt: skip
    names = {one.key for one in judge(found).differing}
    assert names >= {"h_of_r", "bond.C-H.width", "bond.C-H.distribution", "temperature"}
