"""Laws that a run must keep, whichever engine makes it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from scipy.stats import kstest

from piwsl.export.exported_file import load_exported
from piwsl.interfaces.openmm.force import OpenMMForce, python_force
from piwsl.md.engines.ase import ASEEngine
from piwsl.md.engines.base import Engine, kinetic_energy, temperature
from piwsl.md.engines.openmm import OpenMMEngine
from piwsl.md.protocol import MDProtocol
from piwsl.md.structure import degrees_of_freedom, thermal_velocities
from piwsl.units import BOLTZMANN
from tests.support.springs import springs_model

pytestmark = pytest.mark.slow

ENGINES = {"openmm": OpenMMEngine, "ase": ASEEngine}


@pytest.fixture
def atoms() -> Atoms:
    return molecule("CH3CH2OH")


def started(kind: str, model: Path, atoms: Atoms, protocol: MDProtocol) -> Engine:
    engine = ENGINES[kind](model, atoms, protocol)
    engine.start(thermal_velocities(atoms, protocol.temperature.start, np.random.default_rng(protocol.seed)))
    return engine


def total_energies(engine: Engine, blocks: int, steps: int):
    totals = []
    for _ in range(blocks):
        engine.advance(steps)
        energies = engine.energies()
        totals.append(energies.potential + energies.kinetic)
    return np.array(totals)


@pytest.mark.parametrize("kind", ENGINES)
def test_nve_conserves_energy_and_its_error_is_of_second_order(kind, atoms, tmp_path):
    """No drift over 2 ps, and half the time step leaves a quarter of the fluctuation."""
    model = springs_model(tmp_path / "model.pt", atoms)
    fluctuation = {}
    for timestep in (0.5, 0.25):
        protocol = MDProtocol.of(ensemble="nve", temperature=300, timestep=timestep)
        engine = started(kind, model, atoms, protocol)
        blocks = 200
        totals = total_energies(engine, blocks, round(10 / timestep))
        times = np.arange(blocks) * 0.01  # ps
        drift = np.polyfit(times, totals, 1)[0] / len(atoms)
        assert abs(drift) < 2e-5, f"{drift} eV/atom/ps"
        fluctuation[timestep] = totals.std()
    assert fluctuation[0.5] / fluctuation[0.25] == pytest.approx(4, rel=0.25)


@pytest.mark.parametrize("kind", ENGINES)
def test_nve_keeps_momentum_and_angular_momentum(kind, atoms, tmp_path):
    protocol = MDProtocol.of(ensemble="nve", temperature=300)
    engine = started(kind, springs_model(tmp_path / "model.pt", atoms), atoms, protocol)
    engine.advance(2000)
    now = engine.snapshot()
    masses = atoms.get_masses()[:, None]
    assert np.abs((masses * now.velocities).sum(0)).max() < 1e-11
    # In the leapfrog the velocities are half a step behind: rotate with the positions of that time.
    positions = now.positions - (0.25 * now.velocities if kind == "openmm" else 0)
    angular = (masses * np.cross(positions, now.velocities)).sum(0)
    scale = np.abs(masses * np.cross(now.positions, now.velocities)).sum()
    assert np.abs(angular).max() < 1e-9 * scale


def test_both_engines_follow_the_same_nve_trajectory(atoms, tmp_path):
    protocol = MDProtocol.of(ensemble="nve", temperature=300)
    model = springs_model(tmp_path / "model.pt", atoms)
    atoms.rattle(0.1, seed=4)  # forces at the start: the leapfrog must begin half a step earlier
    first, second = (started(kind, model, atoms, protocol) for kind in ENGINES)
    for _ in range(5):
        first.advance(40)
        second.advance(40)
        assert np.abs(first.snapshot().positions - second.snapshot().positions).max() < 1e-7
        ours, theirs = first.energies(), second.energies()
        assert ours.potential == pytest.approx(theirs.potential, abs=1e-7)
        assert ours.kinetic == pytest.approx(theirs.kinetic, abs=1e-7)


@pytest.mark.parametrize("kind", ENGINES)
def test_nvt_samples_the_canonical_distribution(kind, atoms, tmp_path):
    """Mean and distribution of the kinetic energy: 2K/kT follows chi-squared with 3N degrees of freedom."""
    protocol = MDProtocol.of(temperature=400, friction=0.1, seed=3)
    engine = started(kind, springs_model(tmp_path / "model.pt", atoms), atoms, protocol)
    engine.advance(400)
    masses, freedom = atoms.get_masses(), degrees_of_freedom(atoms, conserves_momentum=False)
    samples = []
    for _ in range(300):
        engine.advance(30)  # three decay times of the kinetic energy
        samples.append(kinetic_energy(masses, engine.snapshot().velocities))
    kinetic = np.array(samples)
    # 4 standard errors, with room for the error of the time step
    assert temperature(kinetic.mean(), freedom) == pytest.approx(400, abs=4 * 400 * np.sqrt(2 / freedom / 300) + 2)
    assert kstest(2 * kinetic / (BOLTZMANN * 400), "chi2", args=(freedom,)).pvalue > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torchforce_pythonforce_and_ase_give_the_same_forces(dtype, atoms, tmp_path):
    model = springs_model(tmp_path / "model.pt", atoms, dtype=dtype)
    atoms.rattle(0.1, seed=2)
    protocol = MDProtocol()
    torch_engine = OpenMMEngine(model, atoms, protocol)
    chosen = OpenMMForce(python_force(load_exported(model), atoms.numbers), "PythonForce", "asked for")
    python_engine = OpenMMEngine(model, atoms, protocol, force=chosen)
    assert (torch_engine.force, python_engine.force) == ("TorchForce", "PythonForce")
    reference = ASEEngine(model, atoms, protocol)
    assert np.abs(reference.forces()).max() > 1
    for engine in (torch_engine, python_engine):
        assert np.abs(engine.forces() - reference.forces()).max() < 1e-4
        assert engine.energies().potential == pytest.approx(reference.energies().potential, abs=1e-5)
