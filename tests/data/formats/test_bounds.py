"""Sizes, types and units that files state: compared with the file before they are believed."""

import gzip
import io
import json
import sqlite3
import zipfile
import zlib

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.io import write

from piwsl.data.formats.lmdb_pages import LmdbFile
from piwsl.data.inspect import inspect_frames
from piwsl.data.read import read_frames
from piwsl.data.write import write_frames
from piwsl.errors import DataError
from piwsl.runs.untrusted import TooLargeError, check_count
from piwsl.units import KCAL_PER_MOL
from tests.support.ani_files import write_ani
from tests.support.frame_sets import mixed_frames
from tests.support.molecules import frame


def refused(path, message, units=None):
    with pytest.raises(DataError, match=message) as error:
        list(read_frames(path, units))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


# npz


def waters(count=3, **changes):
    made = [frame("H2O", seed=seed, labeled=True) for seed in range(count)]
    arrays = {
        "z": made[0].species,
        "R": np.array([one.positions for one in made]),
        "E": np.array([one.energy for one in made]),
        "F": np.array([one.forces for one in made]),
    }
    return {key: value for key, value in {**arrays, **changes}.items() if value is not None}


def test_further_units_in_npz(tmp_path):
    np.savez(tmp_path / "a.npz", **waters(), e_unit="kcal/mol", r_unit="Ang", energy_unit="eV")
    refused(tmp_path / "a.npz", "energy_unit is 'eV', but the file is read with other units")
    np.savez(tmp_path / "b.npz", **waters(), units="eV", energy_unit="eV")
    assert "energy_unit" in read_frames(tmp_path / "b.npz").names.read


def test_units_of_sgdml(tmp_path):
    np.savez(tmp_path / "a.npz", **waters(), e_unit="kcal/mol", r_unit="Ang", name="water", theory="PBE")
    frames = read_frames(tmp_path / "a.npz")
    assert frames[0].energy == pytest.approx(waters()["E"][0] * KCAL_PER_MOL)
    assert frames.names.read == {"E": 3, "F": 3, "e_unit": 3, "r_unit": 3}
    assert set(frames.names.unread) == {"name", "theory"}
    refused(tmp_path / "a.npz", "contains its units, 'kcal/mol, Ang'", "kJ/mol")
    np.savez(tmp_path / "b.npz", **waters(), e_unit=np.array(b"furlong"), r_unit="Ang")
    refused(tmp_path / "b.npz", "the units in the file cannot be used: unknown energy unit")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"E": waters()["E"] * 1j}, "E is of type complex128"),
        ({"E": np.array(["2020-01-01"] * 3, dtype="datetime64[D]")}, "E is of type datetime64"),
        ({"E": np.array([True, False, True])}, "E is of type bool"),
        ({"z": np.array([8.0, 1.5, 1.0])}, "atomic numbers must be one integer per atom"),
        ({"z": np.array(["O", "H", "H"])}, "atomic numbers must be one integer per atom"),
        ({"R": waters()["R"] * 1e300}, "beyond"),
        ({"R": np.zeros((0, 3, 3)), "E": None, "F": None}, "contains no structure"),
        ({"R": waters()["R"].astype(str)}, "R is of type"),
    ],
)
def test_types_are_not_coerced(tmp_path, changes, message):
    np.savez(tmp_path / "a.npz", **waters(**changes))
    refused(tmp_path / "a.npz", message, "eV")


def test_arrays_in_the_order_of_fortran(tmp_path):
    np.savez(tmp_path / "a.npz", **waters(R=np.asfortranarray(waters()["R"])))
    assert np.array_equal(read_frames(tmp_path / "a.npz", "eV")[1].positions, waters()["R"][1])


def claimed(shape, content=b""):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return header.getvalue() + content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (claimed((10**6, 10**6, 3)), "has the shape"),
        (claimed((2,), bytes(8)), "has the shape"),
        (claimed((2,), bytes(24)), "has the shape"),
        (bytes(2**27), "would take"),
    ],
    ids=["large", "short", "long", "bomb"],
)
def test_sizes_of_arrays_are_compared(tmp_path, content, message):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("z.npy", content)
    refused(tmp_path / "a.npz", message)


def test_frames_without_atoms_and_frames_that_do_not_fit(tmp_path):
    empty = {"z": np.zeros(0, dtype=int), "R": np.zeros((10**7, 0, 3)), "F": np.zeros((10**7, 0, 3)), "E": None}
    np.savez(tmp_path / "a.npz", **waters(**empty))
    refused(tmp_path / "a.npz", "contains no atoms", "eV")
    np.savez(tmp_path / "b.npz", **waters(R=np.zeros((10**8, 0, 3)), E=None, F=None))
    refused(tmp_path / "b.npz", r"R \(100000000, 0, 3\); expected \(atoms,\) and \(frames, atoms, 3\)", "eV")
    many = {"z": np.ones(1, dtype=int), "R": np.zeros((200_000, 1, 3), dtype="i1"), "E": None, "F": None}
    np.savez_compressed(tmp_path / "c.npz", **waters(**many))
    refused(tmp_path / "c.npz", "200000 structures would take 100000000 bytes", "eV")


# Extended XYZ


def test_values_and_structures_of_compressed_text(tmp_path):
    with gzip.open(tmp_path / "a.xyz.gz", "wb") as stream:
        stream.write(b'1\nfoo="' + b"1 " * 2**20 + b'"\nH 0 0 0\n')
    refused(tmp_path / "a.xyz.gz", "line 2 is longer than 2 MB: remove values from this line")
    with gzip.open(tmp_path / "b.xyz.gz", "wb") as stream:
        stream.write(b"1\n\nH 0 0 0\n" * 3)
    assert len(read_frames(tmp_path / "b.xyz.gz")) == 3


def test_numbers_of_structures_are_compared_with_the_file():
    check_count(100_000, 100)
    check_count(10**7, 10**9)
    with pytest.raises(TooLargeError, match="1000000 structures would take 500000000 bytes in a file of 100 bytes"):
        check_count(10**6, 100)


# ASE databases


@pytest.mark.parametrize("ending", [".json", ".db"])
def test_names_in_databases(tmp_path, ending):
    with connect(tmp_path / f"a{ending}", use_lock_file=False) as database:
        database.write(frame("H2O").atoms(), energy_pbe=-1.0, data={"dft_forces": np.zeros((3, 3))})
    report = inspect_frames(read_frames(tmp_path / f"a{ending}"))
    assert set(report.names.unread) == {"energy_pbe", "dft_forces"}
    assert any("'dft_forces', which is not read" in warning for warning in report.warnings)


def test_the_energy_of_the_forces_in_a_database(tmp_path):
    labeled = frame("H2O", labeled=True)
    atoms = labeled.atoms()
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, free_energy=-2.0, forces=labeled.forces)
    with connect(tmp_path / "a.db", use_lock_file=False) as database:
        database.write(atoms)
    frames = read_frames(tmp_path / "a.db")
    assert frames[0].energy == -2.0
    assert any("free_energy was read" in note for note in frames.notes)
    write(tmp_path / "a.traj", atoms)
    assert read_frames(tmp_path / "a.traj")[0].energy == -2.0


@pytest.mark.parametrize("suffix", ["db", "json", "aselmdb"])
@pytest.mark.parametrize("unit", ["hartree", "eV", None])
def test_units_in_the_metadata_of_a_database(tmp_path, suffix, unit):
    path = tmp_path / f"a.{suffix}"
    metadata = {"title": "waters"} if unit is None else {"energy_unit": unit}
    if suffix == "aselmdb":
        lmdb = pytest.importorskip("lmdb")
        write_frames(mixed_frames(), path)
        with lmdb.open(str(path), subdir=False, lock=False) as file, file.begin(write=True) as transaction:
            transaction.put(b"metadata", zlib.compress(json.dumps(metadata).encode()))
    else:
        with connect(path) as database:
            database.write(frame("H2O").atoms(), REF_energy=-1.0)
        database.metadata = metadata
    if unit == "hartree":
        refused(path, "energy_unit is 'hartree', but the file is read with other units")
    else:
        assert len(read_frames(path)) >= 1


def test_units_that_a_row_states(tmp_path):
    with connect(tmp_path / "a.db", use_lock_file=False) as database:
        database.write(frame("H2O").atoms(), REF_energy=-1.0, energy_unit="hartree")
    refused(tmp_path / "a.db", "energy_unit is 'hartree'")
    assert read_frames(tmp_path / "a.db", "hartree")[0].energy == pytest.approx(-27.2114, abs=1e-4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"ids": [1], "1": {"__ndarray__": [[100000, 100000], "float64", [0]]}}', "10000000000 numbers"),
        ("[" * 100_000, "nested too deeply"),
        ('{"1": {"numbers": [1], "positions": "none"}, "ids": [1], "nextid": 2}', "in its positions is not a number"),
        ('{"1": {"numbers": [1.5], "positions": [[0, 0, 0]]}, "ids": [1], "nextid": 2}', "one integer per atom"),
        ('{"1": {"numbers": [1], "positions": [[0, 0, 0]], "pbc": "yes"}, "ids": [1], "nextid": 2}', "pbc is 'yes'"),
        ('{"1": 5, "ids": [1], "nextid": 2}', "not an ASE database"),
        ('{"1": {}, "ids": ["1"], "nextid": 2}', "not an ASE database"),
        ('{"1": {}, "ids": [1], "nextid": 2}', "not a structure"),
        ('{"a": ' + "9" * 6000 + "}", "cannot be read as JSON"),
    ],
)  # fmt: skip
def test_json_of_other_types(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    refused(tmp_path / "a.json", message)


def test_an_sqlite_file_without_an_end(tmp_path):
    connection = sqlite3.connect(tmp_path / "a.db")
    endless = "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n) SELECT id FROM n"
    connection.execute(f"CREATE VIEW systems AS {endless}")
    connection.close()
    refused(tmp_path / "a.db", "expected an ASE database")


# LMDB


def lmdb_with(path, entries):
    lmdb = pytest.importorskip("lmdb")
    with (
        lmdb.open(str(path), subdir=False, lock=False, map_size=1 << 27) as file,
        file.begin(write=True) as transaction,
    ):
        for key, value in entries.items():
            transaction.put(key, value)


def test_pages_are_read_as_the_lmdb_library_reads_them(tmp_path):
    lmdb = pytest.importorskip("lmdb")
    rng = np.random.default_rng(0)
    entries = {str(number).encode(): rng.bytes(int(rng.integers(1, 9000))) for number in range(1, 3000)}
    lmdb_with(tmp_path / "a.lmdb", entries)
    options = {"subdir": False, "lock": False, "map_size": 1 << 27}
    with lmdb.open(str(tmp_path / "a.lmdb"), **options) as file, file.begin(write=True) as transaction:
        for number in range(1, 3000, 3):
            transaction.delete(str(number).encode())
            del entries[str(number).encode()]
    with lmdb.open(str(tmp_path / "a.lmdb"), **options) as file:
        assert file.stat()["depth"] > 1
    file = LmdbFile(tmp_path / "a.lmdb")
    assert file.entries == len(entries)
    assert all(file.get(key) == value for key, value in entries.items())
    assert file.get(b"1") is None
    assert file.get(b"") is None
    assert file.get(b"zzz") is None
    assert set(file.keys(5)) <= entries.keys()
    file.close()


def test_entries_of_lmdb_that_are_too_large(tmp_path):
    lmdb_with(tmp_path / "a.lmdb", {b"nextid": zlib.compress(b"2"), b"1": zlib.compress(bytes(2**27), 1)})
    refused(tmp_path / "a.lmdb", "unpack to more than")
    lmdb_with(tmp_path / "b.lmdb", {b"nextid": zlib.compress(b"9223372036854775807")})
    refused(tmp_path / "b.lmdb", "damaged, 9223372036854775806 structures in 1 entries")


def test_pages_that_lead_in_a_circle(tmp_path):
    rng = np.random.default_rng(0)
    entries = {str(number).encode(): rng.bytes(1500) for number in range(100)}
    lmdb_with(tmp_path / "a.lmdb", entries)
    data = bytearray((tmp_path / "a.lmdb").read_bytes())
    root = LmdbFile(tmp_path / "a.lmdb")._root
    node = int.from_bytes(data[4096 * root + 16 : 4096 * root + 18], "little")
    data[4096 * root + node : 4096 * root + node + 4] = root.to_bytes(4, "little")
    (tmp_path / "a.lmdb").write_bytes(data)
    with pytest.raises(ValueError, match="nested too deeply"):
        LmdbFile(tmp_path / "a.lmdb").get(b"0")


# HDF5


def changed_hdf5(path, change):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "a") as file:
        change(h5py, file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h5py, file: file["energy"].attrs.__setitem__("unit", "hartree"), "energy states the unit 'hartree'"),
        (lambda h5py, file: file["energy"].attrs.__setitem__("units", "hartree"), "energy states the unit 'hartree'"),
        (lambda h5py, file: file["energy"].attrs.__delitem__("unit"), "energy states no unit, but packed files use eV"),
        (lambda h5py, file: file.attrs.__setitem__("units", "hartree, bohr"), "its attributes state units other than"),
        (
            lambda h5py, file: file.attrs.__setitem__("units", np.bytes_("hartree, bohr")),
            "its attributes state units other than",
        ),
        (lambda h5py, file: (file.__delitem__("energy"), file.create_group("energy")), "energy is not an array"),
        (lambda h5py, file: (file.__delitem__("pbc"), file.__setitem__("pbc", 1)), "pbc is not an array"),
        (lambda h5py, file: file.attrs.__setitem__("version", "x" * 3000), "packed format xxx"),
    ],
)
def test_packed_files_of_other_types_and_units(tmp_path, change, message):
    write_frames(mixed_frames(), tmp_path / "a.h5")
    changed_hdf5(tmp_path / "a.h5", change)
    refused(tmp_path / "a.h5", message)


def test_a_packed_file_that_states_too_many_atoms(tmp_path):
    def claim(h5py, file):
        many = 10**12
        for name in ("species", "positions", "forces"):
            rest, dtype, attributes = file[name].shape[1:], file[name].dtype, dict(file[name].attrs)
            del file[name]
            file.create_dataset(name, shape=(many, *rest), dtype=dtype, chunks=(1024, *rest), fillvalue=1)
            file[name].attrs.update(attributes)
        file["offsets"][-1] = many

    write_frames(mixed_frames(), tmp_path / "a.h5")
    changed_hdf5(tmp_path / "a.h5", claim)
    refused(tmp_path / "a.h5", "would take 1000000000000 bytes")


def test_a_packed_file_with_a_huge_chunk(tmp_path):
    def claim(h5py, file):
        count, unit = len(file["energy"]), file["energy"].attrs["unit"]
        del file["energy"]
        array = file.create_dataset(
            "energy", data=np.ones(count), chunks=(2 * 10**7,), maxshape=(None,), compression="gzip"
        )
        array.attrs["unit"] = unit

    write_frames(mixed_frames(), tmp_path / "a.h5")
    changed_hdf5(tmp_path / "a.h5", claim)
    refused(tmp_path / "a.h5", "a chunk of /energy would take 160000000 bytes")


def _linked(h5py, file):
    del file["energy"]
    file["energy"] = h5py.ExternalLink("other.h5", "/energy")


def _virtual(h5py, file):
    layout = h5py.VirtualLayout(shape=file["energy"].shape, dtype="f8")
    layout[:] = h5py.VirtualSource("other.h5", "energy", shape=file["energy"].shape)
    del file["energy"]
    file.create_virtual_dataset("energy", layout)


def _external(h5py, file):
    count = len(file["energy"])
    del file["energy"]
    file.create_dataset("energy", (count,), "f8", external=[("/etc/passwd", 0, 8 * count)])


@pytest.mark.parametrize("change", [_linked, _virtual, _external])
def test_content_of_other_files_is_never_read(change, tmp_path):
    write_frames(mixed_frames(), tmp_path / "other.h5")
    write_frames(mixed_frames(), tmp_path / "a.h5")
    changed_hdf5(tmp_path / "a.h5", change)
    refused(tmp_path / "a.h5", "energy' refers to another file: copy its content into this file")


def test_ani_files_without_atoms(tmp_path):
    write_ani(tmp_path / "a.h5")

    def claim(h5py, file):
        group = file.create_group("A0")
        group["atomic_numbers"] = np.zeros(0, dtype="u1")
        group.create_dataset("coordinates", (10**7, 0, 3), "f4")
        group.create_dataset("wb97x_dz.energy", (10**7,), "f4", chunks=(1000,))

    changed_hdf5(tmp_path / "a.h5", claim)
    refused(tmp_path / "a.h5", "A0 contains no atoms: remove the group")


def test_the_groups_of_ani_files_are_added_up(tmp_path):
    def claim(h5py, file):
        for name in "AB":
            group = file.create_group(name)
            group["atomic_numbers"] = np.ones(1, dtype="u1")
            group.create_dataset("coordinates", (3 * 10**6, 1, 3), "f4", chunks=(1000, 1, 3))
            group.create_dataset("wb97x_dz.energy", (3 * 10**6,), "f4", chunks=(1000,))

    write_ani(tmp_path / "a.h5")
    changed_hdf5(tmp_path / "a.h5", claim)
    refused(tmp_path / "a.h5", "the arrays would take")


@pytest.mark.slow
def test_names_in_packed_files_and_ani(tmp_path):
    write_frames(mixed_frames(), tmp_path / "a.h5")
    changed_hdf5(tmp_path / "a.h5", lambda h5py, file: file.__setitem__("dipole", np.zeros(3)))
    names = read_frames(tmp_path / "a.h5").names
    assert (list(names.read), list(names.unread)) == (["energy", "forces", "stress"], ["dipole"])
    write_ani(tmp_path / "b.h5")
    names = read_frames(tmp_path / "b.h5").names
    assert set(names.read) == {"wb97x_dz.energy", "wb97x_dz.forces"}
    assert set(names.unread) == {"ccsd(t)_cbs.energy", "wb97x_tz.dipole"}


def test_a_packed_file_may_repeat_its_units(tmp_path):
    write_frames(mixed_frames(), tmp_path / "a.h5")
    changed_hdf5(tmp_path / "a.h5", lambda h5py, file: file.attrs.__setitem__("units", "eV, angstrom"))
    assert len(read_frames(tmp_path / "a.h5")) == len(mixed_frames())


def test_units_in_ani_files(tmp_path):
    write_ani(tmp_path / "a.h5")
    changed_hdf5(tmp_path / "a.h5", lambda h5py, file: file["CH4/wb97x_dz.energy"].attrs.__setitem__("units", "eV"))
    refused(tmp_path / "a.h5", "wb97x_dz.energy is in 'eV'")


# ASE's trajectories and other formats


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [(32, 2**40, "1099511627776 frames"), (40, 2**50, "frames at byte"), (0, 0, "not an ASE trajectory")],
)
def test_sizes_in_trajectories(tmp_path, place, value, message):
    write(tmp_path / "a.traj", [frame("H2O", seed=seed).atoms() for seed in range(3)])
    data = bytearray((tmp_path / "a.traj").read_bytes())
    data[place : place + 8] = value.to_bytes(8, "little")
    (tmp_path / "a.traj").write_bytes(data)
    refused(tmp_path / "a.traj", message)


@pytest.mark.slow
def test_a_structure_file_that_states_too_many_atoms(tmp_path):
    (tmp_path / "a.vasp").write_text("x\n1.0\n4 0 0\n0 4 0\n0 0 4\nCu\n999999999999\nDirect\n0 0 0\n")
    refused(tmp_path / "a.vasp", "cannot be read")


def test_constraints_with_a_bomb(tmp_path):
    write(tmp_path / "a.traj", frame("H2O").atoms())
    data = (tmp_path / "a.traj").read_bytes()
    bomb = json.dumps({"__ndarray__": [[10**6, 10**6], "float64", [0]]})
    item = json.loads(_item(data))
    item["constraints"] = bomb
    text = json.dumps(item).encode()
    place = len(data)
    offsets = int.from_bytes(data[40:48], "little")
    changed = bytearray(data + len(text).to_bytes(8, "little") + text)
    changed[offsets : offsets + 8] = place.to_bytes(8, "little")
    (tmp_path / "a.traj").write_bytes(changed)
    refused(tmp_path / "a.traj", "an array of 1000000000000 numbers")


def _item(data):
    offset = int.from_bytes(data[40:48], "little")
    place = int.from_bytes(data[offset : offset + 8], "little")
    length = int.from_bytes(data[place : place + 8], "little")
    return data[place + 8 : place + 8 + length]
