from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.constraints import FixAtoms, FixBondLength, FixCartesian, FixedPlane, FixScaled, Hookean
from ase.data import atomic_numbers
from ase.io import write

from piwsl.data.structure_file import load_structure
from piwsl.errors import DataError
from piwsl.structures.constraints import fixed_atoms
from piwsl.structures.files import check_structure


@pytest.fixture
def ethanol() -> Atoms:
    return molecule("CH3CH2OH")


def test_two_atoms_on_top_of_each_other_are_named(ethanol, tmp_path: Path):
    ethanol.positions[4] = ethanol.positions[1] + [0.2, 0, 0]
    write(tmp_path / "bad.xyz", ethanol)
    with pytest.raises(DataError, match=r"bad\.xyz: atoms C1 and H4 are 0\.20 angstrom apart"):
        load_structure(tmp_path / "bad.xyz")


def test_an_overlap_through_the_cell_is_found():
    crystal = Atoms("NaCl", [[0.1, 0, 0], [4.9, 0, 0]], cell=[5, 5, 5], pbc=True)
    with pytest.raises(DataError, match=r"Na0 and Cl1 are 0\.20"):
        check_structure(crystal)
    crystal.pbc = False
    check_structure(crystal)


def test_a_position_that_is_no_number_is_named(ethanol):
    ethanol.positions[3, 1] = np.nan
    with pytest.raises(DataError, match="atom H3 is not a finite number"):
        check_structure(ethanol)


@pytest.mark.parametrize("content", ["", "nonsense\nmore\n", "3\n\nC 0 0 0\n"])
def test_a_file_that_is_no_structure(content, tmp_path: Path):
    path = tmp_path / "structure.in"
    path.write_text(content)
    # Older versions of ASE read such a file as an input of FHI-aims without atoms.
    with pytest.raises(DataError, match=r"not a structure file that ASE can read|contains no atoms"):
        load_structure(path)
    with pytest.raises(DataError, match="no such file"):
        load_structure(tmp_path / "missing.xyz")


def copper(vectors, pbc=True) -> Atoms:
    return Atoms("Cu4", [[0, 0, 0], [1.8, 1.8, 0], [1.8, 0, 1.8], [0, 1.8, 1.8]], cell=vectors, pbc=pbc)


@pytest.mark.parametrize(
    ("crystal", "problem"),
    [
        (copper(np.zeros((3, 3))), "periodic but without a cell"),
        (copper([[3.6, 0, 0], [0, 3.6, 0], [0, 0, 0]]), "no lattice vector along the periodic direction 3"),
        (copper([[3.6, 0, 0], [0, 3.6, 0], [3.6, 3.6, 0]]), "the cell is flat"),
        (copper([[3.6, 0, 0], [7.2, 0, 0], [0, 0, 3.6]], (True, True, False)), "the cell is flat"),
        (copper([[np.nan, 0, 0], [0, 3.6, 0], [0, 0, 3.6]]), "the cell contains numbers that are not finite"),
        (copper(np.eye(3)), "a cell of 1 x 1 x 1 angstrom is too small for 4 atoms"),
        (copper(0.5 * np.eye(3), (True, True, False)), "is too small for 4 atoms"),
    ],
)
def test_a_cell_that_is_none(crystal, problem):
    with pytest.raises(DataError, match=rf"^crystal: .*{problem}"):
        check_structure(crystal, "crystal")


@pytest.mark.parametrize(
    ("vectors", "pbc"),
    [
        (np.diag([3.6, 3.6, 0.0]), (True, True, False)),
        (np.diag([3.6, 3.6, 1e6]), True),
        ([[0, 3.6, 0], [3.6, 0, 0], [0, 0, 3.6]], True),
        ([[3.6, 0, 0], [72.0, 3.6, 0], [0, 0, 3.6]], True),
        (np.diag([3.6, 0.0, 0.0]), (True, False, False)),
    ],
)
def test_unusual_cells_that_are_right(vectors, pbc):
    check_structure(copper(vectors, pbc))


def test_atoms_exactly_on_top_across_a_boundary():
    slab = Atoms("Cu2", [[0, 0, 0], [0, 0, 5.0]], cell=[3.6, 3.6, 5.0], pbc=(True, True, False))
    check_structure(slab)
    slab.pbc = True
    with pytest.raises(DataError, match=r"Cu0 and Cu1 are 0\.00"):
        check_structure(slab)


@pytest.mark.parametrize("mass", [0.0, -1.0, np.nan, np.inf, 1e300])
def test_a_mass_that_is_none(mass, ethanol):
    masses = ethanol.get_masses()
    masses[4] = mass
    ethanol.arrays["masses"] = masses
    with pytest.raises(DataError, match=r"the mass of atom H4 is .* amu: masses must be positive and at most 1e"):
        check_structure(ethanol)


def test_ghost_atoms_and_atoms_far_away(ethanol):
    ethanol.positions[5, 0] = 1e9
    with pytest.raises(DataError, match=r"atom H5 is more than 1e\+06 angstrom away"):
        check_structure(ethanol)
    with pytest.raises(DataError, match="atom X1 is a ghost atom"):
        check_structure(Atoms("CX", [[0, 0, 0], [0, 0, 1.2]]))


def test_the_cell_of_a_pdb_file_that_means_none(ethanol, tmp_path: Path):
    for length, periodic in ((1.0, False), (12.0, True)):
        ethanol.set_cell([length] * 3)
        ethanol.pbc = True
        write(tmp_path / "ethanol.pdb", ethanol)
        assert load_structure(tmp_path / "ethanol.pdb").pbc.any() == periodic


@pytest.mark.parametrize("suffix", ["xyz", "pdb", "extxyz"])
def test_deuterium_and_tritium_are_hydrogen_with_their_masses(suffix, ethanol, tmp_path: Path):
    path = tmp_path / f"heavy.{suffix}"
    write(path, ethanol)
    lines = path.read_text().splitlines()
    hydrogens = [index for index, line in enumerate(lines) if " H " in f" {line} " and "=" not in line]
    for index, symbol in ((hydrogens[0], "D"), (hydrogens[1], "T")):
        lines[index] = lines[index].replace(" H ", f" {symbol} ") if suffix == "pdb" else symbol + lines[index][1:]
        if suffix == "pdb":
            lines[index] = lines[index][:76] + f" {symbol}" + lines[index][78:]
    path.write_text("\n".join(lines) + "\n")
    heavy = load_structure(path)
    assert heavy.numbers.tolist() == ethanol.numbers.tolist()
    assert heavy.get_masses()[3:6] == pytest.approx([2.0141, 3.0160, 1.008], abs=1e-4)
    assert "D" not in atomic_numbers


def test_masses_of_the_file_take_precedence_over_those_of_isotopes(tmp_path: Path):
    path = tmp_path / "water.extxyz"
    path.write_text(
        "3\nProperties=species:S:1:pos:R:3:masses:R:1\nO 0 0 0 15.999\nD 0 0 0.96 2.5\nH 0 0.93 -0.24 1.008\n"
    )
    assert load_structure(path).get_masses().tolist() == [15.999, 2.5, 1.008]


def test_fixed_atoms_by_any_name(ethanol):
    ethanol.set_constraint(
        [FixAtoms([0, -1]), FixCartesian(3), FixScaled(4, cell=np.eye(3)), FixCartesian(5, [0, 0, 0])]
    )
    assert np.flatnonzero(fixed_atoms(ethanol)).tolist() == [0, 3, 4, 8]


@pytest.mark.parametrize(
    ("constraint", "problem"),
    [
        (FixCartesian(2, [True, False, False]), "atom O2 is fixed along only some directions"),
        (FixBondLength(0, 1), "constraint FixBondLengths is not supported"),
        (Hookean(0, 1, k=5.0, rt=1.5), "constraint Hookean is not supported"),
        (FixedPlane(0, (0, 0, 1)), "constraint FixedPlane"),
    ],
)
def test_constraints_that_no_engine_keeps(constraint, problem, ethanol):
    ethanol.set_constraint([FixAtoms([1]), constraint])
    with pytest.raises(DataError, match=problem):
        fixed_atoms(ethanol)


@pytest.mark.parametrize("name", ["a@1.xyz", "$x_{$.xyz", "=a b.xyz", "a*?.xyz"])
def test_names_with_characters_that_have_a_meaning_elsewhere(name, ethanol, tmp_path: Path):
    write(tmp_path / "plain.xyz", ethanol)
    (tmp_path / "plain.xyz").rename(tmp_path / name)
    assert len(load_structure(tmp_path / name)) == 9


def pdb_with(record: str, atoms: Atoms, path: Path) -> Path:
    write(path, atoms)
    lines = [line for line in path.read_text().splitlines() if not line.startswith("CRYST1")]
    path.write_text("\n".join([record, *lines, ""]))
    return path


@pytest.mark.parametrize(("length", "angle"), [(0.0, 90.0), (1.0, 90.0)])
def test_a_crystal_record_of_no_crystal(ethanol, tmp_path: Path, length, angle):
    record = f"CRYST1{3 * f'{length:9.3f}'}{3 * f'{angle:7.2f}'} P 1           1"
    atoms = load_structure(pdb_with(record, ethanol, tmp_path / "a.pdb"))
    assert not atoms.pbc.any()
    assert not atoms.cell.array.any()


def test_a_crystal_record_without_angles(ethanol, tmp_path: Path):
    record = f"CRYST1{3 * '    1.000'}{3 * '   0.00'} P 1           1"
    with pytest.raises(DataError, match=r"a\.pdb: its CRYST1 record is not a cell: correct its lengths and angles"):
        load_structure(pdb_with(record, ethanol, tmp_path / "a.pdb"))


@pytest.mark.parametrize("number", [119, 2**56, -1, -(2**40)])
def test_an_atomic_number_beyond_the_table_is_one_line(ethanol, number):
    ethanol.numbers[2] = number
    with pytest.raises(DataError, match=f"atom 2 has the atomic number {number}: no such element"):
        check_structure(ethanol)
