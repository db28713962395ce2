"""Contexts of OpenMM with an exported file, for the parts that check forces and measure steps."""

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from piwsl.interfaces.openmm.force import Kind, openmm_force
from piwsl.interfaces.openmm.probe import import_openmm
from piwsl.md.engines.openmm import platform_properties
from piwsl.units import KJ_PER_MOL, NANOMETER


def context(
    atoms: Atoms, file: Path, kind: Kind, platform: str, device: str, graphs: bool = False, temperature: float = 10.0
) -> tuple[Any, Any]:
    """Return a Context at the positions of the atoms and its integrator, Langevin dynamics with 0.1 fs."""
    openmm = import_openmm()
    system = openmm.System()
    for mass in atoms.get_masses():
        system.addParticle(mass)
    periodic = bool(atoms.pbc.all())
    force = openmm_force(file, atoms.numbers, kind, periodic=periodic, device=device, cuda_graphs=graphs)
    system.addForce(force)
    if periodic:
        system.setDefaultPeriodicBoxVectors(*(np.array(atoms.cell) / NANOMETER))
    integrator = openmm.LangevinMiddleIntegrator(temperature, 5, 1e-4)
    integrator.setRandomNumberSeed(1)
    properties = platform_properties(platform)
    made = openmm.Context(system, integrator, openmm.Platform.getPlatformByName(platform), properties)
    made.setPositions(atoms.positions / NANOMETER)
    return made, integrator


def state(made: Any) -> tuple[np.ndarray[Any, Any], float, np.ndarray[Any, Any]]:
    """Return positions (angstrom), energy (eV) and forces (eV/angstrom)."""
    now = made.getState(positions=True, energy=True, forces=True)
    positions = np.asarray(now.getPositions(asNumpy=True)._value) * NANOMETER
    forces = np.asarray(now.getForces(asNumpy=True)._value) * (KJ_PER_MOL / NANOMETER)
    return positions, float(now.getPotentialEnergy()._value) * KJ_PER_MOL, forces
