"""Frames in pieces, of every kind of source."""

import tracemalloc
from dataclasses import replace

import mdtraj
import numpy as np
import pytest
from ase import Atoms
from ase.geometry import cellpar_to_cell
from ase.io import write

from piwsl.analysis.quantities.distances import distance_histogram
from piwsl.analysis.reference import Reference
from piwsl.data.frames import Frame, FrameSet
from piwsl.data.read import read_frames
from piwsl.errors import DataError
from piwsl.trajectories.dcd import cell_vectors
from piwsl.trajectories.decoding import PIECE
from piwsl.trajectories.files import open_trajectory
from piwsl.trajectories.frame_source import FrameSource

FRAMES = 2300


@pytest.fixture(scope="module")
def positions(runs):
    return runs.shaking(FRAMES, seed=1).astype(np.float32)


def source_of(kind, runs, folder, positions):
    numbers = runs.ETHANOL.numbers
    if kind == "array":
        return FrameSource.of_array(numbers, positions)
    if kind == "set":
        frames = [Frame(numbers, frame, 0.0, np.zeros((9, 3))) for frame in positions]
        return FrameSource.of_frames(FrameSet(frames), "mine")
    path = folder / f"t.{kind}"
    if kind == "extxyz":
        write(path, [Atoms(numbers, frame, info={"time_fs": 50.0 * k}) for k, frame in enumerate(positions)])
    else:
        runs.write_trajectory(path, positions)
    topology = None
    if kind == "trr":
        topology = folder / "top.pdb"
        runs.write_trajectory(topology, positions[:1])
    return open_trajectory(path, topology).source(numbers)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["array", "set", "dcd", "xtc", "trr", "extxyz"])
def test_pieces_of_a_thousand_frames_as_often_as_asked_for(kind, runs, tmp_path, positions):
    source = source_of(kind, runs, tmp_path, positions)
    assert len(source) == FRAMES
    for _ in range(2):
        pieces = list(source.pieces())
        assert [first for first, _ in pieces] == [0, 1000, 2000]
        assert max(len(piece) for _, piece in pieces) <= PIECE
        np.testing.assert_allclose(np.concatenate([piece for _, piece in pieces]), positions, atol=0.0061)
    assert [(first, len(piece)) for first, piece in source.pieces(1200)] == [(0, 1000), (1000, 200)]
    assert list(source.pieces(0)) == []
    np.testing.assert_allclose(source.at(np.array([2299, 3])), positions[[3, 2299]], atol=0.0061)
    if kind == "extxyz":
        np.testing.assert_allclose(source.times, 50.0 * np.arange(FRAMES))
    for _, _, cells in source.pieces_with_cells():
        assert cells is None


@pytest.mark.parametrize("suffix", ["dcd", "xtc", "trr", "extxyz"])
def test_cells(suffix, runs, tmp_path, positions):
    cell = cellpar_to_cell([20, 25, 30, 80, 95, 110])
    path, numbers = tmp_path / f"t.{suffix}", runs.ETHANOL.numbers
    if suffix == "extxyz":
        write(path, [Atoms(numbers, frame, cell=cell, pbc=True) for frame in positions[:3]])
    else:
        trajectory = mdtraj.Trajectory(positions[:3] / 10, runs.topology_of(numbers))
        trajectory.unitcell_vectors = np.tile(cell / 10, (3, 1, 1))
        trajectory.save(str(path))
        trajectory[0].save_pdb(str(tmp_path / "top.pdb"))
    source = open_trajectory(path, tmp_path / "top.pdb" if suffix == "trr" else None).source(numbers)
    ((_, _, cells),) = source.pieces_with_cells()
    np.testing.assert_allclose(cells, np.tile(cell, (3, 1, 1)), atol=2e-4)


def test_cell_of_lengths_and_angles():
    parameters = np.array([[3.0, 4.0, 5.0, 90.0, 90.0, 90.0], [10.0, 9.0, 8.0, 70.0, 100.0, 120.0]])
    found = cell_vectors(parameters[:, :3], parameters[:, 3:])
    np.testing.assert_allclose(found, [cellpar_to_cell(one) for one in parameters], atol=1e-9)
    assert found[0, 1, 0] == 0.0


def test_frames_of_two_molecules_are_refused(runs):
    molecules = (np.array([1, 1]), np.array([1, 8]))
    frames = [Frame(numbers, np.zeros((2, 3)), 0.0, np.zeros((2, 3))) for numbers in molecules]
    with pytest.raises(DataError, match="mine: frames 0 and 1 are different molecules"):
        list(FrameSource.of_frames(FrameSet(frames), "mine").pieces())


def test_progress_of_every_pass(runs, positions):
    told = []
    source = FrameSource.of_frames(
        FrameSet([Frame(runs.ETHANOL.numbers, frame, 0.0, np.zeros((9, 3))) for frame in positions]),
        "mine",
        lambda done, total: told.append((done, total)),
    )
    _ = Reference("mine", source).statistics
    assert told == 2 * [(1000, 2300), (2000, 2300), (2300, 2300)]


def test_reordered_atoms(runs, positions):
    order = np.array([8, 0, 1, 2, 3, 4, 5, 6, 7])
    source = FrameSource.of_array(runs.ETHANOL.numbers, positions).reordered(order)
    assert source.species.tolist() == [runs.ETHANOL.numbers[k] for k in order]
    np.testing.assert_array_equal(source.all(), positions[:, order])


@pytest.mark.slow
def test_memory_does_not_grow_with_the_frames(runs):
    """Frames made on the fly: 131 000 and 262 000 of them, whose positions take 14 MB more."""
    base = runs.shaking(1000, seed=2).astype(np.float32)

    def peak(frames):
        def read():
            for _ in range(frames // 1000):
                yield base, None

        tracemalloc.start()
        _ = Reference("mine", FrameSource(runs.ETHANOL.numbers, frames, None, read)).statistics
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(1000)  # imports
    assert peak(262_000) - peak(131_000) < 1e6


def test_h_of_r_of_elements_adds_up_to_that_of_all(runs, positions):
    found = Reference.of_frames("mine", runs.ETHANOL.numbers, positions).statistics.measured["h_of_r"]
    assert sorted(found.by_kind) == ["C-C", "C-H", "C-O", "H-H", "O-H"]
    total = sum(one.blocks.total for one in found.by_kind.values())
    np.testing.assert_array_equal(total, found.all_pairs.blocks.total)
    np.testing.assert_array_equal(total, distance_histogram(positions).blocks.total)
    chosen = [k for k, number in enumerate(runs.ETHANOL.numbers) if number == 1]
    np.testing.assert_array_equal(
        found.by_kind["H-H"].blocks.total, distance_histogram(positions[:, chosen]).blocks.total
    )


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_frames_with_and_without_a_cell_are_no_reference(order):
    cell = Frame(np.array([29]), np.zeros((1, 3)), 0.0, np.zeros((1, 3)), cell=3.0 * np.eye(3), pbc=(True, True, True))
    frames = [cell, replace(cell, cell=np.zeros((3, 3)), pbc=(False, False, False))]
    source = FrameSource.of_frames(FrameSet([frames[place] for place in order]), "mine")
    with pytest.raises(DataError, match="mine: some frames have a cell and others do not"):
        list(source.pieces())


def test_a_cell_of_another_name_in_a_reference_is_noted(tmp_path):
    (tmp_path / "a.xyz").write_text('1\nbox="3 3 3"\nCu 0 0 0\n')
    (note,) = FrameSource.of_frames(read_frames(tmp_path / "a.xyz"), "mine").notes
    assert note.startswith("1 of 1 frames have no cell, but 'box', which is not read")


@pytest.mark.parametrize("name", ["a.extxyz", "a.dcd"])
def test_trajectories_whose_cell_comes_and_goes_are_refused(tmp_path, name):
    """One frame without a cell made the crystal a molecule."""
    cells = [np.array([9.0, 9.0, 9.0]), np.zeros(3)]
    if name == "a.extxyz":
        frames = [Atoms("Cu", cell=cell, pbc=cell.any(), info={"time_fs": float(k)}) for k, cell in enumerate(cells)]
        write(tmp_path / name, frames)
    else:
        with mdtraj.formats.DCDTrajectoryFile(str(tmp_path / name), "w") as file:
            for cell in cells:
                file.write(np.zeros((1, 1, 3), dtype=np.float32), cell_lengths=cell, cell_angles=np.full(3, 90.0))
    with pytest.raises(DataError, match=f"{name}: some frames have a cell and others do not"):
        list(open_trajectory(tmp_path / name).source(np.array([29])).pieces())
