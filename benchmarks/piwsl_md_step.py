"""piwsl's side of md_step.py: a step of Langevin dynamics of aspirin with an exported file.

python benchmarks/piwsl_md_step.py torch|python|ase FILE
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import openmm
from ase import Atoms, units
from ase.md.langevin import Langevin
from step_server import serve

from piwsl import PiwslCalculator, openmm_force
from piwsl.data.systems import named_system
from piwsl.interfaces.openmm.force import Kind
from piwsl.runs.process_settings import choose_threads, keep_freed_memory
from piwsl.units import NANOMETER


def openmm_step(atoms: Atoms, file: Path, kind: Kind) -> Callable[[int], float]:
    system = openmm.System()
    for mass in atoms.get_masses():
        system.addParticle(mass)
    system.addForce(openmm_force(file, atoms.numbers, kind))
    integrator = openmm.LangevinMiddleIntegrator(10, 5, 1e-4)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(atoms.positions / NANOMETER)

    def step(number: int, context: openmm.Context = context) -> float:  # which must not be collected
        integrator.step(1)
        return 0.0

    return step


def ase_step(atoms: Atoms, file: Path) -> Callable[[int], float]:
    atoms.calc = PiwslCalculator(file)
    dynamics = Langevin(atoms, 0.1 * units.fs, temperature_K=10, friction=0.005 / units.fs, fixcm=False)

    def step(number: int) -> float:
        dynamics.run(1)
        return float(atoms.get_potential_energy())

    return step


def main() -> None:
    keep_freed_memory()
    how, file = sys.argv[1], Path(sys.argv[2])
    atoms = named_system("aspirin").structure
    os.environ.pop("OMP_NUM_THREADS", None)  # what is offered; piwsl's own choice is timed
    choose_threads(len(atoms))
    kind: Kind = "torch" if how == "torch" else "python"
    serve(ase_step(atoms, file) if how == "ase" else openmm_step(atoms, file, kind), {"library": "piwsl"})


if __name__ == "__main__":
    main()
