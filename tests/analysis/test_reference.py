import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write

from piwsl.analysis.reference import bundled_reference, read_reference
from piwsl.errors import ConfigError, DataError
from piwsl.structures.matching import check_formula, check_order


@pytest.fixture
def positions(runs):
    return runs.shaking(12, seed=1)


@pytest.mark.parametrize("keys", [("nuclear_charges", "coords"), ("z", "R")])
def test_npz(runs, tmp_path, positions, keys):
    np.savez(tmp_path / "r.npz", **dict(zip(keys, (runs.ETHANOL.numbers, positions), strict=True)))
    found = read_reference(tmp_path / "r.npz")
    np.testing.assert_allclose(found.frames.all(), positions)
    assert found.species.tolist() == runs.ETHANOL.numbers.tolist()
    assert found.times is None
    assert found.name == "r.npz"


@pytest.mark.parametrize("units", ["nm", "kcal/mol, nm"])
def test_npz_in_nanometers(runs, tmp_path, positions, units):
    np.savez(tmp_path / "r.npz", z=runs.ETHANOL.numbers, R=positions / 10)
    np.testing.assert_allclose(read_reference(tmp_path / "r.npz", units=units).frames.all(), positions)


def test_npz_with_the_units_of_sgdml(runs, tmp_path, positions):
    units = {"e_unit": "kcal/mol", "r_unit": "nm"}
    np.savez(tmp_path / "r.npz", z=runs.ETHANOL.numbers, R=positions / 10, **units)
    np.testing.assert_allclose(read_reference(tmp_path / "r.npz").frames.all(), positions)


def test_stated_units_can_be_given(runs, tmp_path, positions):
    """The energy unit, too, because it is compared with that of the file."""
    atoms = [Atoms(runs.ETHANOL.numbers, places, info={"energy_unit": "kcal/mol"}) for places in positions]
    write(tmp_path / "r.xyz", atoms, format="extxyz")
    with pytest.raises(DataError, match="energy_unit is 'kcal/mol', but the file is read with other units"):
        read_reference(tmp_path / "r.xyz")
    found = read_reference(tmp_path / "r.xyz", units="kcal/mol, angstrom")
    np.testing.assert_allclose(found.frames.all(), positions, atol=1e-7)


def test_npz_that_is_none(tmp_path):
    (tmp_path / "r.npz").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"r\.npz"):
        read_reference(tmp_path / "r.npz")


def test_extended_xyz(runs, tmp_path, positions):
    write(tmp_path / "r.extxyz", [Atoms(runs.ETHANOL.numbers, frame) for frame in positions])
    np.testing.assert_allclose(read_reference(tmp_path / "r.extxyz").frames.all(), positions, atol=1e-6)


def test_trajectory_with_topology(runs, tmp_path, positions):
    runs.write_trajectory(tmp_path / "r.xtc", positions)[0].save_pdb(str(tmp_path / "top.pdb"))
    found = read_reference(tmp_path / "r.xtc", tmp_path / "top.pdb")
    np.testing.assert_allclose(found.frames.all(), positions, atol=0.0051)
    assert len(found.times) == 12


def test_trajectory_without_topology(runs, tmp_path, positions):
    runs.write_trajectory(tmp_path / "r.dcd", positions)
    with pytest.raises(ConfigError, match="reference_topology=FILE"):
        read_reference(tmp_path / "r.dcd")


def test_topology_of_another_size(runs, tmp_path, positions):
    runs.write_trajectory(tmp_path / "r.dcd", positions)
    benzene = molecule("C6H6")
    runs.write_trajectory(tmp_path / "top.pdb", benzene.positions[None], benzene.numbers)
    with pytest.raises(DataError, match=r"has 9 atoms, but its topology .* has 12"):
        read_reference(tmp_path / "r.dcd", tmp_path / "top.pdb")


def test_options_that_do_not_belong(runs, tmp_path, positions):
    np.savez(tmp_path / "r.npz", z=runs.ETHANOL.numbers, R=positions)
    with pytest.raises(ConfigError, match="leave out the reference topology"):
        read_reference(tmp_path / "r.npz", tmp_path / "top.pdb")
    runs.write_trajectory(tmp_path / "r.dcd", positions)
    with pytest.raises(ConfigError, match="leave out the units"):
        read_reference(tmp_path / "r.dcd", tmp_path / "top.pdb", units="nm")


def test_positions_that_are_no_numbers(runs, tmp_path, positions):
    positions[3, 2] = np.nan
    runs.write_trajectory(tmp_path / "r.dcd", positions)
    runs.write_trajectory(tmp_path / "top.pdb", positions[:1])
    with pytest.raises(DataError, match="frame 3"):
        _ = read_reference(tmp_path / "r.dcd", tmp_path / "top.pdb").statistics


def test_frames_of_two_molecules(runs, tmp_path):
    write(tmp_path / "r.extxyz", [runs.ETHANOL, molecule("C6H6")])
    with pytest.raises(DataError, match="frames 0 and 1 are different molecules"):
        _ = read_reference(tmp_path / "r.extxyz").statistics


def test_same_molecule(runs):
    numbers = runs.ETHANOL.numbers
    check_order(numbers, numbers, "mine", None)
    with pytest.raises(DataError, match=r"different molecules: C6H6 and C2H6O \(mine\)"):
        check_formula(molecule("C6H6").numbers, numbers, "mine")
    with pytest.raises(DataError, match="different orders: atom 0 is H in the run, C in the reference"):
        check_order(numbers[::-1], numbers, "mine", None)


def test_no_bundled_system_of_this_name():
    with pytest.raises(ConfigError, match="no bundled reference for 'ethanol': give reference=FILE"):
        bundled_reference("ethanol")


DUMP = """ITEM: TIMESTEP
0
ITEM: NUMBER OF ATOMS
1
ITEM: BOX BOUNDS pp pp pp
0.0 7.0
0.0 7.0
0.0 7.0
ITEM: ATOMS id type {}x y z
1 1 {}0.5 0.0 0.0
"""


@pytest.mark.parametrize("topology", [None, "top.pdb"])
def test_a_dump_of_types_states_no_elements(tmp_path, topology):
    (tmp_path / "a.lammpstrj").write_text(DUMP.format("", ""))
    with pytest.raises(DataError, match="a LAMMPS dump with type numbers instead of elements: write it with"):
        read_reference(tmp_path / "a.lammpstrj", topology and tmp_path / topology)


def test_a_dump_of_elements(tmp_path):
    (tmp_path / "a.lammpstrj").write_text(DUMP.format("element ", "Cu "))
    assert read_reference(tmp_path / "a.lammpstrj").species.tolist() == [29]
