"""Atoms followed across the faces of a cell, and bonds into its images."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.spacegroup import crystal

from piwsl.errors import DataError
from piwsl.structures.periodic import ImageBonds, Unwrapper, image_vectors, images_of
from piwsl.trajectories.frame_source import FrameSource, first_frame, unwrapped

CELL = np.array([[9.0, 0.0, 0.0], [2.0, 8.0, 0.0], [-1.0, 1.5, 7.0]])


def walk(frames, atoms, step, seed=0):
    return np.cumsum(np.random.default_rng(seed).normal(scale=step, size=(frames, atoms, 3)), axis=0)


def wrapped(positions, cells):
    fractions = positions @ np.linalg.inv(cells)
    return (fractions - np.floor(fractions)) @ cells


@pytest.mark.parametrize("breathing", [False, True])
@pytest.mark.parametrize("piece", [1, 7, 500])
def test_a_walk_across_faces_is_followed(breathing, piece):
    # Fractions walk: those of a cell that breathes are what a barostat moves.
    fractions = walk(500, 5, 0.05)
    swell = 1 + 0.02 * breathing * np.sin(np.arange(500) / 20)
    cells = CELL * swell[:, None, None]
    free = fractions @ cells
    unwrap = Unwrapper()
    jumping = wrapped(free, cells)
    found = np.concatenate([unwrap(jumping[i : i + piece], cells[i : i + piece]) for i in range(0, 500, piece)])
    whole_cells = (found - free) @ np.linalg.inv(cells)
    assert np.abs(whole_cells - whole_cells[:1]).max() < 1e-9  # but for the cells that the first frame lies in
    assert np.ptp(free[:, 0, 0]) > 9  # it did cross


def test_frames_without_jumps_stay_as_they_are():
    cells = np.repeat(CELL[None], 50, axis=0)
    free = walk(50, 4, 0.5) + 100.0
    assert np.array_equal(Unwrapper()(free, cells), free)


def test_a_source_is_unwrapped_anew_in_each_pass():
    cells = np.repeat(CELL[None], 2500, axis=0)
    free = walk(2500, 3, 0.4)
    source = unwrapped(FrameSource.of_array(np.array([1, 1, 1]), wrapped(free, cells), cells=cells))
    passes = [np.concatenate([piece for _, piece in source.pieces()]) for _ in range(2)]
    assert np.array_equal(*passes)
    assert np.abs(np.diff(passes[0], axis=0)).max() < 3
    positions, cell = first_frame(source)
    assert np.allclose(positions, wrapped(free, cells)[0])
    assert np.array_equal(cell, CELL)
    assert first_frame(source.without_cells())[1] is None


def test_a_cell_that_comes_and_goes_is_refused():
    def read():
        yield np.zeros((1, 1, 3)), CELL[None]
        yield np.zeros((1, 1, 3)), None

    with pytest.raises(DataError, match="some frames have a cell and others do not"):
        list(unwrapped(FrameSource(np.array([1]), 2, None, read)).pieces())


def bonds_of(atoms: Atoms):
    found = ImageBonds(atoms.numbers, atoms.positions, atoms.cell.array)
    found.add(atoms.positions[None], atoms.cell.array[None])
    return found.bonds()


@pytest.mark.parametrize("repeat", [1, 2, 3])
def test_every_image_of_a_small_cell_has_its_bonds(repeat):
    copper = bulk("Cu") * (repeat, repeat, repeat)
    bonds = bonds_of(copper)
    assert len(bonds) == 6 * len(copper)  # twelve neighbors, each bond once
    assert np.allclose(bonds.lengths, 3.61 / np.sqrt(2), atol=1e-6)
    diamond = bonds_of(bulk("C") * (repeat, repeat, repeat))
    assert len(diamond) == 2 * 2 * repeat**3
    assert set(diamond.types) == {"C-C"}


@pytest.mark.parametrize("repeat", [1, 2])
def test_bonds_are_found_again_where_atoms_lie_in_other_cells(repeat):
    salt = bulk("NaCl", "rocksalt", a=5.64) * (repeat, repeat, repeat)
    bonds = bonds_of(salt)
    rng = np.random.default_rng(3)
    moved = salt.positions + rng.integers(-3, 4, size=(len(salt), 3)) @ salt.cell.array
    moved += rng.normal(scale=0.03, size=moved.shape)
    found = images_of(bonds, moved, salt.cell.array)
    lengths = np.linalg.norm(image_vectors(moved[None], salt.cell.array[None], found)[0], axis=-1)
    assert np.abs(lengths - bonds.lengths).max() < 0.3
    keys = {(*pair, *image) for pair, image in zip(found.pairs.tolist(), found.images.tolist(), strict=True)}
    assert len(keys) == len(bonds)  # no image is taken twice


def test_atoms_far_apart_have_no_bonds_and_metals_none_in_compounds():
    assert len(bonds_of(Atoms("Ar", cell=[9, 9, 9], pbc=True))) == 0
    places, lengths = [(0, 0, 0), (0.305, 0.305, 0)], [4.594, 4.594, 2.959, 90, 90, 90]
    rutile = bonds_of(crystal(["Ti", "O"], places, spacegroup=136, cellpar=lengths))
    assert set(rutile.types) == {"O-Ti"}  # and not Ti-Ti at 2.96 angstrom, within the radii of titanium
    assert len(rutile) == 12
