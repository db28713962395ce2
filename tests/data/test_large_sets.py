"""Sets that do not fit into memory: what is counted, what is sampled, what is held."""

from collections.abc import Sequence
from weakref import WeakSet

import numpy as np
import pytest

from piwsl.data.census import Census
from piwsl.data.frames import Frame, FrameSet
from piwsl.data.inspect import inspect_frames
from piwsl.data.reference_energies import fit_reference_energies

TRUTH = {1: -13.6, 6: -1030.0, 8: -2042.0}


class Made(Sequence):
    """Frames made when they are asked for; knows how many exist at once."""

    def __init__(self, count):
        self.count = count
        self.alive = WeakSet()
        self.most = self.made = 0

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        species = np.sort(rng.choice([1, 6, 8], size=6))
        noise = float(rng.normal(0, 0.1))
        energy = sum(TRUTH[int(z)] for z in species) + noise if index % 3 else np.nan
        forces = np.full((6, 3), np.nan) if index % 10 else rng.normal(size=(6, 3))
        positions = np.arange(18.0).reshape(6, 3)
        made = Frame(species, positions, energy, forces)
        self.alive.add(made)
        self.made += 1
        self.most = max(self.most, len(self.alive))
        return made

    def __iter__(self):
        return (self[index] for index in range(self.count))


@pytest.mark.slow
def test_a_large_set_is_never_held():
    made = Made(2500)
    frames = FrameSet(made)
    report = inspect_frames(frames, largest_sample=50)
    fitted = fit_reference_energies(frames.select(range(1, 2500, 2)), frames.elements)
    assert made.most <= 3
    assert made.made < 2500 + 2800  # once for the census, 50 forces, 2500 distances, work of 170
    assert (report.frames, report.forces, report.sample) == (2500, 250, 50)
    assert report.energies == 2500 - 834
    assert report.force_rms == pytest.approx(1.0, abs=0.1)
    assert "(of a sample of 50 frames)" in "\n".join(report.lines())
    assert fitted == pytest.approx(TRUTH, abs=0.05)


def test_a_small_set_is_measured_whole():
    frames = FrameSet(Made(300))
    report = inspect_frames(frames)
    forces = np.concatenate([frame.forces for frame in frames if frame.has_forces])
    assert report.sample == report.forces == 30
    assert report.force_rms == pytest.approx(np.sqrt(np.mean(forces**2)), rel=1e-12)
    assert report.force_max == pytest.approx(np.linalg.norm(forces, axis=1).max(), rel=1e-12)
    assert "sample" not in "\n".join(report.lines())


def test_the_fit_is_least_squares_over_all_frames():
    frames = list(Made(400))
    labeled = [frame for frame in frames if frame.has_energy]
    counts = np.array([[np.count_nonzero(frame.species == z) for z in TRUTH] for frame in labeled], dtype=float)
    expected = np.linalg.lstsq(counts, [frame.energy for frame in labeled], rcond=None)[0]
    fitted = fit_reference_energies(FrameSet(frames), list(TRUTH))
    assert list(fitted.values()) == pytest.approx(expected, abs=1e-8)


def test_the_fit_ignores_what_is_not_selected():
    """Compositions and elements that only other frames have."""
    kinds = [([1, 1], -27.2), ([8, 8], -4084.0), ([8, 1, 1], -2069.2), ([22], -1.0)]
    frames = FrameSet([Frame(np.array(z), np.zeros((len(z), 3)), e, np.zeros((len(z), 3))) for z, e in kinds])
    assert fit_reference_energies(frames.select([0, 2]), [1, 8]) == pytest.approx({1: -13.6, 8: -2042.0})
    assert frames.select([0, 2]).elements == [1, 8]
    assert frames.select([1, 2]).census.formulas() == {"O2": 1, "H2O": 1}


def test_census():
    frames = list(Made(30))
    census = Census.of(frames)
    for index, frame in enumerate(frames):
        counts = census.compositions[census.composition[index]]
        assert np.array_equal(np.repeat(census.numbers, counts), frame.species)
        assert census.energy[index] == pytest.approx(frame.energy, nan_ok=True, abs=0)
        assert census.has_forces[index] == frame.has_forces
    chosen = np.array([4, 29, 4])
    assert census.take(chosen).sizes.tolist() == [6, 6, 6]
    assert census.take(chosen).elements == sorted({*frames[4].species.tolist(), *frames[29].species.tolist()})
    joined = Census.joined([census.take(np.arange(10)), census.take(np.arange(10, 30))])
    assert joined.formulas() == census.formulas()


def test_formulas_come_in_order_of_number_and_appearance():
    kinds = [[1, 1], [8, 1, 1], [6], [8, 1, 1], [22]]
    frames = [Frame(np.array(z), np.zeros((len(z), 3)), 0.0, np.zeros((len(z), 3))) for z in kinds]
    assert list(Census.of(frames).formulas().items()) == [("H2O", 2), ("H2", 1), ("C", 1), ("Ti", 1)]
