"""Stress labels: eV/angstrom^3, positive under tension."""

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.io import write

from piwsl.data.inspect import inspect_frames
from piwsl.data.read import read_frames
from piwsl.errors import DataError
from piwsl.units import parse_units
from tests.support.frame_sets import mixed_frames, periodic_frame, symmetric_stress

STRESS = symmetric_stress()
VOIGT = STRESS[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


def written(path, frame=None, **info):
    frame = frame or periodic_frame()
    atoms = frame.atoms()
    atoms.info.update(info)
    write(path, atoms, format="extxyz")
    return path, abs(np.linalg.det(frame.cell))


@pytest.mark.parametrize("form", [STRESS.reshape(-1), VOIGT, STRESS])
def test_the_forms_of_a_stress(tmp_path, form):
    path, _ = written(tmp_path / "a.xyz", REF_energy=-900.0, REF_stress=form)
    found = read_frames(path)[0]
    assert np.array_equal(found.stress, STRESS)
    assert found.has_energy


@pytest.mark.parametrize("key", ["REF_virial", "REF_virials"])
@pytest.mark.parametrize("form", [STRESS.reshape(-1), VOIGT])
def test_a_virial_is_minus_stress_times_volume(tmp_path, key, form):
    path, volume = written(tmp_path / "a.xyz", **{key: form})
    found = read_frames(path)[0]
    assert np.allclose(found.stress, -STRESS / volume, rtol=1e-12)
    assert not found.has_energy


def test_a_virial_and_a_stress_that_contradict_each_other(tmp_path):
    _, volume = written(tmp_path / "a.xyz")
    path, _ = written(tmp_path / "b.xyz", REF_stress=VOIGT, REF_virial=-1.001 * VOIGT * volume)
    assert np.array_equal(read_frames(path)[0].stress, STRESS)
    for virial in (VOIGT * volume, -VOIGT):  # the wrong sign, and the virial per volume
        path, _ = written(tmp_path / "c.xyz", REF_stress=VOIGT, REF_virial=virial)
        with pytest.raises(DataError, match=r"frame 0.*: REF_stress and REF_virial contradict each other"):
            read_frames(path)


def test_two_virials_that_contradict_each_other(tmp_path):
    path, volume = written(tmp_path / "a.xyz", REF_virial=VOIGT, REF_virials=1.001 * VOIGT)
    assert np.allclose(read_frames(path)[0].stress, -STRESS / volume, rtol=1e-12)
    path, _ = written(tmp_path / "b.xyz", REF_virial=VOIGT, REF_virials=-VOIGT)
    with pytest.raises(DataError, match=r"frame 0.*: REF_virial and REF_virials contradict each other"):
        read_frames(path)


def test_units_of_a_stress(tmp_path):
    path, volume = written(tmp_path / "a.xyz", REF_stress=VOIGT)
    assert np.allclose(read_frames(path, parse_units("eV, nm"))[0].stress, STRESS * 1e-3, rtol=1e-12)
    path, volume = written(tmp_path / "b.xyz", REF_virial=VOIGT)
    assert np.allclose(read_frames(path, parse_units("eV, nm"))[0].stress, -STRESS / (1e3 * volume), rtol=1e-12)


def test_the_sign_is_that_of_tension(tmp_path):
    """A stretched crystal pulls back: dE/dstrain is positive."""
    atoms = bulk("Ar", cubic=True)
    sigma = atoms.get_cell().lengths()[0] / np.sqrt(2) / 2 ** (1 / 6)
    atoms.set_cell(1.03 * atoms.cell, scale_atoms=True)
    atoms.calc = LennardJones(sigma=sigma, epsilon=0.01, rc=3 * sigma)
    energy, stress = atoms.get_potential_energy(), atoms.get_stress(voigt=False)
    write(tmp_path / "a.xyz", atoms, format="extxyz")
    stretched = atoms.copy()
    stretched.set_cell(1.0001 * atoms.cell, scale_atoms=True)
    stretched.calc = atoms.calc
    slope = (stretched.get_potential_energy() - energy) / (3e-4 * atoms.get_volume())
    found = read_frames(tmp_path / "a.xyz")[0]
    assert np.allclose(found.stress, stress, atol=1e-12)
    assert np.trace(found.stress) / 3 == pytest.approx(slope, rel=2e-3)
    assert slope > 0


def test_results_are_not_mixed_with_reference_labels(tmp_path):
    atoms = bulk("Ar", cubic=True)
    atoms.calc = LennardJones(sigma=3.4, epsilon=0.01)
    atoms.get_stress()
    atoms.info["REF_energy"] = -5.0
    write(tmp_path / "a.xyz", atoms, format="extxyz")
    found = read_frames(tmp_path / "a.xyz")[0]
    assert found.energy == -5.0
    assert not found.has_forces
    assert not found.has_stress


def test_the_report_counts_stresses():
    report = inspect_frames(mixed_frames())
    assert report.stresses == 1
    assert "energies on 4 and forces on 5 of 7 frames, stress on 1" in "\n".join(report.lines())
    assert "stress" not in "\n".join(inspect_frames(mixed_frames().select([0, 1])).lines())


@pytest.mark.parametrize(
    ("info", "frame", "message"),
    [
        ({"REF_stress": np.arange(5.0)}, periodic_frame(), r"stress has shape \(5,\); expected"),
        ({"REF_stress": np.full(6, np.nan)}, periodic_frame(), "stress is not a finite number"),
        ({"REF_stress": np.full(6, 1e6)}, periodic_frame(), "stress reaches"),
        ({"REF_virial": VOIGT}, mixed_frames()[0], "virial but no cell"),
        ({"REF_stress": "none"}, periodic_frame(), "a value in its stress is not a number"),
        ({"REF_energy": True}, periodic_frame(), "a value in its energy is not a number"),
        ({"REF_energy": np.arange(2.0)}, periodic_frame(), "expected one number"),
    ],
)
def test_bad_labels(tmp_path, info, frame, message):
    path, _ = written(tmp_path / "a.xyz", frame, **info)
    with pytest.raises(DataError, match=message) as error:
        read_frames(path)
    assert "frame 0" in str(error.value)
    assert "\n" not in str(error.value)
