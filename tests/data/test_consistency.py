"""Energies of two kinds, energies that are all equal, and structures that occur twice."""

from dataclasses import replace

import numpy as np
import pytest

from piwsl.data.frames import FrameSet
from piwsl.data.inspect import inspect_frames
from piwsl.data.read import read_frames
from piwsl.data.write import write_frames
from tests.support.molecules import frame


def labeled(formula="CH3OH", count=8, first=0):
    return [frame(formula, seed=seed, labeled=True) for seed in range(first, first + count)]


def warnings(frames):
    return " ".join(inspect_frames(FrameSet(frames)).warnings)


@pytest.mark.parametrize(
    "change", [lambda energy: energy - 3100.0, lambda energy: energy - 7.2, lambda energy: energy / 6]
)
def test_energies_of_two_kinds(change):
    """All electrons and pseudopotentials, two functionals, and energies per atom."""
    frames = [replace(one, energy=-900.0 + 0.1 * index) for index, one in enumerate(labeled())]
    mixed = [replace(one, energy=change(one.energy)) if index % 2 else one for index, one in enumerate(frames)]
    assert "energies of CH4O in two groups of 4 and 4 frames" in warnings([*mixed, *labeled("H2O")])
    assert "two groups" not in warnings(frames)


def test_charges_and_formulas_are_separate():
    frames = labeled()
    charged = [replace(one, energy=one.energy + 9.0, charge=1.0) for one in labeled(first=8)]
    others = [replace(one, energy=one.energy - 4000.0) for one in labeled("H2O")]
    assert "two groups" not in warnings([*frames, *charged, *others])


def test_equal_energies():
    frames = [replace(one, energy=0.0) for one in labeled()]
    assert "all 8 energies of CH4O are equal" in warnings(frames)


@pytest.mark.parametrize(
    ("change", "step"),
    [(lambda energy: float(np.float32(energy - 17600.0)), 0.00195), (lambda energy: round(energy - 99.0, 2), 0.01)],
)
def test_energies_that_have_lost_digits(change, step):
    """Single precision of a total energy, and few decimals."""
    frames = labeled(count=40)
    assert "lost digits" not in warnings(frames)
    rounded = [replace(one, energy=change(one.energy)) for one in frames]
    assert f"energies of CH4O are multiples of {step:.3g} eV apart: they have lost digits" in warnings(rounded)
    assert "lost digits" not in warnings([replace(one, energy=float(np.float32(one.energy))) for one in frames])


def test_copies(tmp_path):
    frames = labeled()
    assert "copies" not in warnings(frames)
    assert "3 of 11 frames are copies of another frame" in warnings([*frames, *frames[:3]])
    many = labeled(count=200)
    report = inspect_frames(FrameSet([*many, many[0]]))
    assert "copies             1 of 201 labeled frames" in report.lines()
    assert not any("copies" in text for text in report.warnings)
    charged = [replace(one, charge=1.0) for one in frames]
    assert "copies" not in warnings([*frames, *charged])
    write_frames(FrameSet([*frames, *frames]), tmp_path / "a.db")
    assert any("8 of 16 frames are copies" in text for text in inspect_frames(read_frames(tmp_path / "a.db")).warnings)


def test_a_file_without_energies(tmp_path):
    frames = [replace(one, energy=np.nan) for one in labeled()]
    write_frames(FrameSet(frames), tmp_path / "a.db")
    assert "copies" not in " ".join(inspect_frames(read_frames(tmp_path / "a.db")).warnings)


def test_one_structure_with_two_energies():
    frames = labeled()
    text = warnings([*frames, *[replace(one, energy=one.energy + 0.2) for one in frames]])
    assert "8 of 16 frames have the structure of another frame and another energy (by up to 0.2 eV)" in text
    assert "copies" not in text


def test_unlabeled_structures_may_occur_twice():
    frames = [one.without_labels() for one in labeled()]
    assert "structure of another" not in warnings([*frames, *frames])
    assert np.isnan(frames[0].energy)
