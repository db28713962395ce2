"""Extended XYZ: what ASE reads is read the same, and nothing is dropped or cut without a word."""

import bz2
import gzip
import io
import lzma

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from ase.io.extxyz import key_val_str_to_dict

from piwsl.data.formats.comment_line import parse_comment
from piwsl.data.inspect import inspect_frames
from piwsl.data.read import read_frames
from piwsl.errors import DataError
from piwsl.units import KCAL_PER_MOL
from tests.support.molecules import frame

WATER = "O 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n"
PLAIN = "Properties=species:S:1:pos:R:3"


def one(comment=PLAIN, rows=WATER, atoms=3):
    return f"{atoms}\n{comment}\n{rows}"


def frames_of(tmp_path, text, name="a.xyz", **options):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_frames(tmp_path / name, **options)


@pytest.mark.parametrize(
    "comment",
    [
        'Lattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3 energy=-1.5 pbc="T F T"',
        "a=1 b=2.5 c=text flag d='1 2 3' e={4 5.5} f=[7, 8] g=\"T F\" h=false",
        "a = 1  b= 2 c =3",
        r'title="a \"quoted\" word" other="x=y=z" third=a=b',
        '_JSON=1 data="_JSON [[1, 2], [3, 4]]" mixed="_JSON {\\"a\\": [1]}"',
        "nan=nan big=1e300 long=123456789012345678901234567890 uid=12",
        'an open "quote and = more',
    ],
)
def test_comment_lines_mean_what_they_mean_to_ase(comment):
    expected = key_val_str_to_dict(comment)
    found = parse_comment(comment)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if name in ("Lattice", "uid"):  # ASE transposes the former and leaves the latter a text
            continue
        assert np.array_equal(np.asarray(found[name]), np.asarray(value), equal_nan=name == "nan"), name


def test_structures_and_results_are_those_of_ase(tmp_path):
    atoms = Atoms("CuAu", [[0.1, 0.2, 0.3], [1.9, 2.0, 2.1]], cell=[[4, 0, 0], [1, 4, 0], [0, 1, 4]], pbc=[1, 1, 1])
    atoms.new_array("tags2", np.array([1, 2]))
    atoms.info["note"] = "two words"
    stress = np.array([0.01, 0.02, 0.03, 0.004, 0.005, 0.006])
    atoms.calc = SinglePointCalculator(atoms, energy=-3.5, forces=np.ones((2, 3)) * [0.1, -0.2, 0.3], stress=stress)
    write(tmp_path / "a.extxyz", [atoms, atoms])
    theirs = read(tmp_path / "a.extxyz", index=":")
    ours = read_frames(tmp_path / "a.extxyz")
    for mine, other in zip(ours, theirs, strict=True):
        assert np.array_equal(mine.positions, other.positions)
        assert np.array_equal(mine.cell, other.cell.array)
        assert np.array_equal(mine.species, other.numbers)
        assert mine.energy == other.get_potential_energy()
        assert np.array_equal(mine.forces, other.get_forces())
        assert np.array_equal(mine.stress, other.get_stress(voigt=False))
    assert set(ours.names.unread) == {"tags2", "note"}


def test_an_empty_line_ends_nothing(tmp_path):
    frames = frames_of(tmp_path, one() + "\n" + one() + "  \n\n" + one() + "\n")
    assert len(frames) == 3
    assert frames.notes == ("skipped 4 empty lines between frames, first at line 6",)


@pytest.mark.parametrize("packed", [gzip, bz2, lzma])
def test_an_empty_line_ends_no_compressed_file(tmp_path, packed):
    end = {gzip: ".gz", bz2: ".bz2", lzma: ".xz"}[packed]
    content = packed.compress((one() + "\n" + one()).encode())
    frames = frames_of(tmp_path, content, f"a.xyz{end}")
    assert len(frames) == 2
    assert frames.notes == ("skipped an empty line, first at line 6",)
    assert len(read_frames(tmp_path)) == 2  # in a directory


@pytest.mark.parametrize(
    "comment",
    [
        'lattice="4 0 0 0 5 0 0 0 6" properties=species:S:1:pos:R:3:tag:I:1 pbc="T T F"',  # GPUMD
        'Lattice="4 0 0 0 5 0 0 0 6" PBC="1 1 0" Properties=species:S:1:pos:R:3:tag:I:1',  # KLIFF
    ],
)
def test_names_of_the_format_in_other_letters(tmp_path, comment):
    frames = frames_of(tmp_path, one(comment, "O 0 0 0 7\nH 0.96 0 0 8\nH -0.24 0.93 0 9\n"))
    assert frames[0].pbc == (True, True, False)
    assert np.array_equal(frames[0].cell, np.diag([4.0, 5.0, 6.0]))
    assert list(frames.names.unread) == ["tag"]


def test_a_name_of_the_format_in_two_ways(tmp_path):
    with pytest.raises(DataError, match="line 2 has 'Lattice' and 'lattice': keep one of them"):
        frames_of(tmp_path, one('Lattice="4 0 0 0 4 0 0 0 4" lattice="5 0 0 0 5 0 0 0 5"'))


@pytest.mark.parametrize("name", ["REF_energy", "energy", "Lattice", "charge", "dft_forces"])
def test_two_values_of_one_name(tmp_path, name):
    """ASE reads the last one."""
    with pytest.raises(DataError, match=f"line 2 is not a comment line of extended XYZ .'{name}' has two values"):
        frames_of(tmp_path, one(f"{name}=-1 {PLAIN} {name}=-2"))
    assert len(frames_of(tmp_path, one(f"REF_energy=-1 {PLAIN} REF_energy=-1 note=a note=b word word"))) == 1


@pytest.mark.parametrize("name", ["cell", "box", "CELL(abcABC):", "unit_cell", "lattice_vectors"])
def test_a_cell_of_another_name_is_reported(tmp_path, name):
    frames = frames_of(tmp_path, one(f'{PLAIN} {name}="4 4 4"' if ":" not in name else f"# {name} 4 4 4 90 90 90"))
    warnings = inspect_frames(frames).warnings
    assert any(f"have no cell, but '{name}', which is not read" in text for text in warnings)
    periodic = frames_of(tmp_path, one(f'{PLAIN} Lattice="4 0 0 0 4 0 0 0 4" cell="4 4 4"'))
    assert not any("no cell" in text for text in inspect_frames(periodic).warnings)


@pytest.mark.parametrize("ends", [b"\r\n", b"\r"])
def test_line_ends_and_byte_order_mark(tmp_path, ends):
    text = b"\xef\xbb\xbf" + (one() * 2).encode().replace(b"\n", ends)
    assert len(frames_of(tmp_path, text)) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (one() + one()[:-11], "line 10 has 2 columns, and frame 1 has 4 for atom 3 of 3"),
        (one() + "3\n", "ends within frame 1 after 0 of 3 atoms"),
        (one() + one(rows=WATER[:-15]), "ends within frame 1 after 2 of 3 atoms"),
        (one(atoms=4) + one(), "line 6 has 1 columns"),
        (one(atoms=2) + one(), "line 5 is 'H -0.24 0.93 0'; expected the number of atoms of frame 1"),
        (one(rows=WATER.replace("0.96", "0.9.6")), "line 4 has '0.9.6 0 0' in the column pos; expected numbers"),
        (one(rows=WATER.replace("H", "Xx", 1)), "'Xx' is not the symbol of an element"),
        (one(rows=WATER.replace("H", "D", 1)), None),
        (one(f"{PLAIN} extra"), None),
        (one(rows=WATER.replace("0 0 0", "0 0 0 7")), "line 3 has 5 columns, and frame 0 has 4"),
        (one("Properties=species:S:1:pos:R"), "expected NAME:TYPE:COUNT"),
        (one("Properties=species:S:1:pos:R:3:forces:R:1000000000"), "names the column"),
        (one("Properties=species:S:1:xyz:R:3"), "Properties has no column pos"),
        (one("Properties=species:S:1:Z:I:1:pos:R:3", "O 8 0 0 0\nH 1 1 0 0\nH 7 0 1 0\n"), "atomic numbers contradict"),
        (one('pbc="T F" ' + PLAIN), "pbc is"),
        (one('pbc="T T T" ' + PLAIN), "periodic but without a cell: add the lattice vectors"),
        (one('Lattice="4 0 0 0 4 0 4 4 0" ' + PLAIN), "the cell is flat"),
        (one('Lattice="1 0 0 0 1 0 0 0 1" ' + PLAIN), "a cell of 1 x 1 x 1 angstrom is too small for 3 atoms"),
        (one('Lattice="4 0 0 0 4 0" ' + PLAIN), "expected nine numbers"),
        (one(rows=WATER.replace("0.96", "1e9")), r"1e\+09 angstrom is beyond"),
        (one(rows=WATER.replace("0.96", "nan")), "not a finite number"),
        (one(f"energy=1+2j {PLAIN}"), "a value in its energy is not a number"),
        ("1000000000000000000\n\nH 0 0 0\n", "ends within frame 0 after 1 of 1000000000000000000 atoms"),
        (b"3\n\xff\xfe\nO 0 0 0\n", "line 2 is not text"),
        ("-3\n\n", "expected the number of atoms"),
        ("\n" * 200_000, "empty lines"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(tmp_path, text, message):
    if message is None:
        assert len(frames_of(tmp_path, text)) == 1
        return
    with pytest.raises(DataError, match=message) as error:
        frames_of(tmp_path, text)
    assert "\n" not in str(error.value)


def test_a_file_that_may_be_cut_within_its_last_number(tmp_path):
    frames = frames_of(tmp_path, one() + one()[:-1])
    assert len(frames) == 2
    assert frames.notes == ("the last line has no line break: its last value may be truncated",)


def test_plain_xyz(tmp_path):
    """Comments are free there, elements may be numbers, and columns have no names."""
    frames = frames_of(tmp_path, one("a remark, E = -3", "8 0 0 0 9 9 9\n1 0.96 0 0 9 9 9\n1 -0.24 0.93 0 9 9 9\n"))
    assert frames[0].species.tolist() == [8, 1, 1]
    assert any("columns without a name" in note for note in frames.notes)


def test_cell_vectors_of_adf(tmp_path):
    rows = WATER + "VEC1 5 0 0\nVEC2 0 6 0\n"
    frames = frames_of(tmp_path, one("", rows) * 2)
    assert [made.pbc for made in frames] == [(True, True, False)] * 2
    assert frames[1].cell.tolist() == [[5, 0, 0], [0, 6, 0], [0, 0, 0]]


def test_a_compressed_bomb(tmp_path):
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as stream:
        stream.write(one().encode())
        for _ in range(80):
            stream.write(b"9" * (1 << 20) + b"\n")
    with pytest.raises(DataError):
        frames_of(tmp_path, packed.getvalue(), "a.xyz.gz")


def labels(tmp_path, comment, columns="", values=""):
    """Report on frames of water with further values in the comment line and a further column."""
    rows = "".join(f"{row} {values}\n" for row in WATER.splitlines())
    first = one(f"{PLAIN}{columns} {comment}", rows)
    frames = frames_of(tmp_path, first + first.replace("0.93", "0.94"))
    return frames, inspect_frames(frames)


@pytest.mark.parametrize("name", ["force", "Forces", "dft_forces", "gradient", "F", "REF_force", "forcesPBE"])
def test_forces_of_another_name_are_reported(tmp_path, name):
    frames, report = labels(tmp_path, "energy=-1", f":{name}:R:3", "0.1 0.2 0.3")
    assert not frames[0].has_forces
    assert report.names.unread == {name: 2}
    assert any(
        f"have no forces, but '{name}', which is not read: rename it to REF_forces" in w for w in report.warnings
    )


@pytest.mark.parametrize(
    ("name", "label"), [("virial", "stress"), ("Energy", "energy"), ("dft_energy", "energy"), ("E", "energy")]
)
def test_other_labels_of_another_name_are_reported(tmp_path, name, label):
    _, report = labels(tmp_path, f"{name}=1.5", ":forces:R:3", "0.1 0.2 0.3")
    assert any(f"have no {label}, but '{name}'" in warning for warning in report.warnings)


def test_names_that_mean_something_else(tmp_path):
    _, report = labels(
        tmp_path, "REF_energy=-1 kinetic_energy=0.1 charge=1 config_type=bulk", ":REF_forces:R:3", "0.1 0.2 0.3"
    )
    assert list(report.names.unread) == ["kinetic_energy"]
    assert report.warnings == []
    assert "names not read     kinetic_energy" in report.lines()


def test_plain_forces_beside_a_reference_energy(tmp_path):
    frames, report = labels(tmp_path, "REF_energy=-1", ":forces:R:3", "0.1 0.2 0.3")
    assert not frames[0].has_forces
    assert any("with and without REF_" in note for note in report.notes)
    assert any("'forces', which is not read" in warning for warning in report.warnings)


def test_the_energy_that_belongs_to_the_forces_is_read(tmp_path):
    frames, report = labels(tmp_path, "energy=-1.0 free_energy=-1.5", ":forces:R:3", "0.1 0.2 0.3")
    assert frames[0].energy == -1.5
    assert any("differ by up to 0.5: free_energy was read" in note for note in report.notes)
    frames, report = labels(tmp_path, "energy=-1.0 free_energy=-1.5")
    assert frames[0].energy == -1.0
    frames, report = labels(tmp_path, "energy=-1.0 free_energy=-1.0", ":forces:R:3", "0.1 0.2 0.3")
    assert not any("free_energy" in note for note in report.notes)


@pytest.mark.parametrize(
    "text",
    [
        "units='kcal/mol'",
        "energy_units=kcal/mol",
        "force_unit=kcal/mol/A",
        "length_unit=nm",
        "REF_energy_unit=kJ/mol",
        "REF_forces_units=hartree/bohr",
        "dft_energyUnit=hartree",
        "REF_stress_unit=GPa",
        "stress_units=kcal/mol/A^3",
        "REF_virial_unit=kJ/mol",
    ],
)
def test_units_that_a_file_states_are_compared(tmp_path, text):
    with pytest.raises(DataError, match="but the file is read with other units"):
        labels(tmp_path, f"energy=-1 {text}")


@pytest.mark.parametrize("text", ["energy_unit=Ry", "REF_forces_unit=Ry/bohr", "stress_unit=atm"])
def test_unknown_units_that_a_file_states(tmp_path, text):
    with pytest.raises(DataError, match="which is not a known unit: convert the file"):
        frames_of(tmp_path, one(f"{PLAIN} REF_energy=-1 {text}"))


@pytest.mark.parametrize(
    "text", ["REF_energy_unit=eV", "stress_unit=eV/A^3", "stress_unit=eV/Ang**3", "virial_unit=eV"]
)
def test_stated_units_of_every_label_that_agree(tmp_path, text):
    assert frames_of(tmp_path, one(f"{PLAIN} REF_energy=-1 {text}"))[0].energy == -1


def test_stated_units_that_agree(tmp_path):
    content = one(f"{PLAIN} REF_energy=-1 units='kcal/mol, Ang'")
    assert frames_of(tmp_path, content, units="kcal/mol")[0].energy == pytest.approx(-KCAL_PER_MOL)
    _, report = labels(tmp_path, "energy=-1 energy_unit=eV")
    assert report.names.read == {"energy": 2, "energy_unit": 2}


def test_a_frame_written_by_piwsl_is_read_without_a_remark(tmp_path):
    from piwsl.data.write import write_frames

    write_frames([frame("H2O", labeled=True)], tmp_path / "a.extxyz")
    frames = read_frames(tmp_path / "a.extxyz")
    assert (frames.notes, frames.names.unread) == ((), {})
