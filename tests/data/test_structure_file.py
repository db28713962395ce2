"""The structure that a run starts from is the last frame of its file."""

import bz2
import gzip
import logging
import lzma

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.constraints import FixAtoms
from ase.io import write

from piwsl.data import read_frames
from piwsl.data.structure_file import load_structure
from piwsl.errors import DataError


def frames(folder, name="frames.extxyz"):
    """Three frames of water, whose oxygen moves by 1 angstrom from frame to frame, as lines."""
    several = []
    for index in range(3):
        atoms = molecule("H2O")
        atoms.positions += [index, 0, 0]
        atoms.set_constraint(FixAtoms([0]))
        several.append(atoms)
    write(folder / name, several, columns=["symbols", "positions", "move_mask"], write_results=False)
    return (folder / name).read_text().splitlines()


@pytest.mark.parametrize("blank", [[""], ["", ""], ["   \t"], ["\r"]])
@pytest.mark.parametrize("after", [0, 5, 10, 15])
def test_empty_lines_do_not_end_a_file(blank, after, tmp_path):
    """The reader of ASE ends at the first empty line, so that runs started from an earlier frame."""
    lines = frames(tmp_path)
    text = "\n".join([*lines[:after], *blank, *lines[after:], ""])
    (tmp_path / "blank.xyz").write_text(text)
    for end, packed in ((".gz", gzip), (".bz2", bz2), (".xz", lzma)):
        with packed.open(tmp_path / f"blank.xyz{end}", "wt") as stream:
            stream.write(text)
    for name in ("blank.xyz", "blank.xyz.gz", "blank.xyz.bz2", "blank.xyz.xz"):
        atoms = load_structure(tmp_path / name)
        assert atoms.positions[0, 0] == pytest.approx(2.0)
        assert np.array_equal(atoms.positions, read_frames(tmp_path / name)[-1].positions)
        assert atoms.constraints[0].index.tolist() == [0]


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["", ""], "contains no structure"),
        (["3", "", "O 0 0 0", "H 1 0 0"], "ends within frame 0 after 2 of 3 atoms"),
        (["1", "", "O 0 0 0", "and more"], "line 4 is 'and more'; expected the number of atoms of frame 1"),
    ],
)
def test_files_that_are_cut_or_go_on_differently(lines, problem, tmp_path):
    (tmp_path / "wrong.xyz").write_text("\n".join(lines))
    with pytest.raises(DataError, match=rf"wrong\.xyz: {problem}"):
        load_structure(tmp_path / "wrong.xyz")


def test_old_line_ends_and_marks_of_byte_order(tmp_path):
    text = "\r".join(frames(tmp_path))
    (tmp_path / "old.xyz").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert load_structure(tmp_path / "old.xyz").positions[0, 0] == pytest.approx(2.0)


def test_a_cif_line_with_another_number_of_values_is_an_error(tmp_path, caplog):
    """ASE reads the atoms before the line, and warns."""
    path = tmp_path / "salt.cif"
    write(path, bulk("NaCl", "rocksalt", a=5.64, cubic=True))
    assert len(load_structure(path)) == 8
    path.write_text(path.read_text().replace("Cl4 ", "Cl4 extra "))
    with pytest.raises(DataError, match=r"salt\.cif: Wrong number 8 of tokens.*: correct the line"):
        load_structure(path)
    assert caplog.messages == []


def test_another_warning_of_a_reader_is_repeated(tmp_path, caplog):
    path = tmp_path / "water.pdb"
    write(path, molecule("H2O"))
    path.write_text(path.read_text().replace("  1.00  0.00", "  ????  0.00", 1))
    assert len(load_structure(path)) == 3
    assert caplog.messages == [f"{path}: Length of occupancy array, 2, different from number of atoms 3"]


@pytest.mark.parametrize("name", ["cell", "unit_cell", "box"])
def test_a_cell_of_another_name_is_reported(name, tmp_path, caplog):
    """A run would treat the crystal as a molecule."""
    text = f'1\nLattice="3 0 0 0 3 0 0 0 3" {name}="3 3 3"\nCu 0 0 0\n'
    (tmp_path / "named.xyz").write_text(text)
    (tmp_path / "other.xyz").write_text(text.replace('Lattice="3 0 0 0 3 0 0 0 3" ', ""))
    with caplog.at_level(logging.WARNING):
        assert load_structure(tmp_path / "named.xyz").pbc.all()
        assert caplog.text == ""
        assert not load_structure(tmp_path / "other.xyz").pbc.any()
    assert f"other.xyz: has no cell, but {name!r}, which is not read" in caplog.text


def test_names_of_the_format_in_other_letters(tmp_path):
    (tmp_path / "a.xyz").write_text(
        '1\nlattice="3 0 0 0 3 0 0 0 3" properties=species:S:1:pos:R:3 PBC="T T T"\nCu 0 0 0\n'
    )
    assert load_structure(tmp_path / "a.xyz").cell.lengths().tolist() == [3, 3, 3]
