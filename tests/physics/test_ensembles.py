"""Each ensemble of each engine samples what it claims; a thermostat that does not is found out."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.constraints import FixAtoms
from ase.md.nvtberendsen import NVTBerendsen
from scipy.stats import kstest

from piwsl.interfaces.ase import PiwslCalculator
from piwsl.md.engines.base import Engine, Snapshot, kinetic_energy, temperature
from piwsl.md.engines.make import make_engine
from piwsl.md.protocol import MDProtocol
from piwsl.md.simulation import starts
from piwsl.md.structure import thermal_velocities
from piwsl.typing import FloatArray
from piwsl.units import ACCELERATION, ASE_TIME, BOLTZMANN
from tests.support.argon import argon_model
from tests.support.springs import springs_model

pytestmark = pytest.mark.slow

THERMOSTATS = [
    ("openmm", "nvt-langevin"),
    ("openmm", "nvt-nose-hoover"),
    ("ase", "nvt-langevin"),
    ("ase", "nvt-nose-hoover"),
    ("ase", "nvt-csvr"),
]
KELVIN = 400.0


@pytest.fixture
def atoms() -> Atoms:
    return molecule("CH3CH2OH")


def started(model: Path, atoms: Atoms, **options: object) -> Engine:
    protocol = MDProtocol.of(**options)
    return make_engine(model, atoms, protocol, starts(atoms, protocol, [0])).engine


def kinetic_samples(engine: Engine, atoms: Atoms, count: int, gap: int) -> FloatArray:
    engine.advance(400)
    found = []
    for _ in range(count):
        engine.advance(gap)
        found.append(kinetic_energy(atoms.get_masses(), engine.snapshot().velocities))
    return np.array(found)


def is_canonical(kinetic: FloatArray, freedom: int, kelvin: float = KELVIN) -> bool:
    """Whether 2K/kT follows chi-squared with these degrees of freedom, mean and distribution."""
    error = kelvin * np.sqrt(2 / freedom / len(kinetic))
    hot = abs(temperature(kinetic.mean(), freedom) - kelvin) > 4 * error + 2  # 2 K for the error of the time step
    return not hot and kstest(2 * kinetic / (BOLTZMANN * kelvin), "chi2", args=(freedom,)).pvalue > 1e-3


@pytest.mark.parametrize(("engine", "ensemble"), THERMOSTATS)
@pytest.mark.parametrize("fixed", [[], [0, 4]])
def test_the_kinetic_energy_is_canonical(engine, ensemble, fixed, atoms, tmp_path):
    """9 atoms: to count 27 degrees of freedom where 21 share the energy would be 29 % too hot."""
    atoms.set_constraint(FixAtoms(fixed) if fixed else None)
    model = springs_model(tmp_path / "model.pt", atoms)
    run = started(
        model, atoms, engine=engine, ensemble=ensemble, temperature=KELVIN, friction=0.1, thermostat_time=20, seed=3
    )
    assert run.degrees_of_freedom == (27 if ensemble == "nvt-langevin" and not fixed else 21)
    assert is_canonical(kinetic_samples(run, atoms, 200, 40), run.degrees_of_freedom)


def test_a_wrong_thermostat_is_found_out(atoms, tmp_path):
    """Berendsen's has the right mean and too narrow a distribution."""
    atoms.calc = PiwslCalculator(springs_model(tmp_path / "model.pt", atoms))
    atoms.set_velocities(thermal_velocities(atoms, KELVIN, np.random.default_rng(0)) * ASE_TIME)
    dynamics = NVTBerendsen(atoms, 0.5 / ASE_TIME, temperature_K=KELVIN * 21 / 27, taut=20 / ASE_TIME)
    dynamics.run(400)
    found = []
    for _ in range(200):
        dynamics.run(40)
        found.append(atoms.get_kinetic_energy())
    kinetic = np.array(found)
    assert not is_canonical(kinetic, 21)
    assert temperature(kinetic.mean(), 21) == pytest.approx(KELVIN, rel=0.1)
    rng = np.random.default_rng(0)
    draws = rng.chisquare(21, 200) * BOLTZMANN * KELVIN / 2
    assert is_canonical(draws, 21)
    assert not is_canonical(1.15 * draws, 21)


@pytest.mark.parametrize("engine", ["openmm", "ase"])
def test_light_and_heavy_atoms_are_equally_warm(engine, atoms, tmp_path):
    model = springs_model(tmp_path / "model.pt", atoms)
    run = started(model, atoms, engine=engine, temperature=KELVIN, friction=0.1, seed=5)
    run.advance(400)
    masses, light = atoms.get_masses(), atoms.numbers == 1
    temperatures = {True: [], False: []}
    for _ in range(200):
        run.advance(40)
        velocities = run.snapshot().velocities
        for kind, mask in ((True, light), (False, ~light)):
            temperatures[kind].append(temperature(kinetic_energy(masses[mask], velocities[mask]), 3 * int(mask.sum())))
    for kind, count in ((True, 6), (False, 3)):
        error = KELVIN * np.sqrt(2 / (3 * count) / 200)
        assert np.mean(temperatures[kind]) == pytest.approx(KELVIN, abs=4 * error + 2)


@pytest.mark.parametrize(("engine", "ensemble"), [pair for pair in THERMOSTATS if pair[1] != "nvt-langevin"])
def test_overall_motion_stays_away(engine, ensemble, atoms, tmp_path):
    run = started(springs_model(tmp_path / "model.pt", atoms), atoms, engine=engine, ensemble=ensemble)
    run.advance(2000)
    now, masses = run.snapshot(), atoms.get_masses()[:, None]
    scale = np.abs(masses * now.velocities).sum()
    assert np.abs((masses * now.velocities).sum(0)).max() < 1e-10 * scale


@pytest.mark.parametrize("engine", ["openmm", "ase"])
def test_time_runs_backwards(engine, atoms, tmp_path):
    """1 000 steps, velocities turned round, 1 000 steps: back at the start."""
    model = springs_model(tmp_path / "model.pt", atoms)
    run = started(model, atoms, engine=engine, ensemble="nve", temperature=300)
    run.advance(1000)
    there = run.snapshot()
    velocities = there.velocities
    if engine == "openmm":  # half a step behind
        velocities = velocities + 0.25 * ACCELERATION * run.forces() / atoms.get_masses()[:, None]
    turned = {0: Snapshot(there.positions, -velocities)}
    back = make_engine(model, atoms, MDProtocol.of(engine=engine, ensemble="nve", temperature=300), turned).engine
    back.advance(1000)
    assert np.abs(there.positions - atoms.positions).max() > 0.05
    assert np.abs(back.snapshot().positions - atoms.positions).max() < 1e-8


@pytest.mark.parametrize(("engine", "ensemble"), THERMOSTATS)
def test_the_temperature_can_be_changed(engine, ensemble, atoms, tmp_path):
    model = springs_model(tmp_path / "model.pt", atoms)
    run = started(
        model, atoms, engine=engine, ensemble=ensemble, temperature=100, friction=0.1, thermostat_time=20, seed=1
    )
    run.set_temperature(KELVIN)
    assert is_canonical(kinetic_samples(run, atoms, 150, 40), run.degrees_of_freedom)


@pytest.mark.parametrize(("engine", "ensemble"), THERMOSTATS)
def test_a_state_goes_on_as_if_nothing_had_happened(engine, ensemble, atoms, tmp_path):
    model = springs_model(tmp_path / "model.pt", atoms)
    options = {"engine": engine, "ensemble": ensemble, "temperature": KELVIN}
    first, second = started(model, atoms, **options), started(model, atoms, seed=9, **options)
    first.advance(50)
    state = first.state()
    first.advance(50)
    assert second.restore(state, seed=0)
    second.advance(50)
    assert np.array_equal(first.snapshot().positions, second.snapshot().positions)
    second.restore(state, seed=0)
    second.reseed(7)
    second.advance(50)
    same = np.array_equal(first.snapshot().positions, second.snapshot().positions)
    assert same == (ensemble == "nvt-nose-hoover")


def test_openmm_goes_on_without_the_checkpoint(atoms, tmp_path):
    """As on another machine: the thermostat's chain comes back exactly, random numbers do not."""
    model = springs_model(tmp_path / "model.pt", atoms)
    for ensemble, exact in (("nvt-nose-hoover", True), ("nvt-langevin", False)):
        first, second = (started(model, atoms, ensemble=ensemble) for _ in range(2))
        first.advance(50)
        state = {**first.state(), "checkpoint": np.zeros(10, dtype=np.uint8)}
        first.advance(50)
        assert second.restore(state, seed=4) == exact
        assert np.allclose(second.snapshot().positions, state["positions"], atol=1e-12)
        second.advance(50)
        assert np.allclose(first.snapshot().positions, second.snapshot().positions, atol=1e-9) == exact


def test_both_barostats_keep_the_same_volume(tmp_path):
    """Argon at 30 K and 1 kbar: mean volumes agree within their errors and differ from that of the start."""
    atoms = bulk("Ar", "fcc", a=5.26, cubic=True).repeat((2, 2, 2))
    model = argon_model(tmp_path / "argon.pt")
    means, errors = {}, {}
    for engine in ("openmm", "ase"):
        options = {"friction": 0.01} if engine == "openmm" else {"thermostat_time": 200, "barostat_time": 1000}
        run = started(
            model, atoms, engine=engine, ensemble="npt", temperature=30, pressure=1000, timestep=8, seed=2, **options
        )
        run.advance(1000)
        volumes = []
        for _ in range(100):
            run.advance(25)
            volumes.append(abs(np.linalg.det(run.snapshot().cell)) / len(atoms))
        blocks = np.array(volumes).reshape(10, -1).mean(1)
        means[engine], errors[engine] = blocks.mean(), blocks.std(ddof=1) / np.sqrt(10)
    print(means, errors)
    assert abs(means["openmm"] - means["ase"]) < 4 * np.hypot(errors["openmm"], errors["ase"])
