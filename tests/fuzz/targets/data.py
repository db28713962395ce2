"""Labeled structures in every format that piwsl reads."""

import gzip
import io
import json
import random
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.io import write

from piwsl.data.inspect import inspect_frames
from piwsl.data.read import read_frames
from piwsl.data.write import write_frames
from tests.fuzz.digest import digest_of
from tests.fuzz.harness import Target
from tests.fuzz.mutations import BYTES, JSON, TEXT, ZIP, Mutation, change_json, change_token, flip_bits
from tests.support.ani_files import write_ani
from tests.support.frame_sets import mixed_frames, periodic_frame, random_water_file
from tests.support.molecules import frame


def read(path: Path, units: str | None = None) -> str:
    """Read all frames of a file and their report, and return a digest of the numbers."""
    frames = read_frames(path, units)
    inspect_frames(frames).lines()
    names = ("species", "positions", "energy", "forces", "cell", "pbc", "stress")
    return f"{len(frames)} frames {digest_of(*(getattr(one, name) for one in frames for name in names))}"


def read_kcal(path: Path) -> str:
    """Read a file that does not state its units."""
    return read(path, "kcal/mol, angstrom")


def _molecules(path: Path) -> None:
    write_frames([frame("CH3CH2OH", seed=seed, labeled=True) for seed in range(3)], path)


def _results(path: Path) -> None:
    structures = []
    for seed in range(3):
        labeled = periodic_frame(seed)
        atoms = labeled.atoms()
        atoms.calc = SinglePointCalculator(atoms, energy=labeled.energy, forces=labeled.forces, stress=np.zeros(6))
        structures.append(atoms)
    write(path, structures)


def _compressed(path: Path) -> None:
    plain = io.StringIO()
    write(plain, [frame("H2O", seed=seed).atoms() for seed in range(4)], format="extxyz")
    path.write_bytes(gzip.compress(plain.getvalue().encode(), mtime=0))


def _plain_xyz(path: Path) -> None:
    write(path, [frame("H2O", seed=seed).atoms() for seed in range(4)], format="xyz")


def _xsf(path: Path) -> None:
    made = periodic_frame()
    rows = [
        f"{symbol} " + " ".join(f"{x:.8f}" for x in (*position, *force))
        for symbol, position, force in zip(made.atoms().symbols, made.positions, made.forces, strict=True)
    ]
    vectors = [" ".join(f"{x:.8f}" for x in vector) for vector in made.cell]
    lines = ["# total energy = -900.5 eV", "CRYSTAL", "PRIMVEC", *vectors, "PRIMCOORD", f"{len(rows)} 1", *rows, ""]
    path.write_text("\n".join(lines))


def _xcrysden(path: Path) -> None:
    write(path, periodic_frame().atoms())


def _database(path: Path) -> None:
    labeled = frame("H2O", labeled=True)
    atoms = labeled.atoms()
    atoms.calc = SinglePointCalculator(atoms, energy=labeled.energy, forces=labeled.forces)
    with connect(path, use_lock_file=False) as database:
        database.write(atoms, source="test", data={"numbers": [1, 2, 3], "array": np.zeros((2, 2))})
        database.write(periodic_frame().atoms(), key_value_pairs={"REF_energy": -1.5})


def _sgdml(path: Path) -> None:
    waters = [frame("H2O", seed=seed, labeled=True) for seed in range(4)]
    np.savez_compressed(
        path,
        z=waters[0].species,
        R=[one.positions for one in waters],
        E=[[one.energy] for one in waters],
        F=[one.forces for one in waters],
        e_unit="eV",
        r_unit="Ang",
    )


def _random_waters(path: Path) -> None:
    random_water_file(path, 4)


def _ani(path: Path) -> None:
    write_ani(path)


def _packed(path: Path) -> None:
    write_frames(mixed_frames(), path)


def _vasp(path: Path) -> None:
    write(path, periodic_frame().atoms(), format="vasp")


# Changes that keep a container valid around altered content.


def change_arrays(data: bytes, rng: random.Random) -> bytes:
    """Give an array of an npz file another type or shape, or drop it."""
    with np.load(io.BytesIO(data)) as archive:
        arrays = dict(archive)
    name = rng.choice(sorted(arrays))
    values = arrays[name]
    others = (
        values.reshape(-1), values[..., None], values.astype(str), values[:0], np.array(1.5), np.array("text"),
        np.zeros(0), np.array(["2020-01-01"], dtype="datetime64[D]"), np.zeros((3, 3), dtype="c16"),
        np.zeros(2, dtype=[("a", "f8"), ("b", "i4")]), np.full((4, 3, 3), np.nan), np.full((4, 3, 3), 1e300),
    )  # fmt: skip
    if values.dtype.kind in "fiu":
        others += (values * 1j, values + 0.5, -values, values.astype("f2"), values.astype(bool))
    chosen = rng.randrange(len(others) + 1)
    if chosen == len(others):
        del arrays[name]
    else:
        arrays[name] = others[chosen]
    written = io.BytesIO()
    np.savez(written, **arrays)
    return written.getvalue()


def change_hdf5(data: bytes, rng: random.Random) -> bytes:
    """Replace a data set of an HDF5 file by a group, a scalar, text or another shape, or change an attribute."""
    import h5py

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.h5"
        path.write_bytes(data)
        with h5py.File(path, "r+") as file:
            names: list[str] = []
            file.visit(names.append)
            name = rng.choice(sorted(names))
            values = file[name][()] if isinstance(file[name], h5py.Dataset) else np.zeros(3)
            if rng.random() < 0.2:
                place = rng.choice([file, file[name]])
                place.attrs[rng.choice(("format", "version", "unit", "units"))] = rng.choice(
                    ["hartree", 7, -1, "text", [1.0, 2.0], "9" * 5000, 1.5]
                )
            else:
                del file[name]
                kind = rng.randrange(8)
                if kind == 0:
                    file.create_group(name)
                elif kind == 1:
                    file[name] = 3
                elif kind == 2:
                    file[name] = "text"
                elif kind == 3:
                    file[name] = h5py.Empty("f8")
                elif kind == 4:
                    file.create_dataset(name, shape=(10**12,), dtype="f8", chunks=(1024,), fillvalue=1.0)
                elif kind == 5:
                    file[name] = h5py.SoftLink(rng.choice(["/", f"/{name}", "/nothing"]))
                elif kind == 6:
                    file[name] = np.asarray(values).reshape(-1)
        return path.read_bytes()


def change_entries(data: bytes, rng: random.Random) -> bytes:
    """Change the JSON of an entry of an LMDB file, or its compressed bytes."""
    import lmdb

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.lmdb"
        path.write_bytes(data)
        with (
            lmdb.open(str(path), subdir=False, lock=False, map_size=1 << 24) as file,
            file.begin(write=True) as transaction,
        ):
            keys = [bytes(key) for key in transaction.cursor().iternext(values=False)]
            key = rng.choice(keys)
            entry = bytes(transaction.get(key))
            if rng.random() < 0.2:
                entry = flip_bits(entry, rng)
            else:
                change = rng.choice((change_json, change_token))
                entry = zlib.compress(change(zlib.decompress(entry), rng))
            transaction.put(key, entry)
        return path.read_bytes()


def change_row(data: bytes, rng: random.Random) -> bytes:
    """Change a value of a row of an SQLite file."""
    import sqlite3

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.db"
        path.write_bytes(data)
        connection = sqlite3.connect(path)
        columns = [row[1] for row in connection.execute("PRAGMA table_info(systems)")]
        column = rng.choice(columns[1:])
        value = rng.choice((None, 1, -1.5, "text", b"", b"\x00" * 7, b"\xff" * 48, '{"a": [1', "[" * 5000, 2**62))
        connection.execute(f"UPDATE systems SET {column} = ? WHERE id = ?", (value, rng.randint(1, 2)))
        connection.commit()
        connection.close()
        return path.read_bytes()


# Bombs.


def _npz_claims(shape: tuple[int, ...], packed: bool = False) -> Callable[[Path], None]:
    def write_file(path: Path) -> None:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in ("z", "R", "E", "F"):
                content = header.getvalue()
                if packed:
                    content += bytes(8 * int(np.prod(shape)))
                archive.writestr(f"{name}.npy", content)

    return write_file


def _zlib_bomb(path: Path) -> None:
    import lmdb

    big = zlib.compress(b"[" + b" " * (1 << 29) + b"]", 9)
    with (
        lmdb.open(str(path), subdir=False, lock=False, map_size=1 << 26) as file,
        file.begin(write=True) as transaction,
    ):
        transaction.put(b"nextid", zlib.compress(b"2"))
        transaction.put(b"1", big)


def _lmdb_many(path: Path) -> None:
    import lmdb

    with (
        lmdb.open(str(path), subdir=False, lock=False, map_size=1 << 20) as file,
        file.begin(write=True) as transaction,
    ):
        transaction.put(b"nextid", zlib.compress(b"9223372036854775807"))


def _json_array_bomb(path: Path) -> None:
    row = {"numbers": [1], "positions": {"__ndarray__": [[100_000, 100_000], "float64", [0.0]]}, "unique_id": "a"}
    path.write_text(json.dumps({"1": row, "ids": [1], "nextid": 2}))


def _json_deep(path: Path) -> None:
    path.write_text("[" * 200_000 + "]" * 200_000)


def _xyz_claims(path: Path) -> None:
    path.write_text("1000000000000000000\nProperties=species:S:1:pos:R:3\nH 0 0 0\n")


def _xyz_columns(path: Path) -> None:
    path.write_text("1\nProperties=species:S:1:pos:R:3:forces:R:1000000000\nH 0 0 0\n")


def _gzip_bomb(path: Path) -> None:
    with gzip.open(path, "wb") as stream:
        stream.write(b"1\n")
        for _ in range(1024):
            stream.write(b" " * (1 << 20))


def _gzip_lines(path: Path) -> None:
    with gzip.open(path, "wb") as stream:
        for _ in range(1024):
            stream.write(b"\n" * (1 << 20))


def _traj_claims(path: Path) -> None:
    _results(path)
    data = bytearray(path.read_bytes())
    data[32:40] = struct.pack("<q", 2**40)
    path.write_bytes(data)


def _sqlite_view(path: Path) -> None:
    import sqlite3

    connection = sqlite3.connect(path)
    connection.execute(
        "CREATE VIEW systems AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n) SELECT id FROM n"
    )
    connection.execute("CREATE TABLE other (a)")
    connection.commit()
    connection.close()


def _packed_claims(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["format"], file.attrs["version"] = "piwsl-frames", 1
        many = 10**12
        for name, shape, dtype in (
            ("species", (many,), "u1"), ("positions", (many, 3), "f8"), ("forces", (many, 3), "f8"),
            ("cell", (1, 3, 3), "f8"), ("pbc", (1, 3), "u1"), ("energy", (1,), "f8"), ("stress", (1, 3, 3), "f8"),
        ):  # fmt: skip
            file.create_dataset(name, shape=shape, dtype=dtype, chunks=True, fillvalue=1)
        file["offsets"] = np.array([0, many])


HDF5: tuple[Mutation, ...] = (*BYTES, change_hdf5, change_hdf5, change_hdf5)
TARGETS = [
    Target(
        "extxyz",
        "a.extxyz",
        _packed,
        read,
        TEXT,
        {"number of atoms": _xyz_claims, "number of columns": _xyz_columns},
    ),
    Target("extxyz-results", "a.xyz", _results, read, TEXT),
    Target("xyz", "a.xyz", _plain_xyz, read, TEXT),
    Target("xyz-gz", "a.xyz.gz", _compressed, read, BYTES, {"a long line": _gzip_bomb, "many lines": _gzip_lines}),
    Target("traj", "a.traj", _results, read, BYTES, {"a number of frames": _traj_claims}),
    Target("xsf", "a.xsf", _xsf, read, TEXT, seconds=0.5),
    Target("xcrysden", "a.xsf", _xcrysden, read, TEXT, seconds=2),
    Target("vasp", "a.vasp", _vasp, read, TEXT, seconds=2),
    Target("db", "a.db", _database, read, (*BYTES, change_row, change_row), {"an endless view": _sqlite_view}),
    Target("json", "a.json", _database, read, JSON, {"an array": _json_array_bomb, "deep": _json_deep}),
    Target(
        "aselmdb", "a.aselmdb", _packed, read, (*BYTES, change_entries, change_entries),
        {"a bomb": _zlib_bomb, "a number of entries": _lmdb_many},
    ),
    Target(
        "npz", "a.npz", _molecules, read, (*ZIP, change_arrays, change_arrays),
        {"a shape": _npz_claims((10**6, 10**6, 3)), "zeros": _npz_claims((10**7, 3, 3), packed=True)}, seconds=0.5,
    ),
    Target("npz-sgdml", "a.npz", _sgdml, read, (*ZIP, change_arrays, change_arrays)),
    Target("npz-units", "a.npz", _random_waters, read_kcal, (*ZIP, change_arrays)),
    Target("packed", "a.h5", _packed, read, HDF5, {"a number of atoms": _packed_claims}, seconds=0.5),
    Target("ani", "a.h5", _ani, read, HDF5, seconds=0.5),
]  # fmt: skip
