"""Frames with labels of ASE's EMT, whose energies, forces and stresses belong together."""

from ase import Atoms
from ase.calculators.emt import EMT

from piwsl.data.frames import Frame


def labeled(atoms: Atoms) -> Frame:
    """Label a structure of elements that EMT has; cells have a stress, too."""
    atoms.calc = EMT()
    stress = atoms.get_stress(voigt=False) if all(atoms.pbc) else None
    return Frame.from_atoms(atoms, atoms.get_potential_energy(), atoms.get_forces(), stress)
