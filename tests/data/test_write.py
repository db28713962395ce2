"""Every format that can be written, back and forth."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from ase.io import read

from piwsl.data.frames import Frame, FrameSet
from piwsl.data.read import read_frames
from piwsl.data.write import WRITERS, write_frames
from piwsl.errors import DataError
from tests.support.frame_sets import assert_same_frames, mixed_frames, periodic_frame
from tests.support.molecules import frame

# Extended XYZ has 8 decimals of positions and forces; all others keep every bit.
PRECISION = {".extxyz": 5.1e-9, ".xyz": 5.1e-9}
MIXED = [ending for ending in WRITERS if ending != ".npz"]


@pytest.mark.parametrize("ending", MIXED)
def test_all_labels_and_cells_come_back(tmp_path, ending):
    target = tmp_path / f"a{ending}"
    counts = write_frames(mixed_frames(), target)
    assert counts == {"frames": 7, "energies": 4, "forces": 5, "stresses": 1}
    assert_same_frames(read_frames(target), mixed_frames(), PRECISION.get(ending, 0.0))
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def molecule_frames(**changes):
    made = [frame("H2O", seed=seed, labeled=True) for seed in range(5)]
    return FrameSet([Frame(**{**vars(one), **changes}) for one in made])


@pytest.mark.parametrize("changes", [{}, {"forces": np.full((3, 3), np.nan)}, {"energy": np.nan}])
def test_npz_of_one_molecule(tmp_path, changes):
    write_frames(molecule_frames(**changes), tmp_path / "a.npz")
    assert_same_frames(read_frames(tmp_path / "a.npz"), molecule_frames(**changes))


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([frame("H2O"), frame("CH4")], "frame 1 has other atoms"),
        ([periodic_frame()], "frame 0 has a cell"),
        ([frame("H2O"), frame("H2O", labeled=True)], "1 of 2 frames have no energies"),
    ],
)
def test_what_npz_cannot_hold_is_refused(tmp_path, frames, message):
    with pytest.raises(DataError, match=message):
        write_frames(FrameSet(frames), tmp_path / "a.npz")
    assert not list(tmp_path.iterdir())


def test_labels_of_databases_are_results_for_ase(tmp_path):
    write_frames(mixed_frames(), tmp_path / "a.db")
    atoms = read(tmp_path / "a.db", index=4)
    expected = mixed_frames()[4]
    assert atoms.get_potential_energy() == expected.energy
    assert np.array_equal(atoms.get_stress(voigt=False), expected.stress)


def test_progress_counts_all_frames(tmp_path):
    calls = []
    write_frames(FrameSet([frame("H2O")] * 2500), tmp_path / "a.h5", progress=lambda *a: calls.append(a))
    assert calls == [(1000, 2500), (2000, 2500), (2500, 2500)]


def test_nothing_is_overwritten_or_half_written(tmp_path):
    target = tmp_path / "a.h5"
    write_frames(mixed_frames(), target)
    with pytest.raises(DataError, match="force=True"):
        write_frames(FrameSet([frame("H2O")]), target)
    with pytest.raises(DataError, match="cannot write a file with this suffix"):
        write_frames(mixed_frames(), tmp_path / "a.cif")

    class Breaking(list):
        def __iter__(self):
            yield from mixed_frames()
            raise DataError("no more")

    with pytest.raises(DataError, match="no more"):
        write_frames(FrameSet(Breaking()), target, force=True)
    assert len(read_frames(target)) == 7
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]
    write_frames(FrameSet([frame("H2O")]), target, force=True)
    assert len(read_frames(target)) == 1


def test_a_packed_file_states_what_it_is(tmp_path):
    write_frames(mixed_frames(), tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        assert dict(file.attrs) == {"format": "piwsl-frames", "version": 1}
        units = {name: array.attrs["unit"] for name, array in file.items() if "unit" in array.attrs}
        assert units == {
            "positions": "angstrom",
            "forces": "eV/angstrom",
            "cell": "angstrom",
            "energy": "eV",
            "stress": "eV/angstrom^3",
        }
        assert file["offsets"][:].tolist() == [0, 3, 12, 15, 27, 33, 39, 45]


@pytest.mark.parametrize("ending", WRITERS)
def test_texts_come_back(tmp_path, ending):
    frames = [
        replace(frame("H2O", seed=seed, labeled=True), config_type=kind, labels_from=origin)
        for seed, (kind, origin) in enumerate((("", "A: license: MIT, see (1)"), ("wäßrig", "")))
    ]
    write_frames(FrameSet(frames), tmp_path / f"a{ending}")
    again = read_frames(tmp_path / f"a{ending}")
    assert [one.config_type for one in again] == ["", "wäßrig"]
    assert [one.labels_from for one in again] == ["A: license: MIT, see (1)", ""]
    assert again.census.labels_from == again.select([1]).census.labels_from == ("A: license: MIT, see (1)",)
    assert {"config_type", "labels_from"} <= set(again.names.read)
    assert not again.names.unread


def test_a_file_that_another_process_wrote_in_the_meantime_is_kept(tmp_path):
    path = tmp_path / "a.extxyz"
    frames = FrameSet([frame("H2O", seed=seed, labeled=True) for seed in range(3)])
    with pytest.raises(DataError, match="exists: choose another name"):
        write_frames(frames, path, progress=lambda done, total: path.write_text("other"))
    assert path.read_text() == "other"
    assert list(tmp_path.iterdir()) == [path]
