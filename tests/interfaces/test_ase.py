"""The calculator in ASE's own programmes: optimizers, cell filters, dynamics, and what they change between calls."""

import copy
import pickle

import numpy as np
import pytest
import torch
from ase import units
from ase.build import bulk
from ase.calculators.fd import calculate_numerical_stress
from ase.filters import FrechetCellFilter
from ase.md.verlet import VelocityVerlet
from ase.mep import NEB
from ase.optimize import BFGS, FIRE
from scipy.optimize import minimize_scalar

from piwsl import PiwslCalculator
from piwsl.errors import ConfigError, DataError
from piwsl.export.exported_file import load_exported
from piwsl.md.structure import thermal_velocities
from tests.support.argon import argon_model
from tests.support.domains import with_domain
from tests.support.molecules import oxide


@pytest.fixture
def network(exports):
    return exports.general()


@pytest.fixture(scope="module")
def argon(tmp_path_factory):
    return argon_model(tmp_path_factory.mktemp("argon") / "argon.pt")


@pytest.mark.parametrize("form", ["openmm", "general"])
@pytest.mark.parametrize("optimizer", [BFGS, FIRE])
def test_optimizers_find_the_minimum(optimizer, form, ethanol, make_model):
    lengths = ethanol.get_all_distances()
    calculator = PiwslCalculator(make_model(ethanol, form=form))
    ethanol.rattle(0.05, seed=1)
    ethanol.calc = calculator
    assert ethanol.get_potential_energy() > 0.1
    assert optimizer(ethanol, logfile=None).run(fmax=1e-4, steps=300)
    # Springs are at rest in the structure that they were made for.
    assert ethanol.get_potential_energy() == pytest.approx(0.0, abs=1e-7)
    assert np.abs(ethanol.get_all_distances() - lengths)[lengths < 2.7].max() < 1e-4


@pytest.mark.slow
def test_a_cell_relaxes_to_its_lattice_constant(argon):
    def energy(edge):
        crystal = bulk("Ar", "fcc", a=edge, cubic=True)
        crystal.calc = PiwslCalculator(argon)
        return crystal.get_potential_energy()

    best = minimize_scalar(energy, bounds=(5.0, 5.8), method="bounded", options={"xatol": 1e-7})
    crystal = bulk("Ar", "fcc", a=5.5, cubic=True)
    crystal.set_cell(crystal.cell.array @ [[1.02, 0.03, 0.0], [0.0, 0.99, 0.02], [0.0, 0.0, 1.01]], True)
    crystal.rattle(0.05, seed=1)
    crystal.calc = PiwslCalculator(argon)
    assert np.abs(crystal.get_stress()).max() > 3e-4
    assert BFGS(FrechetCellFilter(crystal), logfile=None).run(fmax=1e-5, steps=300)
    assert np.abs(crystal.get_stress()).max() < 1e-6
    assert np.abs(crystal.get_forces()).max() < 1e-5
    assert crystal.cell.cellpar() == pytest.approx([best.x] * 3 + [90.0] * 3, abs=1e-3)
    assert crystal.get_potential_energy() == pytest.approx(best.fun, abs=1e-6)


@pytest.mark.slow
def test_stress_is_the_derivative_by_strain_in_the_order_of_ase(network):
    atoms = oxide().atoms()
    atoms.calc = PiwslCalculator(network)
    stress = atoms.get_stress()
    numerical = calculate_numerical_stress(atoms, eps=1e-5)
    assert np.ptp(stress) > 5e-3
    assert np.abs(stress - numerical).max() < 1e-6


@pytest.mark.slow
def test_the_energy_is_conserved_in_a_crystal(argon):
    crystal = bulk("Ar", "fcc", a=5.4, cubic=True).repeat((2, 2, 1))
    crystal.calc = PiwslCalculator(argon)
    crystal.set_velocities(thermal_velocities(crystal, 80, np.random.default_rng(1)) / units.fs)
    totals = []
    dynamics = VelocityVerlet(crystal, 4.0 * units.fs)
    dynamics.attach(lambda: totals.append(crystal.get_total_energy()))
    dynamics.run(400)
    kinetic = crystal.get_kinetic_energy()
    assert kinetic > 0.05
    assert np.abs(np.array(totals) - totals[0]).max() < 2e-3 * kinetic
    # Atoms have moved so far that neighbors were searched again.
    assert crystal.calc._bound.neighbors.searches > 2


def changes_position(atoms):
    atoms.positions[0, 1] += 0.05


def changes_cell(atoms):
    atoms.cell[0, 0] *= 1.02


def changes_species(atoms):
    atoms.numbers[:2] = atoms.numbers[1::-1]


def changes_pbc(atoms):
    atoms.pbc = [True, True, False]


def changes_number(atoms):
    del atoms[0]


CHANGES = [changes_position, changes_cell, changes_species, changes_pbc, changes_number]


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_is_seen(change, network):
    """After every change the results are those of a new calculator, also back where they were before."""
    atoms, before = oxide().atoms(), oxide().atoms()
    atoms.calc = PiwslCalculator(network)
    first = atoms.get_potential_energy()
    change(atoms)
    fresh = atoms.copy()
    fresh.calc = PiwslCalculator(network)
    assert abs(fresh.get_potential_energy() - first) > 1e-4
    assert atoms.get_potential_energy() == pytest.approx(fresh.get_potential_energy(), abs=1e-10)
    assert np.allclose(atoms.get_forces(), fresh.get_forces(), rtol=0, atol=1e-10)
    if all(atoms.pbc):
        assert np.allclose(atoms.get_stress(), fresh.get_stress(), rtol=0, atol=1e-10)
    before.calc = atoms.calc
    assert before.get_potential_energy() == pytest.approx(first, abs=1e-10)


@pytest.mark.parametrize("change", CHANGES)
def test_old_results_are_not_given_for_changed_atoms(change, network):
    """ASE asks for what is stored without a calculation, and must get nothing."""
    atoms = oxide().atoms()
    calculator = atoms.calc = PiwslCalculator(network)
    atoms.get_forces()
    assert calculator.get_property("energy", atoms, allow_calculation=False) is not None
    change(atoms)
    assert calculator.get_property("energy", atoms, allow_calculation=False) is None


@pytest.mark.parametrize("form", ["openmm", "general"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_positions_that_are_not_finite_are_refused(value, form, ethanol, make_model):
    """Atoms without neighbors once looked like a structure at rest, and an optimizer had converged."""
    ethanol.calc = PiwslCalculator(make_model(ethanol, form=form))
    ethanol.positions[3, 1] = value
    with pytest.raises(DataError, match="the position of atom H3 is not a finite number"):
        FIRE(ethanol, logfile=None).run(fmax=0.05, steps=5)


@pytest.mark.parametrize(
    ("vectors", "problem"),
    [
        (np.full((3, 3), np.nan), "the cell contains numbers that are not finite"),
        (np.zeros((3, 3)), "without a cell"),
        ([[5.5, 0, 0], [0, 5.5, 0], [5.5, 5.5, 0]], "the cell is flat"),
    ],
)
def test_cells_that_are_none_are_refused(vectors, problem, argon):
    crystal = bulk("Ar", "fcc", a=5.5, cubic=True)
    crystal.calc = PiwslCalculator(argon)
    assert np.isfinite(crystal.get_potential_energy())
    crystal.set_cell(vectors)
    with pytest.raises(DataError, match=problem):
        crystal.get_potential_energy()


def test_a_general_file_gives_no_finite_energy_for_positions_that_are_not(network, ethanol):
    program = load_exported(network).program
    species, positions = torch.tensor(ethanol.numbers), torch.tensor(ethanol.positions)
    assert program(species, positions)["energy"].isfinite()
    positions[3, 1] = float("inf")
    results = program(species, positions)
    assert results["energy"].isnan()
    assert results["forces"][3].isnan().any()


@pytest.mark.parametrize("value", [1e7, 1e20, 1e300])
@pytest.mark.parametrize("form", ["openmm", "general"])
def test_positions_and_cells_without_sense_are_refused(value, form, ethanol, make_model):
    calculator = PiwslCalculator(make_model(ethanol, form=form))
    far, wide = ethanol.copy(), ethanol.copy()
    far.positions[3, 1] = value
    wide.set_cell([value] * 3)
    wide.pbc = True
    with pytest.raises(DataError, match=r"atom H3 is more than 1e\+06 angstrom away"):
        calculator.get_potential_energy(far)
    with pytest.raises(DataError, match=r"a lattice vector is longer than 1e\+06 angstrom"):
        calculator.get_potential_energy(wide)


def squeezed(atoms, distance=0.6):
    """The structure with its atoms O2 and H3 at this distance."""
    close = atoms.copy()
    close.set_distance(2, 3, distance, fix=0)
    return close


def test_every_structure_is_compared_with_the_shortest_distances(ethanol, make_model, tmp_path, caplog):
    """Not only the first of its composition."""
    model = with_domain(make_model(ethanol), tmp_path / "seen.pt", ethanol)
    strict = PiwslCalculator(model, strict=True)
    energy = strict.get_potential_energy(ethanol)
    with pytest.raises(DataError, match=r"atoms O2 and H3 are 0\.60 angstrom apart, but in training H-O were 0\.9"):
        strict.get_potential_energy(squeezed(ethanol))
    assert strict.get_potential_energy(ethanol) == energy
    calculator = PiwslCalculator(model)
    calculator.get_potential_energy(ethanol)
    for distance in (0.6, 0.5, 0.55):
        assert calculator.get_potential_energy(squeezed(ethanol, distance)) > 0.1
    assert caplog.text.count("in training H-O were") == 1
    closer = squeezed(ethanol)
    closer.set_distance(0, 1, 0.9, fix=1)
    calculator.get_potential_energy(closer)
    assert caplog.text.count("in training C-C were") == 1
    assert strict.get_potential_energy(ethanol) == energy
    again = pickle.loads(pickle.dumps(strict))
    again.get_potential_energy(ethanol)
    with pytest.raises(DataError, match=r"atoms O2 and H3 are 0\.60"):
        again.get_potential_energy(squeezed(ethanol))


def test_copies_of_a_molecule_lie_within_its_training_data(exports, ethanol, tmp_path):
    model = with_domain(exports.openmm(copies=2), tmp_path / "copies.pt", ethanol)
    calculator = PiwslCalculator(model, strict=True)
    assert np.isfinite(calculator.get_potential_energy(ethanol + ethanol))
    with pytest.raises(DataError, match=r"atoms O2 and H3 are 0\.60 angstrom apart"):
        calculator.get_potential_energy(ethanol + squeezed(ethanol))


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_are_calculators_of_their_own(make, network, ethanol):
    calculator = PiwslCalculator(network)
    energy = calculator.get_potential_energy(ethanol)
    again = make(calculator)
    moved = ethanol.copy()
    moved.positions[0] += 0.1
    assert again.get_potential_energy(ethanol) == energy
    assert again.get_potential_energy(moved) != energy
    assert calculator.results["energy"] == energy
    assert again.get_property is not calculator.get_property
    assert again.get_property.__self__ is again


def test_a_band_of_copies(network, ethanol):
    last = ethanol.copy()
    last.positions[3] += 0.2
    images = [ethanol, ethanol.copy(), last]
    images[1].calc = PiwslCalculator(network)
    for image in (images[0], images[2]):
        image.calc = copy.deepcopy(images[1].calc)
    band = NEB(images, method="improvedtangent")
    band.interpolate()
    assert np.isfinite(band.get_forces()).all()


def test_unknown_parameters_are_refused(network):
    with pytest.raises(ConfigError, match="PiwslCalculator has no parameter chrage: pass model, device"):
        PiwslCalculator(network, chrage=1)
    calculator = PiwslCalculator(network, label="run/a", directory=".")
    with pytest.raises(ConfigError, match="no parameter charge"):
        calculator.set(charge=1)
