"""Spreads of labels from an ensemble: every format keeps them, and the report states them."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

from piwsl.data.frames import FrameSet
from piwsl.data.inspect import inspect_frames
from piwsl.data.read import read_frames
from piwsl.data.write import write_frames
from piwsl.errors import DataError
from tests.support.frame_sets import mixed_frames
from tests.support.molecules import frame


def with_spreads(frames):
    """Give spreads to all labeled frames except the first."""
    rng = np.random.default_rng(3)
    spread = [
        replace(one, energy_spread=float(rng.uniform(0.01, 0.1)), force_spread=rng.uniform(0.0, 0.2, len(one.species)))
        if one.has_energy or one.has_forces
        else one
        for one in frames
    ]
    return FrameSet([replace(spread[0], energy_spread=np.nan, force_spread=None), *spread[1:]])


def same_spreads(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.has_spread == other.has_spread
        if other.has_spread:
            assert one.energy_spread == pytest.approx(other.energy_spread, abs=1e-8)
            assert np.allclose(one.force_spread, other.force_spread, atol=1e-8)


@pytest.mark.parametrize("suffix", [".extxyz", ".h5", ".db", ".aselmdb"])
def test_every_format_keeps_the_spreads(tmp_path, suffix):
    frames = with_spreads(mixed_frames())
    path = tmp_path / f"frames{suffix}"
    write_frames(frames, path)
    found = read_frames(path)
    same_spreads(found, frames)
    kept = [one.has_spread for one in found]
    assert not kept[0]
    assert all(one == other for one, other in zip(found.census.has_spread, kept, strict=True))
    assert not any("spread" in name for name in found.names.unread)
    # and back
    write_frames(found, tmp_path / "again.h5")
    same_spreads(read_frames(tmp_path / "again.h5"), frames)


def test_one_molecule_in_npz(tmp_path):
    frames = with_spreads([frame("H2O", seed=seed, labeled=True) for seed in range(4)])
    write_frames(frames, tmp_path / "water.npz")
    same_spreads(read_frames(tmp_path / "water.npz"), frames)
    assert [one.has_spread for one in read_frames(tmp_path / "water.npz")] == [False, True, True, True]


def test_packed_files_without_spreads_have_no_arrays_for_them(tmp_path):
    path = tmp_path / "plain.h5"
    write_frames(mixed_frames(), path)
    with h5py.File(path) as file:
        assert not {"energy_spread", "force_spread"} & set(file)
    found = read_frames(path)
    assert len(found) == len(mixed_frames())
    assert not found.census.has_spread.any()
    assert not any(one.has_spread for one in found)


def test_spreads_have_the_units_of_the_file(tmp_path):
    frames = with_spreads([frame("H2O", seed=seed, labeled=True) for seed in range(2)])
    write_frames(frames, tmp_path / "frames.xyz")
    found = read_frames(tmp_path / "frames.xyz", "meV, angstrom")
    assert found[1].energy_spread == pytest.approx(1e-3 * frames[1].energy_spread, rel=1e-6)
    assert np.allclose(found[1].force_spread, 1e-3 * frames[1].force_spread, rtol=1e-5)


@pytest.mark.parametrize(
    ("spread", "words"), [(np.array([0.1, -0.1, 0.1]), "negative"), (np.array([0.1, np.inf, 0.1]), "not finite")]
)
@pytest.mark.parametrize("suffix", [".xyz", ".h5", ".npz"])
def test_impossible_spreads_are_refused(tmp_path, spread, words, suffix):
    water = replace(frame("H2O", labeled=True), energy_spread=0.1, force_spread=spread)
    path = tmp_path / f"frames{suffix}"
    write_frames(FrameSet([water]), path)
    with pytest.raises(DataError, match=words):
        read_frames(path)


def test_the_report_states_spreads_and_frames_without_labels():
    frames = with_spreads([frame("H2O", seed=seed, labeled=True) for seed in range(4)])
    bare = [frame("H2O", seed=seed) for seed in range(3)]
    report = inspect_frames(FrameSet([*frames, *bare]))
    assert "without labels     3 of 7 frames" in report.lines()
    forces = np.concatenate([one.force_spread for one in frames[1:]])
    assert report.spreads.forces == pytest.approx((np.median(forces), forces.max()))
    assert report.spreads.frames == 3
    assert any(line.startswith("spread of labels   on 3 frames") for line in report.lines())
    assert not any("without" in line or "spread of" in line for line in inspect_frames(FrameSet([frames[0]])).lines())


def test_the_first_spread_may_be_in_a_later_block(tmp_path, monkeypatch):
    monkeypatch.setattr("piwsl.data.formats.packed.BLOCK", 2)
    bare = [frame("CH4", seed=seed, labeled=True) for seed in range(3)]
    frames = FrameSet([*bare, *list(with_spreads([frame("H2O", seed=seed, labeled=True) for seed in range(4)]))])
    write_frames(frames, tmp_path / "late.h5")
    found = read_frames(tmp_path / "late.h5")
    same_spreads(found, frames)
    assert found.census.has_spread.tolist() == [False] * 4 + [True] * 3
