"""ML/MM in OpenMM: aspirin by piwsl in a box of TIP3P water, at 300 K and 1 bar, through openmm-ml.

    python ml_mm.py                                      # 10 ps with the bundled aspirin model
    python ml_mm.py model_openmm.pt --steps 2000         # any exported file for the atoms of aspirin.xyz

openmm-ml makes the mixed system: the potential replaces every term within aspirin, the force field keeps water and what
aspirin and water do to each other (mechanical embedding: fixed charges and Lennard-Jones, no polarization).
"""

import argparse
import copy
import io
import sys
import time
from importlib.resources import files

import numpy as np
import openmm
import torch
from ase import Atoms
from ase.io import read
from openmm import app, unit
from openmmml import MLPotential

RESOURCES = files("piwsl") / "resources"
TEMPERATURE = 300 * unit.kelvin
TIME_STEP = 0.5 * unit.femtosecond  # aspirin's bonds to hydrogen are free
BROKEN = 0.5  # angstrom; a bond that has changed by as much is no bond
BOX = 2.5  # nm; more than twice the cutoffs of the potential (0.5) and of the force field (0.9)

# Name, type and charge of each atom, in the order of aspirin.xyz.
# Charges: fitted for this example, RESP (two stages) to the electrostatic potential of HF/6-31G* on four
# Merz-Kollman shells around the bundled structure, which is the recipe that GAFF expects.
# fmt: off
ATOMS = [
    ("C0", "c3", -0.364), ("C1", "c", 0.793), ("O2", "o", -0.559), ("O3", "os", -0.403),
    ("C4", "ca", 0.212), ("C5", "ca", -0.117), ("C6", "ca", -0.195), ("C7", "ca", -0.133),
    ("C8", "ca", -0.153), ("C9", "ca", -0.033), ("C10", "c", 0.707), ("O11", "o", -0.574),
    ("O12", "oh", -0.618), ("H13", "hc", 0.117), ("H14", "hc", 0.117), ("H15", "hc", 0.117),
    ("H16", "ha", 0.144), ("H17", "ha", 0.174), ("H18", "ha", 0.145), ("H19", "ha", 0.164),
    ("H20", "ho", 0.459),
]
# fmt: on
BONDS = [(0, 1), (0, 13), (0, 14), (0, 15), (1, 2), (1, 3), (3, 4), (4, 5), (4, 9), (5, 6), (5, 16)]
BONDS += [(6, 7), (6, 17), (7, 8), (7, 18), (8, 9), (8, 19), (9, 10), (10, 11), (10, 12), (12, 20)]

# Lennard-Jones of GAFF (J. Comput. Chem. 25, 1157, 2004). Bonded terms: of the form and size of GAFF, rounded. The
# potential replaces them; they serve a run of the plain force field, and interpolation.
FORCE_FIELD = """
<ForceField>
 <AtomTypes>
  <Type name="c3" class="c3" element="C" mass="12.011"/> <Type name="c" class="c" element="C" mass="12.011"/>
  <Type name="ca" class="ca" element="C" mass="12.011"/> <Type name="o" class="o" element="O" mass="15.999"/>
  <Type name="os" class="os" element="O" mass="15.999"/> <Type name="oh" class="oh" element="O" mass="15.999"/>
  <Type name="hc" class="hc" element="H" mass="1.008"/>  <Type name="ha" class="ha" element="H" mass="1.008"/>
  <Type name="ho" class="ho" element="H" mass="1.008"/>
 </AtomTypes>
 <Residues><Residue name="ASA">{residue}</Residue></Residues>
 <HarmonicBondForce>
  <Bond class1="c3" class2="c" length="0.1508" k="275000"/>  <Bond class1="c3" class2="hc" length="0.1092" k="282000"/>
  <Bond class1="c" class2="o" length="0.1214" k="542000"/>   <Bond class1="c" class2="os" length="0.1343" k="344000"/>
  <Bond class1="c" class2="oh" length="0.1306" k="390000"/>  <Bond class1="c" class2="ca" length="0.1487" k="293000"/>
  <Bond class1="ca" class2="ca" length="0.1387" k="400000"/> <Bond class1="ca" class2="ha" length="0.1087" k="288000"/>
  <Bond class1="ca" class2="os" length="0.1373" k="312000"/> <Bond class1="oh" class2="ho" length="0.0974" k="309000"/>
 </HarmonicBondForce>
 <HarmonicAngleForce>
  <Angle class1="hc" class2="c3" class3="hc" angle="1.89" k="330"/>
  <Angle class1="hc" class2="c3" class3="c" angle="1.91" k="395"/>
  <Angle class1="c3" class2="c" class3="o" angle="2.15" k="570"/>
  <Angle class1="c3" class2="c" class3="os" angle="1.95" k="580"/>
  <Angle class1="o" class2="c" class3="os" angle="2.14" k="635"/>
  <Angle class1="c" class2="os" class3="ca" angle="2.06" k="530"/>
  <Angle class1="os" class2="ca" class3="ca" angle="2.08" k="585"/>
  <Angle class1="ca" class2="ca" class3="ca" angle="2.094" k="560"/>
  <Angle class1="ca" class2="ca" class3="ha" angle="2.095" k="405"/>
  <Angle class1="ca" class2="ca" class3="c" angle="2.097" k="540"/>
  <Angle class1="ca" class2="c" class3="o" angle="2.15" k="575"/>
  <Angle class1="ca" class2="c" class3="oh" angle="1.97" k="580"/>
  <Angle class1="o" class2="c" class3="oh" angle="2.13" k="645"/>
  <Angle class1="c" class2="oh" class3="ho" angle="1.86" k="430"/>
 </HarmonicAngleForce>
 <PeriodicTorsionForce ordering="amber">
  <Proper class1="" class2="ca" class3="ca" class4="" periodicity1="2" phase1="3.14159265" k1="15.17"/>
  <Proper class1="" class2="c" class3="ca" class4="" periodicity1="2" phase1="3.14159265" k1="4.18"/>
  <Proper class1="" class2="c" class3="os" class4="" periodicity1="2" phase1="3.14159265" k1="11.3"/>
  <Proper class1="" class2="ca" class3="os" class4="" periodicity1="2" phase1="3.14159265" k1="3.77"/>
  <Proper class1="" class2="c" class3="oh" class4="" periodicity1="2" phase1="3.14159265" k1="9.62"/>
  <Proper class1="hc" class2="c3" class3="c" class4="o" periodicity1="1" phase1="0" k1="3.35"/>
  <Improper class1="ca" class2="" class3="" class4="" periodicity1="2" phase1="3.14159265" k1="4.6"/>
  <Improper class1="c" class2="" class3="" class4="o" periodicity1="2" phase1="3.14159265" k1="43.9"/>
 </PeriodicTorsionForce>
 <NonbondedForce coulomb14scale="0.8333333333333334" lj14scale="0.5">
  <UseAttributeFromResidue name="charge"/>
  <Atom type="c3" sigma="0.33997" epsilon="0.45773"/> <Atom type="c" sigma="0.33997" epsilon="0.35982"/>
  <Atom type="ca" sigma="0.33997" epsilon="0.35982"/> <Atom type="o" sigma="0.29599" epsilon="0.87864"/>
  <Atom type="os" sigma="0.30000" epsilon="0.71128"/> <Atom type="oh" sigma="0.30665" epsilon="0.88031"/>
  <Atom type="hc" sigma="0.26495" epsilon="0.06569"/> <Atom type="ha" sigma="0.25996" epsilon="0.06276"/>
  <Atom type="ho" sigma="0.1" epsilon="0"/>
 </NonbondedForce>
</ForceField>"""


def aspirin() -> tuple[app.Topology, Atoms]:
    """Return the molecule as a topology of OpenMM and as atoms of ASE."""
    atoms = read(str(RESOURCES / "aspirin.xyz"))
    topology = app.Topology()
    residue = topology.addResidue("ASA", topology.addChain())
    added = [
        topology.addAtom(name, app.Element.getBySymbol(symbol), residue)
        for (name, _, _), symbol in zip(ATOMS, atoms.symbols, strict=True)
    ]
    for first, second in BONDS:
        topology.addBond(added[first], added[second])
    return topology, atoms


def parameters_of_aspirin() -> str:
    """Return the parameters above as a force field file of OpenMM."""
    residue = [f'<Atom name="{name}" type="{kind}" charge="{charge}"/>' for name, kind, charge in ATOMS]
    residue += [f'<Bond atomName1="{ATOMS[i][0]}" atomName2="{ATOMS[j][0]}"/>' for i, j in BONDS]
    return FORCE_FIELD.format(residue="".join(residue))


def solvate() -> tuple[app.Modeller, openmm.System, list[int]]:
    """Aspirin in relaxed water, the System of the plain force field, and which atoms are aspirin."""
    topology, atoms = aspirin()
    modeller = app.Modeller(topology, atoms.positions / 10 * unit.nanometer)
    force_field = app.ForceField("amber14/tip3p.xml", io.StringIO(parameters_of_aspirin()))
    modeller.addSolvent(force_field, model="tip3p", boxSize=openmm.Vec3(BOX, BOX, BOX) * unit.nanometer)
    mm_system = force_field.createSystem(
        modeller.topology, nonbondedMethod=app.PME, nonbondedCutoff=0.9 * unit.nanometer, rigidWater=True
    )
    ml_atoms = [atom.index for atom in modeller.topology.atoms() if atom.residue.name == "ASA"]
    make_room(modeller, mm_system, ml_atoms)
    return modeller, mm_system, ml_atoms


def make_room(modeller: app.Modeller, mm_system: openmm.System, ml_atoms: list[int]) -> None:
    """Relax the new water by the force field alone, around a molecule that stays as it is.

    The mixed system must not be minimized from here. The minimizer tries long steps, above all where it turns rigid
    water into springs, and a potential knows nothing of the torn molecules that such steps lead to: it may end there.
    """
    held = copy.deepcopy(mm_system)
    for index in ml_atoms:
        held.setParticleMass(index, 0)  # OpenMM never moves a particle without mass
    context = openmm.Context(held, openmm.VerletIntegrator(TIME_STEP))
    context.setPositions(modeller.positions)
    openmm.LocalEnergyMinimizer.minimize(context, maxIterations=100)
    modeller.positions = context.getState(positions=True).getPositions()


def mixed_system(model: str) -> tuple[app.Modeller, openmm.System]:
    """Return the solvated molecule and its System: force group 1 is the potential, 2 the non-bonded terms."""
    modeller, mm_system, ml_atoms = solvate()
    potential = MLPotential("piwsl", modelPath=model)
    system = potential.createMixedSystem(modeller.topology, mm_system, ml_atoms, forceGroup=1)
    for force in system.getForces():
        if isinstance(force, openmm.NonbondedForce):
            force.setForceGroup(2)
    system.addForce(openmm.MonteCarloBarostat(1 * unit.bar, TEMPERATURE))
    return modeller, system


def bond_lengths(context: openmm.Context) -> np.ndarray:
    """Of aspirin, in angstrom; OpenMM keeps the atoms of a molecule together, also over a face of the box."""
    positions = context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(unit.angstrom)
    first, second = np.transpose(BONDS)
    return np.linalg.norm(positions[first] - positions[second], axis=1)


def observe(simulation: app.Simulation) -> list[float]:
    """Energy of each force group (kJ/mol), temperature (K), density (g/ml)."""
    context, system = simulation.context, simulation.system
    states = [context.getState(energy=True, groups={group}) for group in (1, 2)]
    n = system.getNumParticles()
    mass = sum((system.getParticleMass(index) for index in range(n)), 0 * unit.dalton)
    density = (mass / states[0].getPeriodicBoxVolume()).value_in_unit(unit.gram / unit.item / unit.milliliter)
    freedom = 3 * n - system.getNumConstraints() - 3  # the overall motion is removed
    temperature = 2 * states[0].getKineticEnergy() / (freedom * unit.MOLAR_GAS_CONSTANT_R) / unit.kelvin
    return [*(state.getPotentialEnergy() / unit.kilojoule_per_mole for state in states), temperature, density]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default=str(RESOURCES / "aspirin_openmm.pt"), help="exported file")
    parser.add_argument("--steps", type=int, default=20_000, help="of 0.5 fs (20000)")
    arguments = parser.parse_args()

    # OpenMM's threads compute the water; those of torch would wait in a loop and take the processors from them.
    torch.set_num_threads(1)
    modeller, system = mixed_system(arguments.model)
    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, 2 / unit.picosecond, TIME_STEP)
    integrator.setRandomNumberSeed(1)
    simulation = app.Simulation(modeller.topology, system, integrator)
    simulation.context.setPositions(modeller.positions)
    simulation.context.setVelocitiesToTemperature(TEMPERATURE, 1)

    waters = modeller.topology.getNumResidues() - 1
    print(f"aspirin and {waters} waters on the platform {simulation.context.getPlatform().getName()}")
    print("energies in kJ/mol: of the potential, from the relaxed molecule, and of the non-bonded terms")
    print("bonds: the largest change of a bond of aspirin")
    print("     ps  potential  non-bonded  temperature [K]  density [g/ml]  bonds [A]")
    lowest, lengths = observe(simulation)[0], bond_lengths(simulation.context)
    rows, seconds = [], 0.0
    interval = max(arguments.steps // 20, 1)
    while simulation.currentStep < arguments.steps:
        start = time.perf_counter()
        simulation.step(min(interval, arguments.steps - simulation.currentStep))
        seconds += time.perf_counter() - start
        rows.append(observe(simulation))
        now = simulation.currentStep * TIME_STEP / unit.picosecond
        ml, non_bonded, temperature, density = rows[-1]
        change = np.abs(bond_lengths(simulation.context) - lengths).max()
        print(f"{now:7.3f} {ml - lowest:10.2f} {non_bonded:11.1f} {temperature:16.1f} {density:15.4f} {change:10.3f}")
        if not change < BROKEN:  # NaN, too
            sys.exit(f"a bond of aspirin has changed by {change:.2f} A: the potential has left what it was trained on")
    temperature, density = np.mean(rows[len(rows) // 2 :], axis=0)[2:]
    print(f"second half: {temperature:.1f} K, {density:.4f} g/ml; {1000 * seconds / arguments.steps:.1f} ms a step")


if __name__ == "__main__":
    main()
