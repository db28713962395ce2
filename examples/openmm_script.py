"""Run an exported potential in a plain OpenMM script: openmm and openmm-torch, nothing of piwsl.

    python openmm_script.py aspirin_openmm.pt aspirin.pdb

The potential is the OpenMM form (`piwsl export model.pt --target openmm --structure aspirin.xyz`); the PDB file holds
the same atoms in the same order, such as the topology.pdb of a run of `piwsl md`.
"""

import sys

import openmm
import torch
from openmm import unit
from openmm.app import PDBFile, Simulation
from openmmtorch import TorchForce

STEPS = 1000
TEMPERATURE = 300 * unit.kelvin


def main(model: str, structure: str) -> None:
    pdb = PDBFile(structure)
    # A TorchForce gets positions alone. This line compares the elements and their order with those of the file.
    torch.jit.load(model).check_order([atom.element.atomic_number for atom in pdb.topology.atoms()])
    system = openmm.System()
    for atom in pdb.topology.atoms():
        system.addParticle(atom.element.mass)
    force = TorchForce(model)
    force.setOutputsForces(True)  # the exported file returns the energy and the forces
    system.addForce(force)

    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, 5 / unit.picosecond, 0.5 * unit.femtosecond)
    integrator.setRandomNumberSeed(1)
    # Reference has the least overhead for a small molecule: the potential does the work.
    simulation = Simulation(pdb.topology, system, integrator, openmm.Platform.getPlatformByName("Reference"))
    simulation.context.setPositions(pdb.positions)
    simulation.context.setVelocitiesToTemperature(TEMPERATURE, 1)

    print("step  potential [eV]  temperature [K]")
    for _ in range(10):
        simulation.step(STEPS // 10)
        state = simulation.context.getState(energy=True)
        potential = state.getPotentialEnergy() / unit.AVOGADRO_CONSTANT_NA / (unit.elementary_charge * unit.volt)
        kinetic = state.getKineticEnergy()
        temperature = 2 * kinetic / (3 * system.getNumParticles() * unit.MOLAR_GAS_CONSTANT_R)
        print(f"{simulation.currentStep:5d} {potential:14.4f} {temperature.value_in_unit(unit.kelvin):15.1f}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
