"""Labels by real PySCF."""

import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import CalculationFailed

from piwsl.data.frames import Frame
from piwsl.data.labeling.calculators import reference_calculator
from piwsl.data.labeling.single_point import Failure, SinglePoint, single_point
from piwsl.errors import ConfigError, MissingDependencyError
from piwsl.units import HARTREE
from tests.support.molecules import frame


def energy(method, atoms, options=None):
    copy = atoms.copy()
    copy.calc = reference_calculator(method, options)
    return copy.get_potential_energy()


def slope(method, atoms, direction, options=None, step=2e-3):
    """Derivative of the energy along a direction by central differences, eV/angstrom."""
    ends = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions += sign * step * direction
        ends.append(energy(method, moved, options))
    return (ends[0] - ends[1]) / (2 * step)


def direction_of(atoms, seed=0):
    direction = np.random.default_rng(seed).normal(size=atoms.positions.shape)
    return direction / np.linalg.norm(direction)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "name", "options"),
    [
        ("pyscf:pbe/sto-3g", "H2O", {"conv_tol": 1e-11}),
        ("pyscf:hf/sto-3g", "OH", {"conv_tol": 1e-11}),  # a radical: unrestricted
        ("pyscf:mp2/sto-3g", "LiH", {}),
        ("pyscf:ccsd/sto-3g", "LiH", {}),
        ("pyscf:CCSD(T)/STO-3G", "H2O", {}),
        ("pyscf:ccsd(t)/6-31g", "LiH", {}),
        ("pyscf:ccsd/sto-3g", "OH", {}),
    ],
)
def test_forces_are_the_slope_of_the_energy(method, name, options):
    atoms = molecule(name)
    atoms.rattle(0.05, seed=1)
    direction = direction_of(atoms)
    atoms.calc = reference_calculator(method, options)
    forces = atoms.get_forces()
    # Without the response of the grid the forces of pbe are off by 2.5e-4 eV/A.
    assert -(forces * direction).sum() == pytest.approx(slope(method, atoms, direction, options), abs=1e-4)
    assert np.abs(forces.sum(0)).max() < 1e-8
    assert np.abs(forces).max() > 0.1


def test_without_the_response_of_the_grid_the_forces_do_not_add_up():
    options = {"grid_response": False, "grid_level": 1}
    result = single_point("pyscf:pbe/sto-3g", options, frame("H2O"))
    assert np.abs(result.forces.sum(0)).max() > 1e-5


@pytest.mark.slow
def test_known_energies():
    """Hartree-Fock of water in STO-3G at the geometry of Crawford's programming projects: -74.942079928 hartree."""
    bohr = 0.52917721092
    positions = [
        [0.0, -0.143225816552, 0.0],
        [1.638036840407, 1.136548822547, 0.0],
        [-1.638036840407, 1.136548822547, 0.0],
    ]
    water = Atoms("OHH", np.array(positions) * bohr)
    assert energy("pyscf:hf/sto-3g", water) / HARTREE == pytest.approx(-74.942079928, abs=1e-6)
    assert energy("pyscf:mp2/sto-3g", water) / HARTREE == pytest.approx(-74.942079928 - 0.049149636120, abs=1e-6)
    assert energy("pyscf:ccsd/sto-3g", water) / HARTREE == pytest.approx(-74.942079928 - 0.070680088376, abs=1e-6)
    triples = -74.942079928 - 0.070680088376 - 0.000099877272
    assert energy("pyscf:ccsd(t)/sto-3g", water) / HARTREE == pytest.approx(triples, abs=1e-6)


def test_charge_and_spin():
    water = molecule("H2O")
    neutral = energy("pyscf:hf/sto-3g", water)
    cation = energy("pyscf:hf/sto-3g", water, {"charge": 1})  # one unpaired electron, found by itself
    triplet = energy("pyscf:hf/sto-3g", water, {"spin": 2})
    assert 5 < cation - neutral < 15
    assert triplet > neutral + 1


def test_what_does_not_converge_is_no_result():
    atoms = molecule("H2O")
    atoms.calc = reference_calculator("pyscf:hf/sto-3g", {"max_cycle": 1})
    with pytest.raises(CalculationFailed, match="self-consistent field did not converge in 1 cycles"):
        atoms.get_potential_energy()
    atoms.calc = reference_calculator("pyscf:ccsd/sto-3g", {"max_cycle": 5})
    with pytest.raises(CalculationFailed, match="CCSD did not converge"):
        atoms.get_potential_energy()
    assert "energy" not in atoms.calc.results


def test_a_second_order_solver_takes_over():
    """Within three cycles the usual solver does not get there; the second-order one, from where it stopped, does."""
    atoms = molecule("H2O")
    few = energy("pyscf:hf/sto-3g", atoms, {"max_cycle": 3})
    assert few == pytest.approx(energy("pyscf:hf/sto-3g", atoms), abs=1e-6)


@pytest.mark.parametrize(
    ("structure", "method", "options", "reason"),
    [
        (
            Frame.from_atoms(Atoms("H2", [[0, 0, 0], [0, 0, 0.8]], cell=[5, 5, 5], pbc=True)),
            "hf/sto-3g",
            {},
            "periodic",
        ),
        (frame("H2O"), "hf/no-such-basis", {}, "Unknown basis"),
        (frame("OH"), "ccsd(t)/sto-3g", {}, "wrong for unpaired electrons"),
        (frame("H2O"), "hf/sto-3g", {"spin": 1}, "Electron number 10 and spin 1 are not consistent"),
    ],
)
def test_structures_that_cannot_be_labeled(structure, method, options, reason):
    result = single_point(f"pyscf:{method}", options, structure)
    assert isinstance(result, Failure)
    assert reason in result.reason
    assert "\n" not in result.reason


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("pyscf:no-such-functional/sto-3g", {}, "no functional 'no-such-functional'"),
        ("pyscf:pbe", {}, "write pyscf:FUNCTIONAL/BASIS"),
        ("pyscf:/sto-3g", {}, "write pyscf:FUNCTIONAL/BASIS"),
        ("pyscf:pbe/sto-3g", {"grid": 3}, "has no option grid: use charge"),
    ],
)
def test_bad_methods(method, options, message):
    with pytest.raises(ConfigError, match=message):
        reference_calculator(method, options)


def test_without_pyscf(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyscf.dft", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'piwsl\[pyscf\]'"):
        reference_calculator("pyscf:pbe/sto-3g")


def test_a_single_point_of_water():
    result = single_point("pyscf:pbe/sto-3g", {}, frame("H2O"))
    assert isinstance(result, SinglePoint)
    assert result.energy == pytest.approx(-75.22 * HARTREE, abs=0.5)
    assert result.stress is None


def test_energies_without_forces_are_the_same_and_exist_for_radicals():
    pytest.importorskip("pyscf")
    for method, name in (("pyscf:ccsd(t)/sto-3g", "LiH"), ("pyscf:mp2/sto-3g", "LiH"), ("pyscf:hf/sto-3g", "OH")):
        atoms = molecule(name)
        atoms.calc = reference_calculator(method, {})
        bare = reference_calculator(method, {"forces": False})
        energy = atoms.get_potential_energy()
        atoms.calc = bare
        assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-6)
        assert "forces" not in bare.results
    atoms = molecule("OH")
    atoms.calc = reference_calculator("pyscf:ccsd(t)/sto-3g", {"forces": False})
    assert np.isfinite(atoms.get_potential_energy())
