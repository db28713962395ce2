"""The extended XSF of aenet."""

import time

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.units import Hartree

from piwsl.data.read import read_frames
from piwsl.errors import DataError
from tests.support.frame_sets import assert_same_frames, periodic_frame
from tests.support.molecules import frame


def aenet(made, forces=True, energy=True):
    """The text of a file as aenet's tools write it."""
    symbols = made.atoms().get_chemical_symbols()
    numbers = np.hstack([made.positions, made.forces]) if forces else made.positions
    rows = [f"{symbol:3s}" + "".join(f"{x:22.16f}" for x in row) for symbol, row in zip(symbols, numbers, strict=True)]
    lines = [f"# total energy = {made.energy!r} eV", ""] if energy else []
    if any(made.pbc):
        vectors = ["   ".join(f"{x:.16f}" for x in vector) for vector in made.cell]
        lines += ["CRYSTAL", "PRIMVEC", *vectors, "PRIMCOORD", f"{len(rows)} 1"]
    else:
        lines += ["ATOMS"]
    return "\n".join([*lines, *rows, ""])


@pytest.mark.parametrize("made", [periodic_frame(), frame("CH3CH2OH", labeled=True)], ids=["cell", "molecule"])
def test_structures(tmp_path, made):
    (tmp_path / "a.xsf").write_text(aenet(made))
    assert_same_frames(read_frames(tmp_path / "a.xsf"), [made], 1e-15)


def test_forces_may_be_missing(tmp_path):
    (tmp_path / "a.xsf").write_text(aenet(periodic_frame(), forces=False))
    found = read_frames(tmp_path / "a.xsf")[0]
    assert found.has_energy
    assert not found.has_forces


def test_atomic_numbers_and_slabs(tmp_path):
    text = aenet(periodic_frame()).replace("\nTi ", "\n22 ").replace("\nO  ", "\n8  ").replace("CRYSTAL", "SLAB")
    (tmp_path / "a.xsf").write_text(text)
    found = read_frames(tmp_path / "a.xsf")[0]
    assert found.species.tolist() == periodic_frame().species.tolist()
    assert found.pbc == (True, True, False)


@pytest.mark.slow
def test_forces_of_xcrysden_are_in_hartree(tmp_path):
    """Without the comment of aenet the file is one of XCrySDen, as ASE writes it."""
    made = periodic_frame()
    atoms = made.atoms()
    atoms.calc = SinglePointCalculator(atoms, forces=made.forces)
    write(tmp_path / "a.xsf", atoms)
    found = read_frames(tmp_path / "a.xsf")[0]
    assert np.allclose(found.forces, made.forces, atol=1e-9 * Hartree)
    assert not found.has_energy


def test_a_directory_of_many_reads_quickly(tmp_path):
    for index in range(1000):
        (tmp_path / f"structure{index:04d}.xsf").write_text(aenet(periodic_frame(index % 7)))
    start = time.perf_counter()
    frames = read_frames(tmp_path)
    assert time.perf_counter() - start < 5.0
    assert_same_frames(frames.select([0, 999]), [periodic_frame(0), periodic_frame(999 % 7)], 1e-15)
    assert len(frames.files) == 1000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], "truncated"),
        (lambda text: "\n".join(text.splitlines()[:-1]), "5 of 6 atoms"),
        (lambda text: text.replace("PRIMVEC", ""), "PRIMVEC"),
        (lambda text: text.replace("Ti", "Xx"), "Xx"),
        (lambda text: text.replace(" eV", " Ry"), "total energy is in 'Ry'"),
        (lambda text: "ANIMSTEPS 2\n" + text, "several structures"),
        (lambda text: text.replace("energy = -", "energy = minus "), "minus"),
        (lambda text: text.replace("energy = -", "energy = -9999999999"), "check the units"),
    ],
)
def test_bad_files(tmp_path, change, message):
    (tmp_path / "a.xsf").write_text(change(aenet(periodic_frame())))
    with pytest.raises(DataError, match=message) as error:
        read_frames(tmp_path / "a.xsf")
    assert "a.xsf" in str(error.value)
    assert "\n" not in str(error.value)
