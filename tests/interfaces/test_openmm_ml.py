import subprocess
import sys

import numpy as np
import openmm
import pytest
from ase import Atoms
from ase.build import molecule
from openmm import app
from openmmml import MLPotential

from piwsl import PiwslCalculator
from piwsl.errors import ConfigError, ElementError, ModelFileError
from piwsl.structures.bonds import bonded_pairs
from piwsl.units import KJ_PER_MOL
from tests.support.models_for_tests import trained_file

BOX = 2.0  # nm


def run_python(code: str, *arguments: str) -> str:
    result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout


def topology_of(atoms: Atoms, box: float | None = None) -> app.Topology:
    """The bonds of the molecule; it is one residue, every argon another."""
    topology = app.Topology()
    chain = topology.addChain()
    added, residue = [], None
    for i, symbol in enumerate(atoms.symbols):
        if residue is None or "Ar" in (symbol, added[-1].element.symbol):
            residue = topology.addResidue("MOL", chain)
        added.append(topology.addAtom(f"{symbol}{i}", app.Element.getBySymbol(symbol), residue))
    for first, second in bonded_pairs(atoms):
        topology.addBond(added[first], added[second])
    if box:
        topology.setPeriodicBoxVectors(np.eye(3) * box)
    return topology


def force_field_system(topology: app.Topology, method: int) -> openmm.System:
    """Springs on the bonds, charges and Lennard-Jones on everything."""
    system = openmm.System()
    bonds, nonbonded = openmm.HarmonicBondForce(), openmm.NonbondedForce()
    nonbonded.setNonbondedMethod(method)
    nonbonded.setCutoffDistance(0.9)
    for atom in topology.atoms():
        system.addParticle(atom.element.mass)
        nonbonded.addParticle(0.05 * (-1) ** atom.index, 0.33, 0.5)
    for first, second in topology.bonds():
        bonds.addBond(first.index, second.index, 0.12, 2e5)
        nonbonded.addException(first.index, second.index, 0.0, 1.0, 0.0)
    if topology.getPeriodicBoxVectors() is not None:
        system.setDefaultPeriodicBoxVectors(*topology.getPeriodicBoxVectors())
    system.addForce(bonds)
    system.addForce(nonbonded)
    return system


def context_of(system: openmm.System, atoms: Atoms) -> openmm.Context:
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(atoms.positions / 10)
    return context


def evaluated(context: openmm.Context, **parameters: float) -> tuple[float, np.ndarray]:
    """Energy (eV) and forces (eV/angstrom) of a Context."""
    for name, value in parameters.items():
        context.setParameter(name, value)
    state = context.getState(energy=True, forces=True)
    return state.getPotentialEnergy()._value * KJ_PER_MOL, state.getForces(asNumpy=True)._value * KJ_PER_MOL / 10


@pytest.fixture
def in_argon(ethanol) -> Atoms:
    """Argon, ethanol, argon, so that the molecule has neither the first nor the last indices."""
    ethanol.rattle(0.05, seed=1)
    ethanol.center(about=(5, 5, 5))
    return Atoms("Ar", [(10.5, 6.0, 5.5)]) + ethanol + Atoms("Ar2", [(0.0, 5.0, 4.5), (5.0, 9.5, 6.0)])


INSIDE = list(range(1, 10))  # ethanol among the argons


def test_importing_the_module_imports_nothing_but_the_standard_library():
    code = """
import sys
before = set(sys.modules)
import piwsl.interfaces.openmm_ml
print(sorted({name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names))
print(sorted(name for name in sys.modules if name.startswith("piwsl")))
"""
    lines = run_python(code).splitlines()
    assert lines == [
        "['piwsl']",
        "['piwsl', 'piwsl._lazy', 'piwsl._user', 'piwsl._version', 'piwsl.interfaces', 'piwsl.interfaces.openmm_ml']",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["torch", "piwsl.errors", "piwsl.interfaces.openmm.force"])
def test_other_potentials_do_without_what_is_broken_here(broken):
    code = f"""
import sys
sys.modules[{broken!r}] = None  # its import fails
import openmm
from ase import Atoms
from ase.calculators.lj import LennardJones
from openmm.app import Element, Topology
from openmmml import MLPotential

topology = Topology()
residue = topology.addResidue("AR", topology.addChain())
for name in ("A", "B"):
    topology.addAtom(name, Element.getBySymbol("Ar"), residue)
system = MLPotential("ase").createSystem(topology, calculator=LennardJones(sigma=3.4, epsilon=0.01, rc=20.0))
context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
context.setPositions([(0, 0, 0), (0, 0, 0.34 * 2 ** (1 / 6))])
print(context.getState(energy=True).getPotentialEnergy()._value)
assert {{"piwsl", "ani2x", "mace"}} <= set(MLPotential._implFactories)
try:
    MLPotential("piwsl", modelPath="model.pt").createSystem(topology)
except Exception as error:
    print(type(error).__name__, error)
"""
    energy, error = run_python(code).splitlines()
    assert float(energy) == pytest.approx(-0.01 / KJ_PER_MOL, rel=1e-3)
    assert error == f"ModuleNotFoundError import of {broken} halted; None in sys.modules"


@pytest.mark.parametrize("kind", [pytest.param("torch", marks=pytest.mark.torchforce), "python"])
def test_a_molecule_alone(kind, ethanol, make_model):
    model = make_model(ethanol)
    ethanol.rattle(0.05, seed=1)
    system = MLPotential("piwsl", modelPath=model).createSystem(topology_of(ethanol), kind=kind, precision="double")
    assert [force.getName() for force in system.getForces()] == [f"{kind.title()}Force", "CMMotionRemover"]
    energy, forces = evaluated(context_of(system, ethanol))
    ethanol.calc = PiwslCalculator(model)
    assert energy == pytest.approx(ethanol.get_potential_energy(), abs=1e-9)
    assert forces == pytest.approx(ethanol.get_forces(), abs=1e-8)


@pytest.mark.slow
def test_a_trained_network_in_a_periodic_box(ethanol, tmp_path):
    model = trained_file(tmp_path / "model.pt", dtype="float64")
    ethanol.rattle(0.05, seed=1)
    ethanol.set_cell(np.eye(3) * 9.0)
    ethanol.positions += (4.0, 8.5, 0.2)  # over the faces of the box
    ethanol.wrap(pbc=True)
    system = MLPotential("piwsl", modelPath=str(model)).createSystem(topology_of(ethanol, 0.9), removeCMMotion=False)
    assert system.usesPeriodicBoundaryConditions()
    ethanol.pbc = True
    ethanol.calc = PiwslCalculator(model)
    energy, forces = evaluated(context_of(system, ethanol))
    assert energy == pytest.approx(ethanol.get_potential_energy(), abs=1e-6)
    assert forces == pytest.approx(ethanol.get_forces(), abs=1e-6)
    assert np.abs(forces).max() > 1e-3


@pytest.mark.parametrize("kind", [pytest.param("torch", marks=pytest.mark.torchforce), "python"])
@pytest.mark.parametrize("periodic", [False, True])
def test_a_mixed_system_joins_potential_and_force_field(kind, periodic, in_argon, ethanol, make_model):
    model = make_model(ethanol)
    topology = topology_of(in_argon, BOX if periodic else None)
    method = openmm.NonbondedForce.PME if periodic else openmm.NonbondedForce.NoCutoff
    classical = force_field_system(topology, method)
    system = MLPotential("piwsl", modelPath=model, kind=kind).createMixedSystem(
        topology, classical, INSIDE, forceGroup=3
    )
    ethanol.positions = in_argon.positions[INSIDE]
    ethanol.calc = PiwslCalculator(model)
    context = context_of(system, in_argon)
    of_potential = context.getState(energy=True, forces=True, groups={3})
    energy = of_potential.getPotentialEnergy()._value * KJ_PER_MOL
    forces = of_potential.getForces(asNumpy=True)._value * KJ_PER_MOL / 10
    assert energy == pytest.approx(ethanol.get_potential_energy(), abs=1e-8)
    assert forces[INSIDE] == pytest.approx(ethanol.get_forces(), abs=1e-8)
    assert np.abs(np.delete(forces, INSIDE, axis=0)).max() == 0.0
    assert abs(evaluated(context)[0] - energy) > 1e-4  # what argon does to ethanol


def test_interpolation_goes_from_the_force_field_to_the_mixed_system(in_argon, ethanol, make_model):
    potential = MLPotential("piwsl", modelPath=make_model(ethanol))
    topology = topology_of(in_argon, BOX)
    classical = force_field_system(topology, openmm.NonbondedForce.PME)
    mixed = evaluated(context_of(potential.createMixedSystem(topology, classical, INSIDE), in_argon))
    pure = evaluated(context_of(classical, in_argon))
    between = context_of(potential.createMixedSystem(topology, classical, INSIDE, interpolate=True), in_argon)
    for part in (0.0, 0.25, 1.0):
        found = evaluated(between, lambda_interpolate=part)
        for value, start, end in zip(found, pure, mixed, strict=True):
            assert value == pytest.approx((1.0 - part) * start + part * end, abs=1e-6)
    assert sorted(map(len, between.getMolecules())) == [1, 1, 1, 9]
    with pytest.raises(ConfigError, match="kind='torch' cannot be combined with interpolate=True"):
        potential.createMixedSystem(topology, classical, INSIDE, interpolate=True, kind="torch")


READ = """
import sys
import numpy as np
import openmm
text = open(sys.argv[1]).read()
if sys.argv[3] == "read_system":
    from piwsl.interfaces.openmm import read_system
    system = read_system(text)
else:
    system = openmm.XmlSerializer.deserialize(text)
context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
context.setPositions(np.load(sys.argv[2]) / 10)
print(context.getState(energy=True, groups={3}).getPotentialEnergy()._value)
print(context.getState(energy=True).getPotentialEnergy()._value)
print(sorted(map(len, context.getMolecules())))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "interpolate", "reader"),
    [
        pytest.param("torch", False, "read_system", marks=pytest.mark.torchforce),
        ("python", False, "read_system"),
        ("python", False, "openmm"),
        ("python", True, "openmm"),
    ],
)
def test_a_mixed_system_lives_on_in_a_new_process(kind, interpolate, reader, in_argon, ethanol, make_model, tmp_path):
    model = make_model(ethanol)
    topology = topology_of(in_argon, BOX)
    classical = force_field_system(topology, openmm.NonbondedForce.PME)
    system = MLPotential("piwsl", modelPath=model, kind=kind).createMixedSystem(
        topology, classical, INSIDE, forceGroup=3, interpolate=interpolate
    )
    context = context_of(system, in_argon)
    energies = [context.getState(energy=True, **groups).getPotentialEnergy()._value for groups in ({"groups": {3}}, {})]
    (tmp_path / "system.xml").write_text(openmm.XmlSerializer.serialize(system))
    np.save(tmp_path / "positions.npy", in_argon.positions)
    model.unlink()  # the System holds all it needs
    arguments = [str(tmp_path / "system.xml"), str(tmp_path / "positions.npy"), reader]
    lines = run_python(READ, *arguments).splitlines()
    assert [float(line) for line in lines[:2]] == pytest.approx(energies, abs=1e-6)
    assert lines[2] == "[1, 1, 1, 9]"


def test_a_molecule_stays_one_molecule_for_the_barostat(in_argon, ethanol, make_model):
    topology = topology_of(in_argon, BOX)
    classical = force_field_system(topology, openmm.NonbondedForce.PME)
    system = MLPotential("piwsl", modelPath=make_model(ethanol)).createMixedSystem(topology, classical, INSIDE)
    molecules = context_of(system, in_argon).getMolecules()
    assert sorted(map(len, molecules)) == [1, 1, 1, 9]


def test_the_model_path_is_needed():
    with pytest.raises(ConfigError, match=r"MLPotential\('piwsl'\) needs a model: .*modelPath="):
        MLPotential("piwsl")


def test_arguments_that_are_no_arguments(ethanol, in_argon, make_model):
    potential = MLPotential("piwsl", modelPath=make_model(ethanol))
    with pytest.raises(ConfigError, match=r"MLPotential\('piwsl'\) has no argument 'model'"):
        MLPotential("piwsl", modelPath="model.pt", model="model.pt")
    with pytest.raises(ConfigError, match="createSystem has no argument 'temperature' for piwsl: use device, kind"):
        potential.createSystem(topology_of(ethanol), temperature=300)
    with pytest.raises(ConfigError, match="createMixedSystem has no argument 'precison'"):
        potential.createMixedSystem(topology_of(in_argon), openmm.System(), INSIDE, precison="double")


def test_arguments_of_the_embedding_pass(in_argon, ethanol, make_model):
    topology = topology_of(in_argon)
    classical = force_field_system(topology, openmm.NonbondedForce.NoCutoff)
    potential = MLPotential("piwsl", modelPath=make_model(ethanol))
    mixed = potential.createMixedSystem(topology, classical, INSIDE, linkAtomDistances=[])
    assert mixed.getNumParticles() == len(in_argon)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"kind": "Torch"}, "'Torch'"), ({"precision": "mixed"}, "'mixed'"), ({"device": "gpu"}, "'gpu'")],
)
def test_values_that_are_not_known(options, message, ethanol, make_model):
    with pytest.raises(ConfigError, match=message):
        MLPotential("piwsl", modelPath=make_model(ethanol), **options).createSystem(topology_of(ethanol))


def test_files_and_atoms_that_do_not_fit(ethanol, make_model, tmp_path):
    with pytest.raises(ModelFileError, match=r"gone\.pt: no such file"):
        MLPotential("piwsl", modelPath=tmp_path / "gone.pt").createSystem(topology_of(ethanol))
    potential = MLPotential("piwsl", modelPath=make_model(ethanol))
    with pytest.raises(ElementError, match="the order of the atoms differs"):
        potential.createSystem(topology_of(ethanol[::-1]))
    topology = topology_of(ethanol)
    residue = next(topology.residues())
    topology.addAtom("EP", None, residue)
    with pytest.raises(ElementError, match=r"particle 9 \(EP of residue MOL\) has no element"):
        potential.createSystem(topology)


def test_a_bond_over_the_border_is_capped_with_hydrogen(ethanol, make_model):
    """The potential of methane acts on the methyl group of ethanol and a hydrogen in place of the rest."""
    methane, methyl, carbon = molecule("CH4"), [0, 6, 7, 8], 1
    model = make_model(methane)
    topology = topology_of(ethanol)
    classical = force_field_system(topology, openmm.NonbondedForce.NoCutoff)
    system = MLPotential("piwsl", modelPath=model).createMixedSystem(topology, classical, methyl, forceGroup=3)
    assert system.getNumParticles() == 10
    context = context_of(system, ethanol + Atoms("H", [(0, 0, 0)]))
    context.computeVirtualSites()
    placed = context.getState(positions=True).getPositions(asNumpy=True)._value * 10
    assert np.linalg.norm(placed[9] - placed[0]) == pytest.approx(1.07)

    methane.positions = placed[[*methyl, 9]]
    methane.calc = PiwslCalculator(model)
    state = context.getState(energy=True, forces=True, groups={3})
    assert state.getPotentialEnergy()._value * KJ_PER_MOL == pytest.approx(methane.get_potential_energy(), abs=1e-9)
    # The pull on the cap is passed on to both carbons.
    forces = state.getForces(asNumpy=True)._value * KJ_PER_MOL / 10
    assert np.abs(forces[carbon]).max() > 1e-3
    assert forces[:9].sum(0) == pytest.approx(0.0, abs=1e-9)
