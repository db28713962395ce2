import numpy as np
import pytest

from piwsl.data.frames import Frame, FrameSet
from piwsl.data.inspect import inspect_frames
from piwsl.units import KCAL_PER_MOL
from tests.support.molecules import frame


def frames(factor=1.0, length=1.0):
    rng = np.random.default_rng(0)
    made = []
    for seed in range(20):
        base = frame("C6H6", seed=seed)
        energy = (-6300.0 + rng.normal()) * factor
        made.append(Frame(base.species, base.positions * length, energy, rng.normal(size=(12, 3)) * factor))
    return FrameSet(made)


def test_counts_and_ranges():
    report = inspect_frames(frames())
    assert (report.frames, report.energies, report.forces) == (20, 20, 20)
    assert report.elements == ["H", "C"]
    assert report.formulas == {"C6H6": 20}
    assert report.force_rms == pytest.approx(1.0, abs=0.1)
    assert report.energy_spread == pytest.approx(1.0, abs=0.4)
    assert 0.7 < report.smallest_distance < 1.1
    assert report.warnings == []
    assert "energies on 20 and forces on 20 of 20 frames" in "\n".join(report.lines())


def test_kcal_read_as_ev_is_noticed():
    warnings = inspect_frames(frames(factor=1.0 / KCAL_PER_MOL)).warnings
    assert any("force RMS" in text for text in warnings)
    assert any("all electrons" in text for text in warnings)


@pytest.mark.parametrize("length", [0.1, 0.529177])
def test_wrong_length_units_are_noticed(length):
    assert any("apart" in text for text in inspect_frames(frames(length=length)).warnings)


def test_unlabeled_frames_are_noticed():
    report = inspect_frames(FrameSet([frame("H2O")]))
    assert (report.energies, report.forces) == (0, 0)
    assert any("no frame has a label" in text for text in report.warnings)
