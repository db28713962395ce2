import numpy as np
import pytest

from piwsl.analysis.compare_run import compare_run
from piwsl.analysis.reference import Reference
from piwsl.analysis.reference_statistics import is_reference_statistics, read_reference_statistics
from piwsl.analysis.run_directory import read_run
from piwsl.errors import DataError, RunDirectoryError


@pytest.fixture(scope="module")
def reference(runs):
    return Reference.of_frames("mine", runs.ETHANOL.numbers, runs.shaking(1500, seed=100), 50.0 * np.arange(1500))


@pytest.fixture
def saved(reference, tmp_path):
    reference.save_statistics(tmp_path / "reference.npz")
    return tmp_path / "reference.npz"


@pytest.mark.slow
def test_a_run_is_compared_equally_with_frames_and_with_saved_statistics(runs, tmp_path, reference, saved):
    run = read_run(runs.write_run(tmp_path / "run", runs.shaking(800, seed=1)))
    loaded = read_reference_statistics(saved)
    assert compare_run(run, loaded).as_dict() == compare_run(run, reference).as_dict()
    assert (loaded.name, loaded.frames, loaded.length) == ("mine", 1500, 50.0 * 1499)
    assert len(loaded.digest) == 64


def test_statistics_are_small(saved):
    assert saved.stat().st_size < 300_000  # the frames are 324 kB in float64 for each 1500: these do not grow


def test_frames_without_times_stay_without(runs, tmp_path):
    reference = Reference.of_frames("mine", runs.ETHANOL.numbers, runs.shaking(50, seed=2))
    reference.save_statistics(tmp_path / "r.npz")
    assert read_reference_statistics(tmp_path / "r.npz").length is None


def test_the_digest_is_that_of_the_frames(runs, reference):
    other = Reference.of_frames("mine", runs.ETHANOL.numbers, runs.shaking(1500, seed=101))
    same = Reference.of_frames("other name", runs.ETHANOL.numbers, reference.frames.all())
    assert other.statistics.digest != reference.statistics.digest == same.statistics.digest


def test_other_files(runs, tmp_path, saved):
    np.savez(tmp_path / "frames.npz", z=runs.ETHANOL.numbers, R=runs.shaking(5, seed=3))
    assert is_reference_statistics(saved)
    for name in ("frames.npz", "none.npz"):
        assert not is_reference_statistics(tmp_path / name)
    with pytest.raises(DataError, match="no such file"):
        read_reference_statistics(tmp_path / "none.npz")
    with pytest.raises(
        DataError, match=r"frames\.npz: contains no reference statistics: create them with save_reference=FILE"
    ):
        read_reference_statistics(tmp_path / "frames.npz")


def test_damaged_and_newer_statistics(saved):
    with np.load(saved) as archive:
        values = dict(archive)
    missing = {name: value for name, value in values.items() if name != "h_of_r/all_pairs.blocks.sums"}
    np.savez(saved, **missing)
    with pytest.raises(DataError, match="damaged"):
        read_reference_statistics(saved)
    np.savez(saved, **{**values, "format_version": 99})
    with pytest.raises(DataError, match="format version 99 was written by a newer piwsl"):
        read_reference_statistics(saved)


def test_a_place_that_cannot_be_written(tmp_path, reference):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirectoryError, match="cannot be written"):
        reference.save_statistics(tmp_path / "file" / "r.npz")


def test_altered_statistics_are_not_used(saved, tmp_path):
    with np.load(saved) as archive:
        values = dict(archive)
    values["bond_lengths"] = values["bond_lengths"] * 1.001
    np.savez_compressed(tmp_path / "altered.npz", **values)
    with pytest.raises(DataError, match=r"altered.npz: damaged \(the checksum differs\)"):
        read_reference_statistics(tmp_path / "altered.npz")
    values["start"] = np.zeros(10_000_000)
    np.savez_compressed(tmp_path / "bomb.npz", **values)
    content = (tmp_path / "bomb.npz").read_bytes()
    content = content.replace((80_000_128).to_bytes(4, "little"), (2**32 - 2).to_bytes(4, "little"))
    (tmp_path / "bomb.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"bomb.npz: damaged \(the arrays are too large for the size of the file\)"):
        read_reference_statistics(tmp_path / "bomb.npz")


@pytest.mark.slow
def test_damage_anywhere_is_one_line(saved):
    content = saved.read_bytes()
    for seed in range(40):
        damaged = bytearray(content)
        rng = np.random.default_rng(seed)
        damaged[int(rng.integers(len(damaged)))] ^= 1 << int(rng.integers(8))
        saved.write_bytes(bytes(damaged))
        try:
            read_reference_statistics(saved)  # in parts of the archive that nobody reads
        except DataError as error:
            message = str(error)
            assert "\n" not in message
