"""ASE databases in SQLite, JSON and LMDB files, as other programs write them."""

import json
import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.db import connect

from piwsl.data.formats.lmdb import write_lmdb
from piwsl.data.lazy import UnknownLayoutError
from piwsl.data.read import read_frames
from piwsl.data.write import write_frames
from piwsl.errors import DataError
from piwsl.units import KCAL_PER_MOL, parse_units
from tests.support.frame_sets import assert_same_frames, mixed_frames, periodic_frame, symmetric_stress
from tests.support.molecules import frame


def needs_backend(ending):
    """ASE reads and writes LMDB through ase-db-backends; piwsl itself needs lmdb only."""
    if ending == ".aselmdb":
        pytest.importorskip("ase_db_backends", reason="ase-db-backends is missing, which this test compares with")


def fill(path):
    """Results, results with a fixed atom, REF_ labels beside other results, none at all; one row deleted."""
    labeled, cell = frame("H2O", labeled=True), periodic_frame(1, stress=symmetric_stress())
    with connect(path, append=False, use_lock_file=False) as database:
        for fixed in (False, True):
            atoms = labeled.atoms()
            atoms.calc = SinglePointCalculator(atoms, energy=labeled.energy, forces=labeled.forces)
            atoms.set_constraint(FixAtoms([0]) if fixed else [])
            database.write(atoms)
        database.write(frame("C6H6").atoms())
        atoms = cell.atoms()
        atoms.calc = SinglePointCalculator(atoms, energy=1.0, forces=np.zeros((6, 3)))
        data = {"REF_forces": cell.forces, "REF_stress": cell.stress}
        database.write(atoms, key_value_pairs={"REF_energy": cell.energy, "source": "test"}, data=data)
        database.write(frame("CH4").atoms())
    if path.suffix != ".json":
        with connect(path, use_lock_file=False) as database:
            del database[3]
        return [labeled, labeled, cell, frame("CH4")]
    return [labeled, labeled, frame("C6H6"), cell, frame("CH4")]


@pytest.mark.parametrize("ending", [".db", ".json", ".aselmdb"])
def test_rows_written_by_ase(tmp_path, ending):
    needs_backend(ending)
    expected = fill(tmp_path / f"a{ending}")
    assert_same_frames(read_frames(tmp_path / f"a{ending}"), expected)


def test_units_of_rows(tmp_path):
    fill(tmp_path / "a.db")
    frames = read_frames(tmp_path / "a.db", parse_units("kcal/mol, nm"))
    labeled, cell = frame("H2O", labeled=True), periodic_frame(1)
    assert frames[0].energy == pytest.approx(labeled.energy * KCAL_PER_MOL)
    assert np.allclose(frames[0].forces, labeled.forces * KCAL_PER_MOL / 10)
    assert np.allclose(frames[0].positions, labeled.positions * 10)
    assert np.allclose(frames[2].cell, cell.cell * 10)
    assert np.allclose(frames[2].stress, symmetric_stress() * KCAL_PER_MOL / 1000)


def test_ase_reads_what_piwsl_writes_to_lmdb(tmp_path):
    needs_backend(".aselmdb")
    write_frames(mixed_frames(), tmp_path / "a.aselmdb")
    with connect(tmp_path / "a.aselmdb", readonly=True, use_lock_file=False) as database:
        rows = list(database.select())
        assert database.count() == 7
    for row, expected in zip(rows, mixed_frames(), strict=True):
        atoms = row.toatoms()
        assert np.array_equal(atoms.positions, expected.positions)
        assert np.array_equal(atoms.cell, expected.cell)
        assert tuple(atoms.pbc) == expected.pbc
        assert row.get("energy", np.nan) == pytest.approx(expected.energy, nan_ok=True, abs=0)
        assert ("forces" in row) == expected.has_forces
    assert np.array_equal(rows[4].toatoms().get_stress(voigt=False), mixed_frames()[4].stress)


def test_an_lmdb_file_grows_with_its_content(tmp_path):
    pytest.importorskip("lmdb")
    frames = list(mixed_frames()) * 40
    write_lmdb(tmp_path / "a.lmdb", frames, map_size=1 << 15)
    assert_same_frames(read_frames(tmp_path / "a.lmdb").select([0, 277]), [frames[0], frames[277]])
    assert os.listdir(tmp_path) == ["a.lmdb"]


def test_reading_leaves_files_as_they_are(tmp_path):
    sqlite3.connect(tmp_path / "notes.db").close()
    write_frames(mixed_frames(), tmp_path / "a.db")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    list(read_frames(tmp_path / "a.db"))
    with pytest.raises(UnknownLayoutError, match="expected an ASE database"):
        read_frames(tmp_path / "notes.db")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def other_sqlite(path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE songs (name TEXT)")
    connection.close()


def pickled_lmdb(path):
    lmdb = pytest.importorskip("lmdb")
    with (
        lmdb.open(str(path), subdir=False, lock=False, map_size=1 << 20) as file,
        file.begin(write=True) as transaction,
    ):
        transaction.put(b"0", b"\x80\x04K\x01.")
        transaction.put(b"length", b"\x80\x04K\x01.")


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("a.db", other_sqlite, "tables songs; expected an ASE database"),
        ("a.lmdb", pickled_lmdb, "keys 0, length, ...; expected the keys of an ASE database"),
        ("a.json", lambda path: path.write_text(json.dumps({"positions": [1, 2]})), "not an ASE database"),
        ("a.json", lambda path: path.write_text(json.dumps([1, 2])), "not an ASE database"),
    ],
)
def test_files_of_something_else(tmp_path, name, make, message):
    make(tmp_path / name)
    with pytest.raises(UnknownLayoutError, match=message) as error:
        read_frames(tmp_path / name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a.db", "a.lmdb", "a.json", "a.h5"])
def test_files_of_noise(tmp_path, name):
    Path(tmp_path / name).write_bytes(np.random.default_rng(0).bytes(20_000))
    with pytest.raises(DataError, match=name) as error:
        read_frames(tmp_path / name)
    assert "\n" not in str(error.value)


def test_wrong_shapes_in_a_row(tmp_path):
    with connect(tmp_path / "a.db") as database:
        database.write(frame("H2O").atoms(), data={"REF_forces": np.zeros((2, 3))})
    with pytest.raises(DataError, match=r"frame 0: forces have shape \(2, 3\), expected \(3, 3\)"):
        read_frames(tmp_path / "a.db")


def test_an_empty_database(tmp_path):
    connect(tmp_path / "a.db").count()
    with pytest.raises(DataError, match="contains no structure"):
        read_frames(tmp_path / "a.db")
