"""Start structures in the formats that users have, and topologies of references."""

from pathlib import Path

from ase.build import bulk, molecule
from ase.constraints import FixAtoms
from ase.io import write

from piwsl.data.structure_file import load_structure
from piwsl.trajectories.files import read_topology
from tests.fuzz.digest import digest_of
from tests.fuzz.harness import Target
from tests.fuzz.mutations import BYTES, TEXT
from tests.support.run_directories import write_trajectory

SALT = bulk("NaCl", "rocksalt", a=5.64, cubic=True)

SDF = """\
water
 made by hand

  3  2  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.1193 O   0  0
    0.0000    0.7632   -0.4770 H   0  0
    0.0000   -0.7632   -0.4770 H   0  0
  1  2  1  0
  1  3  1  0
M  END
$$$$
"""


def _read(path: Path) -> str:
    atoms = load_structure(path)
    values = (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, atoms.get_masses(), len(atoms.constraints))
    return digest_of(*values)


def _molecule(path: Path) -> None:
    atoms = molecule("CH3CH2OH")
    atoms.set_constraint(FixAtoms([0, 1]))
    atoms.set_masses([2.014 if symbol == "H" else None for symbol in atoms.symbols])
    write(path, atoms)


def _cell(path: Path) -> None:
    write(path, SALT)


def _topology(path: Path) -> None:
    write_trajectory(path, SALT.positions[None], SALT.numbers, SALT.cell.array[None])


TARGETS = [
    Target("structure-extxyz", "a.extxyz", _molecule, _read, TEXT),
    Target("structure-pdb", "a.pdb", _cell, _read, TEXT),
    Target("structure-cif", "a.cif", _cell, _read, TEXT),
    Target("structure-poscar", "POSCAR", _cell, _read, TEXT),
    Target("structure-xsf", "a.xsf", _cell, _read, TEXT),
    Target("structure-traj", "a.traj", _cell, _read, BYTES),
    Target("structure-json", "a.json", _cell, _read, TEXT),
    Target("structure-gen", "a.gen", _cell, _read, TEXT),
    Target("structure-sdf", "a.sdf", lambda path: path.write_text(SDF) and None, _read, TEXT),
    Target("topology", "a.pdb", _topology, lambda path: str(read_topology(path)), TEXT, seconds=2),
]
