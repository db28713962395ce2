import logging
import shutil
import subprocess
import sys

import numpy as np
import openmm
import pytest
from ase.build import molecule
from openmm import app, unit

from piwsl.errors import ConfigError, DataError, ElementError, EngineError
from piwsl.export.evaluation import bind
from piwsl.export.exported_file import load_exported
from piwsl.interfaces.openmm import openmm_force, read_system
from piwsl.interfaces.openmm.force import ForceCallable
from piwsl.units import KJ_PER_MOL, NANOMETER
from tests.support.domains import with_domain
from tests.support.molecules import oxide

KINDS = ["torch", "python"]
FORCE = KJ_PER_MOL / NANOMETER


@pytest.fixture(scope="module")
def files(exports, tmp_path_factory):
    """Copy the files of a random network in float64: trained, for ethanol, for any structure, for a cell."""
    folder = tmp_path_factory.mktemp("forces")
    for name, path in (
        ("model.pt", exports.trained()),
        ("openmm.pt", exports.openmm()),
        ("general.pt", exports.general()),
        ("cell.pt", exports.cell()),
    ):
        shutil.copy(path, folder / name)
    return folder


@pytest.fixture
def ethanol():
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=1)
    return atoms


def evaluate(system, positions, box=None, group=-1):
    """Energy (eV) and forces (eV/angstrom) of a System at positions in angstrom."""
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    if box is not None:
        context.setPeriodicBoxVectors(*(box / NANOMETER))
    context.setPositions(positions / NANOMETER)
    state = context.getState(energy=True, forces=True, groups=group)
    forces = state.getForces(asNumpy=True)._value * FORCE
    return state.getPotentialEnergy()._value * KJ_PER_MOL, forces


def system_of(masses, *forces):
    system = openmm.System()
    for mass in masses:
        system.addParticle(mass)
    for force in forces:
        system.addForce(force)
    return system


def topology_of(numbers, box=None):
    topology = app.Topology()
    residue = topology.addResidue("MOL", topology.addChain())
    for number in numbers:
        topology.addAtom("X", app.Element.getByAtomicNumber(int(number)), residue)
    if box is not None:
        topology.setPeriodicBoxVectors(box / NANOMETER * unit.nanometer)
    return topology


@pytest.mark.parametrize("kind", [pytest.param("torch", marks=pytest.mark.torchforce), "python"])
def test_it_takes_a_topology_or_species(files, ethanol, kind):
    expected = bind(load_exported(files / "openmm.pt"))(ethanol.positions)
    for who in (topology_of(ethanol.numbers), ethanol.numbers, list(ethanol.numbers)):
        force = openmm_force(files / "openmm.pt", who, kind)
        assert type(force).__name__ == {"torch": "TorchForce", "python": "PythonForce"}[kind]
        energy, forces = evaluate(system_of(ethanol.get_masses(), force), ethanol.positions)
        assert energy == pytest.approx(expected.energy, abs=1e-9)
        assert np.abs(forces - expected.forces).max() < 1e-9


@pytest.mark.parametrize("kind", [pytest.param("torch", marks=pytest.mark.torchforce), "python"])
def test_it_acts_on_some_particles_of_a_system(files, ethanol, kind):
    expected = bind(load_exported(files / "openmm.pt"))(ethanol.positions)
    rng = np.random.default_rng(0)
    positions = rng.uniform(0.0, 5.0, size=(14, 3))
    atoms = [3, 4, 5, 6, 7, 8, 9, 12, 11]
    positions[atoms] = ethanol.positions
    numbers = np.full(14, 18)
    numbers[atoms] = ethanol.numbers
    force = openmm_force(files / "openmm.pt", numbers, kind, atoms=atoms)
    energy, forces = evaluate(system_of(np.ones(14), force), positions)
    assert energy == pytest.approx(expected.energy, abs=1e-9)
    assert np.abs(forces[atoms] - expected.forces).max() < 1e-9
    others = np.setdiff1d(np.arange(14), atoms)
    assert np.all(forces[others] == 0.0)
    with pytest.raises(ElementError, match="the order of the atoms differs"):
        openmm_force(files / "openmm.pt", numbers, kind, atoms=atoms[::-1])


@pytest.mark.parametrize(
    ("atoms", "problem"),
    [
        (range(-9, 0), "atoms contains -9, but the indices of the 18 particles are 0 to 17"),
        ([*range(8), 30], "atoms contains 30, but the indices of the 18 particles are 0 to 17"),
        ([*range(8), 3], "atoms contains 3 more than once"),
        ([0.5, *range(1, 9)], r"atoms contains '0\.5'"),
        (np.arange(18) < 9, "atoms contains 'np.True_'|atoms contains 'True'"),
        (["C1"], "atoms contains 'C1'"),
        ([], "atoms is empty"),
    ],
)
def test_atoms_are_different_indices_of_particles(files, ethanol, atoms, problem):
    """Negative indices once ended the process, and an index that occurred twice gave NaN."""
    with pytest.raises(ConfigError, match=problem):
        openmm_force(files / "openmm.pt", [*ethanol.numbers, *ethanol.numbers], "python", atoms=atoms)


@pytest.mark.parametrize("kind", [pytest.param("torch", marks=pytest.mark.torchforce), "python"])
def test_a_system_without_the_particles_of_the_force(files, ethanol, kind):
    """OpenMM itself would read and write beyond the arrays of such a System."""
    atoms = range(9, 18)
    force = openmm_force(files / "openmm.pt", [*ethanol.numbers, *ethanol.numbers], kind, atoms=atoms)
    with pytest.raises(openmm.OpenMMException, match="the System has 9 particles, but the force acts on particle 17"):
        evaluate(system_of(np.ones(9), force), ethanol.positions)


@pytest.mark.parametrize("wrong", [6.5, -1, 119, float("nan"), True, "C"])
def test_atomic_numbers_are_integers(files, wrong):
    with pytest.raises(ElementError, match=r"particle 1 has the atomic number .*: pass one integer from 1 to 118"):
        openmm_force(files / "general.pt", [1, wrong, 8], "python")


def test_copies_of_a_molecule_lie_within_its_training_data(exports, ethanol, tmp_path):
    model = with_domain(exports.openmm(copies=2), tmp_path / "copies.pt", ethanol)
    openmm_force(model, [*ethanol.numbers, *ethanol.numbers], "python", strict=True)
    seen_others = with_domain(exports.openmm(copies=2), tmp_path / "others.pt", molecule("CH3OH"))
    with pytest.raises(DataError, match="the structure is C2H6O, but the model was trained only on CH4O"):
        openmm_force(seen_others, [*ethanol.numbers, *ethanol.numbers], "python", strict=True)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param("torch", "openmm", marks=pytest.mark.torchforce),
        ("python", "openmm"),
        pytest.param("python", "general", marks=pytest.mark.slow),
    ],
)
def test_a_molecule_that_the_box_cuts(files, ethanol, kind, name):
    expected = bind(load_exported(files / "openmm.pt"))(ethanol.positions)
    box = np.array([[9.0, 0.0, 0.0], [2.0, 9.5, 0.0], [-1.0, 3.0, 9.2]])
    cut = ethanol.positions - np.floor(ethanol.positions @ np.linalg.inv(box) + 0.1) @ box
    force = openmm_force(files / f"{name}.pt", topology_of(ethanol.numbers, box), kind)
    system = system_of(ethanol.get_masses(), force)
    assert system.usesPeriodicBoundaryConditions()
    energy, forces = evaluate(system, cut, box)
    assert energy == pytest.approx(expected.energy, abs=1e-8)
    assert np.abs(forces - expected.forces).max() < 1e-8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name"),
    [pytest.param("torch", "cell", marks=pytest.mark.torchforce), ("python", "cell"), ("python", "general")],
)
def test_a_cell_smaller_than_the_cutoff_whose_box_changes(files, kind, name):
    made = oxide()
    force = openmm_force(files / f"{name}.pt", topology_of(made.species, made.cell), kind)
    system = system_of(np.ones(3), force)
    direct = bind(load_exported(files / "general.pt"), made.species, made.pbc)
    energies = []
    for scale in (1.0, 1.03):
        energy, forces = evaluate(system, scale * made.positions, scale * made.cell)
        expected = direct(scale * made.positions, scale * made.cell)
        assert energy == pytest.approx(expected.energy, abs=1e-8)
        assert np.abs(forces - expected.forces).max() < 1e-8
        energies.append(energy)
    assert abs(energies[1] - energies[0]) > 1e-3


@pytest.mark.parametrize(
    ("kind", "name"), [pytest.param("torch", "openmm", marks=pytest.mark.torchforce), ("python", "general")]
)
def test_a_system_whose_box_was_never_set(files, ethanol, kind, name):
    box = 30.0 * np.eye(3)
    system = system_of(
        ethanol.get_masses(), openmm_force(files / f"{name}.pt", topology_of(ethanol.numbers, box), kind)
    )
    with pytest.raises(openmm.OpenMMException, match="the System has OpenMM's default box of 2 nm"):
        evaluate(system, ethanol.positions)
    expected = evaluate(system, ethanol.positions, box)[0]
    system.setDefaultPeriodicBoxVectors(*(box / NANOMETER))
    assert evaluate(system, ethanol.positions)[0] == expected
    cube = topology_of(ethanol.numbers, 20.0 * np.eye(3))  # happens to be the default box
    system = system_of(ethanol.get_masses(), openmm_force(files / f"{name}.pt", cube, kind))
    assert evaluate(system, ethanol.positions)[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.torchforce
def test_a_box_too_narrow_for_the_molecule_form(files, ethanol):
    narrow = 7.0 * np.eye(3)
    for kind in KINDS:
        with pytest.raises(EngineError, match=r"box is 7\.0 angstrom wide"):
            openmm_force(files / "openmm.pt", topology_of(ethanol.numbers, narrow), kind)
    python, torch = (openmm_force(files / "openmm.pt", ethanol.numbers, kind, periodic=True) for kind in KINDS[::-1])
    with pytest.raises(openmm.OpenMMException, match=r"box is 7\.0 angstrom wide"):
        evaluate(system_of(ethanol.get_masses(), python), ethanol.positions, narrow)
    # An error inside TorchForce would end the process: it gets NaN.
    assert np.isnan(evaluate(system_of(ethanol.get_masses(), torch), ethanol.positions, narrow)[0])


@pytest.mark.slow
@pytest.mark.torchforce
def test_several_forces_and_systems_at_once(files, ethanol):
    single = evaluate(
        system_of(ethanol.get_masses(), openmm_force(files / "openmm.pt", ethanol.numbers)), ethanol.positions
    )
    forces = [openmm_force(files / "openmm.pt", ethanol.numbers, kind) for kind in ("torch", "python", "torch")]
    forces[1].setForceGroup(3)
    system = system_of(ethanol.get_masses(), *forces)
    assert evaluate(system, ethanol.positions)[0] == pytest.approx(3 * single[0], rel=1e-12)
    assert evaluate(system, ethanol.positions, group={3})[0] == pytest.approx(single[0], rel=1e-12)


@pytest.mark.slow
@pytest.mark.torchforce
def test_the_choice_and_its_reason_are_logged(exports, ethanol, caplog, tmp_path):
    caplog.set_level(logging.INFO, "piwsl")
    # New files, since a file is verified once a process.
    openmm_force(shutil.copy(exports.openmm(), tmp_path / "openmm.pt"), ethanol.numbers)
    openmm_force(shutil.copy(exports.general(), tmp_path / "general.pt"), ethanol.numbers)
    text = caplog.text
    assert "TorchForce: works on Reference" in text
    assert "PythonForce: general.pt has the target general" in text
    assert "differences from the stored eager results: energy against eager" in text


@pytest.mark.torchforce
@pytest.mark.slow
def test_a_trained_file_is_exported_on_the_way(files, ethanol):
    expected = bind(load_exported(files / "openmm.pt"))(ethanol.positions).energy
    force = openmm_force(files / "model.pt", ethanol.numbers)
    assert type(force).__name__ == "TorchForce"
    energy, _ = evaluate(system_of(ethanol.get_masses(), force), ethanol.positions)
    assert energy == pytest.approx(expected, abs=1e-8)
    single = openmm_force(files / "model.pt", ethanol.numbers, precision="single")
    energy, _ = evaluate(system_of(ethanol.get_masses(), single), ethanol.positions)
    assert energy == pytest.approx(expected, abs=1e-3)
    assert energy != pytest.approx(expected, abs=1e-8)


@pytest.mark.slow
@pytest.mark.torchforce
def test_what_does_not_go_together(files, ethanol):
    with pytest.raises(ConfigError, match="precision='single' requires float32: export it again with dtype='float32'"):
        openmm_force(files / "openmm.pt", ethanol.numbers, precision="single")
    with pytest.raises(ConfigError, match="choose single or double"):
        openmm_force(files / "openmm.pt", ethanol.numbers, precision="half")
    with pytest.raises(ConfigError, match="choose auto, torch or python"):
        openmm_force(files / "openmm.pt", ethanol.numbers, kind="cuda")
    with pytest.raises(EngineError, match="has the target general"):
        openmm_force(files / "general.pt", ethanol.numbers, kind="torch")
    with pytest.raises(ElementError, match="not trained on Cl"):
        openmm_force(files / "general.pt", [17, 1])
    with pytest.raises(ConfigError, match="CUDA graphs need a GPU"):
        openmm_force(files / "openmm.pt", ethanol.numbers, device="cpu", cuda_graphs=True)


def test_an_error_in_the_callback_keeps_its_text_and_traceback(files, ethanol, monkeypatch):
    force = openmm_force(files / "openmm.pt", ethanol.numbers, kind="python")
    system = system_of(ethanol.get_masses(), force)

    def fails(self, *arguments):
        raise ZeroDivisionError("the very text")

    # A verified file raises nothing but PiwslErrors, whose tracebacks are left out.
    monkeypatch.setattr("piwsl.export.evaluation.BoundMolecule.__call__", fails)
    with pytest.raises(openmm.OpenMMException, match=r"(?s)Traceback.*force\.py.*ZeroDivisionError: the very text"):
        evaluate(system, ethanol.positions)


SCRIPT = """
import sys
import numpy as np
import openmm
from piwsl.interfaces.openmm import read_system
system = read_system(open(sys.argv[1]).read())
context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
context.setPositions(np.load(sys.argv[2]) / 10)
print(context.getState(energy=True).getPotentialEnergy()._value)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", [pytest.param("torch", marks=pytest.mark.torchforce), "python"])
def test_a_serialized_system_lives_on_in_a_new_process(files, ethanol, tmp_path, kind):
    numbers = np.append(ethanol.numbers, 18)
    positions = np.vstack([ethanol.positions, [9.0, 9.0, 9.0]])
    force = openmm_force(files / "openmm.pt", numbers, kind, atoms=list(range(9)))
    force.setForceGroup(2)
    system = system_of(np.ones(10), openmm.CMMotionRemover(), force)
    energy = evaluate(system, positions)[0] / KJ_PER_MOL
    text = openmm.XmlSerializer.serialize(system)
    (tmp_path / "system.xml").write_text(text)
    np.save(tmp_path / "positions.npy", positions)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "system.xml"), str(tmp_path / "positions.npy")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) == pytest.approx(energy, abs=1e-6)
    again = read_system(text)
    assert [one.getForceGroup() for one in again.getForces()] == [0, 2]


def test_texts_that_are_no_system():
    for text in ("", "<System>", openmm.XmlSerializer.serialize(openmm.VerletIntegrator(0.001))):
        with pytest.raises(DataError, match="not a serialized OpenMM System"):
            read_system(text)


def test_a_callable_travels_twice(files, ethanol):
    import pickle

    potential = load_exported(files / "openmm.pt")
    once = pickle.loads(pickle.dumps(ForceCallable(potential, ethanol.numbers, (False,) * 3)))
    twice = pickle.loads(pickle.dumps(once))
    assert twice._bound(ethanol.positions).energy == pytest.approx(bind(potential)(ethanol.positions).energy, abs=1e-10)
