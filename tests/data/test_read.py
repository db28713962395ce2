import gzip

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from piwsl.data.read import read_frames
from piwsl.errors import ConfigError, DataError
from piwsl.units import KCAL_PER_MOL, LabelUnits, parse_units
from tests.support.molecules import frame

KCAL = LabelUnits(KCAL_PER_MOL, 1.0)
SPECIES = np.array([8, 1, 1])


def arrays(count=4, **changes):
    rng = np.random.default_rng(0)
    content = {
        "nuclear_charges": SPECIES,
        "coords": rng.normal(size=(count, 3, 3)),
        "energies": rng.normal(size=count),
        "forces": rng.normal(size=(count, 3, 3)),
    }
    return {key: value for key, value in {**content, **changes}.items() if value is not None}


def test_rmd17_keys(tmp_path):
    content = arrays()
    np.savez(tmp_path / "a.npz", **content)
    frames = read_frames(tmp_path / "a.npz", KCAL)
    assert len(frames) == 4
    assert frames[2].energy == pytest.approx(content["energies"][2] * 0.0433641, rel=1e-6)
    assert np.allclose(frames[2].forces, content["forces"][2] * KCAL_PER_MOL)
    assert np.array_equal(frames[2].positions, content["coords"][2])
    assert frames.elements == [1, 8]


def test_sgdml_keys_and_energy_columns(tmp_path):
    c = arrays()
    np.savez(tmp_path / "a.npz", z=SPECIES, R=c["coords"], E=c["energies"][:, None], F=c["forces"])
    frames = read_frames(tmp_path / "a.npz", parse_units("eV"))
    assert frames[1].energy == c["energies"][1]
    assert frames[1].has_forces


def test_missing_labels_are_missing(tmp_path):
    np.savez(tmp_path / "a.npz", **arrays(forces=None))
    frames = read_frames(tmp_path / "a.npz", KCAL)
    assert frames[0].has_energy
    assert not frames[0].has_forces


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"coords": np.zeros((4, 2, 3))}, "shape"),
        ({"forces": np.zeros((4, 3))}, "forces has shape"),
        ({"energies": np.zeros(3)}, "energies has shape"),
        ({"energies": np.array([0.0, np.nan, 0.0, 0.0])}, "frame 1: energy is not a finite number"),
        ({"forces": np.full((4, 3, 3), 1e9)}, "check the units"),
        ({"coords": np.full((4, 3, 3), np.inf)}, "position is not a finite"),
        ({"nuclear_charges": None}, "expected nuclear_charges"),
        ({"energies": np.array([None] * 4)}, "numerical arrays"),
    ],
)
def test_bad_npz(tmp_path, changes, message):
    np.savez(tmp_path / "bad.npz", **arrays(**changes))
    with pytest.raises(DataError, match=message) as error:
        read_frames(tmp_path / "bad.npz", KCAL)
    assert "bad.npz" in str(error.value)
    assert "\n" not in str(error.value)


def test_units_must_be_stated_somewhere(tmp_path):
    np.savez(tmp_path / "a.npz", **arrays())
    with pytest.raises(DataError, match="units="):
        read_frames(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", **arrays(units=np.array("kcal/mol, angstrom")))
    assert read_frames(tmp_path / "b.npz")[0].energy == pytest.approx(arrays()["energies"][0] * KCAL_PER_MOL)


@pytest.mark.parametrize("value", [np.array(["kcal/mol"]), np.array(b"kcal/mol"), np.array([b"kcal/mol"])])
@pytest.mark.parametrize("name", ["energy_unit", "e_unit"])
def test_units_in_arrays_and_bytes_are_compared(tmp_path, name, value):
    np.savez(tmp_path / "a.npz", **arrays(), **{name: value})
    with pytest.raises(DataError, match="kcal/mol"):
        read_frames(tmp_path / "a.npz", parse_units("eV"))
    assert read_frames(tmp_path / "a.npz", KCAL)[0].energy == pytest.approx(arrays()["energies"][0] * KCAL_PER_MOL)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lattice", np.eye(3)),  # sGDML
        ("cell", np.tile(np.eye(3), (4, 1, 1))),
        ("box", np.full((4, 3), 9.0)),
        ("pbc", np.array([True, True, True])),
    ],
)
def test_a_cell_in_an_npz_file_is_no_molecule(tmp_path, name, value):
    np.savez(tmp_path / "a.npz", **arrays(), **{name: value})
    with pytest.raises(DataError, match=f"contains a cell, '{name}', but frames of npz files are read as molecules"):
        read_frames(tmp_path / "a.npz", KCAL)
    np.savez(tmp_path / "b.npz", **arrays(), **{name: np.zeros_like(value)})
    assert len(read_frames(tmp_path / "b.npz", KCAL)) == 4


def test_truncated_npz(tmp_path):
    np.savez(tmp_path / "a.npz", **arrays())
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:300])
    with pytest.raises(DataError, match="cannot be read as an npz file"):
        read_frames(tmp_path / "a.npz", KCAL)


def extxyz(path, reference_keys):
    structures = []
    for seed in range(3):
        labeled = frame("H2O", seed=seed, labeled=True)
        atoms = labeled.atoms()
        if reference_keys:
            atoms.info["REF_energy"] = labeled.energy
            if seed != 1:
                atoms.arrays["REF_forces"] = labeled.forces
        else:
            atoms.calc = SinglePointCalculator(atoms, energy=labeled.energy, forces=labeled.forces)
        structures.append(atoms)
    write(path, structures, format="extxyz")


def test_extxyz_reference_keys_and_partial_labels(tmp_path):
    extxyz(tmp_path / "a.xyz", reference_keys=True)
    frames = read_frames(tmp_path / "a.xyz")
    assert [f.has_forces for f in frames] == [True, False, True]
    assert frames[2].energy == pytest.approx(frame("H2O", seed=2, labeled=True).energy, abs=1e-7)
    assert frames.notes == ()


def test_extxyz_calculator_results_are_read_and_said(tmp_path):
    extxyz(tmp_path / "a.xyz", reference_keys=False)
    frames = read_frames(tmp_path / "a.xyz")
    assert np.allclose(frames[0].forces, frame("H2O", labeled=True).forces, atol=1e-7)
    assert "3 of 3" in frames.notes[0]


def test_compressed_extxyz(tmp_path):
    extxyz(tmp_path / "a.xyz", reference_keys=True)
    (tmp_path / "a.xyz.gz").write_bytes(gzip.compress((tmp_path / "a.xyz").read_bytes()))
    assert len(read_frames(tmp_path / "a.xyz.gz")) == 3


@pytest.mark.parametrize(("name", "text"), [("a.xyz", "3\n\nH 0 0\n"), ("a.xyz", ""), ("a.unknown", "hello")])
def test_bad_text_files(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=name):
        read_frames(tmp_path / name)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_frames(tmp_path / "none.npz")


@pytest.mark.parametrize("units", [5, ("kcal/mol", "angstrom")])
def test_units_that_are_not_text(tmp_path, units):
    np.savez(tmp_path / "a.npz", **arrays())
    with pytest.raises(ConfigError, match=r"units=.*: give text, such as units='kcal/mol, angstrom'"):
        read_frames(tmp_path / "a.npz", units)
