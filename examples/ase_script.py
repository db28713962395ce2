"""Run an exported potential in an ASE script.

python ase_script.py aspirin_openmm.pt aspirin.xyz
"""

import sys

import numpy as np
from ase import units
from ase.io import read
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary, ZeroRotation
from ase.optimize import BFGS

import piwsl

STEPS = 200


def main(model: str, structure: str) -> None:
    atoms = read(structure)
    atoms.calc = piwsl.PiwslCalculator(model)
    print(f"{atoms.symbols}: {atoms.get_potential_energy():.4f} eV")

    BFGS(atoms, logfile=None).run(fmax=0.05, steps=100)
    print(f"after relaxation: {atoms.get_potential_energy():.4f} eV")

    rng = np.random.default_rng(1)
    MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=rng)
    Stationary(atoms)
    ZeroRotation(atoms)
    dynamics = Langevin(atoms, 0.5 * units.fs, temperature_K=300, friction=0.005 / units.fs, fixcm=False, rng=rng)

    def report() -> None:
        energy, temperature = atoms.get_potential_energy(), atoms.get_temperature()
        print(f"step {dynamics.nsteps:4d}: potential {energy:.4f} eV, temperature {temperature:.0f} K")

    dynamics.attach(report, interval=STEPS // 4)
    dynamics.run(STEPS)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
