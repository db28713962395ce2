"""Sign and size of forces and stresses, against potentials with a known answer."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk, molecule

from piwsl.data.frames import FrameSet
from piwsl.data.inspect import inspect_frames
from tests.support.emt import labeled


@pytest.fixture(scope="module")
def molecules():
    frames = []
    for seed in range(12):
        atoms = molecule("CH3OH")
        atoms.rattle(0.05, seed=seed)
        frames.append(labeled(atoms))
    return frames


@pytest.fixture(scope="module")
def cells():
    frames = []
    for seed in range(12):
        atoms = bulk("Cu", cubic=True)
        atoms.set_cell(atoms.cell * (0.97 + 0.005 * seed), scale_atoms=True)
        atoms.rattle(0.05, seed=seed)
        frames.append(labeled(atoms))
    return frames


def warnings(frames):
    return " ".join(inspect_frames(FrameSet(frames)).warnings)


def scaled(frames, factor):
    return [replace(frame, stress=factor * frame.stress) for frame in frames]


def test_forces_and_gradients(molecules, cells):
    assert "gradients" not in warnings(molecules)
    assert "gradients" not in warnings(cells)
    for frames in (molecules, cells):
        assert "check that these are forces and not gradients" in warnings(
            [replace(frame, forces=-frame.forces) for frame in frames]
        )


def test_units_of_stress(cells):
    assert "stress" not in warnings(cells)
    report = inspect_frames(FrameSet(cells))
    assert report.stress is not None
    assert report.stress.bulk_modulus == pytest.approx(0.84, abs=0.2)  # 134 GPa, EMT
    for factor in (160.2, 1602.0):
        assert "check that they are in eV/A^3" in warnings(scaled(cells, factor))
    small = [replace(frame, stress=0.05 * frame.stress) for frame in scaled(cells, 1602.0)]
    assert "check that they are in eV/A^3" in warnings(small)


def test_sign_of_stress(cells):
    assert "positive under tension" in warnings(scaled(cells, -1.0))


def test_stresses_of_zero(cells):
    assert "exactly zero" not in warnings(cells)
    assert f"{len(cells)} stresses are exactly zero" in warnings(scaled(cells, 0.0))


def test_order_of_components(cells):
    def swapped(frame):
        stress = frame.stress.copy()
        stress[0, 1], stress[1, 0] = 0.01, -0.01
        return replace(frame, stress=stress)

    assert "not symmetric" in warnings([swapped(frame) for frame in cells])


def test_stress_without_a_volume_is_left_out_and_said(cells):
    slabs = [replace(frame, pbc=(True, True, False)) for frame in cells]
    report = inspect_frames(FrameSet(slabs))
    assert report.stresses == 0
    assert any("12 frames have a stress but are not periodic in three directions" in text for text in report.warnings)


def test_a_batch_has_no_stress_of_a_slab(cells):
    from piwsl.data.batch import collate

    slab = replace(cells[0], pbc=(True, True, False))
    stress = collate([cells[0], slab], 3.0).stress.numpy()
    assert np.isfinite(stress[0]).all()
    assert np.isnan(stress[1]).all()
