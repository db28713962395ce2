"""Laws that replicas must keep, all at once and each by itself."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from scipy.stats import chi2, kstest

from piwsl.md.engines.base import ReplicaEngine, kinetic_energy
from piwsl.md.engines.native import NativeReplicas
from piwsl.md.engines.openmm_replicas import OpenMMReplicas
from piwsl.md.protocol import MDProtocol
from piwsl.md.simulation import starts
from piwsl.units import BOLTZMANN
from tests.support.spring_replicas import SpringReplicas

pytestmark = pytest.mark.slow

ENGINES = {"native": NativeReplicas, "openmm": OpenMMReplicas}


@pytest.fixture
def water() -> Atoms:
    return molecule("H2O")


def started(kind: str, atoms: Atoms, count: int, **options) -> ReplicaEngine:
    protocol = MDProtocol.of(**options, replicas=count)
    return ENGINES[kind](SpringReplicas(atoms), atoms, protocol, starts(atoms, protocol, range(count)))


def totals(engine: ReplicaEngine) -> np.ndarray:
    return np.array([one.potential + one.kinetic for one in engine.energies()])


@pytest.mark.parametrize("kind", ENGINES)
def test_nve_conserves_the_energy_of_each_replica_to_second_order(kind, water):
    fluctuation = {}
    for timestep in (0.5, 0.25):
        engine = started(kind, water, 4, ensemble="nve", temperature=300, timestep=timestep)
        energies = []
        for _ in range(100):
            engine.advance(round(5 / timestep))
            energies.append(totals(engine))
        energies = np.array(energies)
        drift = np.polyfit(np.arange(100) * 0.005, energies, 1)[0] / len(water)
        assert np.abs(drift).max() < 5e-4, f"{drift} eV/atom/ps"
        fluctuation[timestep] = energies.std(0)
    assert np.allclose(fluctuation[0.5] / fluctuation[0.25], 4, rtol=0.25)


def test_nve_runs_back_to_where_it_came_from(water):
    engine = started("native", water, 3, ensemble="nve", temperature=500)
    engine.advance(500)
    there = engine.snapshots()
    assert min(np.abs(one.positions - water.positions).max() for one in there) > 0.01
    for replica in engine.replicas:
        state = engine.state(replica)
        engine.restore({replica: {**state, "velocities": -state["velocities"]}}, {replica: 0})
    engine.advance(500)
    for one in engine.snapshots():
        assert np.abs(one.positions - water.positions).max() < 1e-8


@pytest.mark.parametrize("kind", ENGINES)
def test_nvt_samples_the_canonical_distribution_in_each_replica(kind, water):
    """2K/kT follows chi-squared with 3N degrees of freedom: in all samples, and in those of each replica."""
    kelvin, count, blocks = 400.0, 60, 60
    engine = started(kind, water, count, temperature=kelvin, friction=0.1, seed=3)
    engine.advance(200)
    samples = np.empty((blocks, count))
    for block in range(blocks):
        engine.advance(30)  # three decay times of the kinetic energy
        samples[block] = [kinetic_energy(water.get_masses(), one.velocities) for one in engine.snapshots()]
    reduced, freedom = 2 * samples / (BOLTZMANN * kelvin), 3 * len(water)
    assert kstest(reduced.ravel(), "chi2", args=(freedom,)).pvalue > 1e-3
    # Means of the replicas scatter as independent samples do: chi-squared once more.
    means = reduced.mean(0)
    scatter = ((means - freedom) ** 2).sum() / (2 * freedom / blocks)
    assert chi2.cdf(scatter, count) == pytest.approx(0.5, abs=0.4999)
    # Neighbors in the list share no random numbers.
    correlation = np.corrcoef(reduced.T)[np.triu_indices(count, 1)]
    assert np.abs(correlation).max() < 5.5 / np.sqrt(blocks)


def test_langevin_middle_is_exact_for_positions_on_springs():
    """The energy of one spring has the mean kT/2 even at a time step of a third of its period, where others fail."""
    atoms = Atoms("H2", [[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]], masses=[1.0, 1e9])
    kelvin, count = 10.0, 400
    # Of 25 eV/angstrom^2 and 1 amu, a period of 12.8 fs; cold, so that the distance is harmonic.
    engine = started("native", atoms, count, temperature=kelvin, friction=0.05, timestep=4.0, seed=1)
    engine.advance(100)
    stretches = []
    for _ in range(100):
        engine.advance(10)
        stretches.append([np.linalg.norm(one.positions[1] - one.positions[0]) - 1.0 for one in engine.snapshots()])
    energy = 0.5 * 25.0 * np.square(stretches).mean()
    assert energy == pytest.approx(0.5 * BOLTZMANN * kelvin, rel=0.04)


def test_replicas_take_the_temperature_they_are_told(water):
    engine = started("native", water, 40, temperature=300, friction=0.1)
    engine.set_temperature(900)
    engine.advance(200)
    kinetic = []
    for _ in range(10):
        engine.advance(30)
        kinetic.append([one.kinetic for one in engine.energies()])
    assert 2 * np.mean(kinetic) / (9 * BOLTZMANN) == pytest.approx(900, rel=0.08)


def test_a_nose_hoover_chain_samples_the_canonical_distribution(water):
    """Without overall motion: 2K/kT follows chi-squared with 3N - 6 degrees of freedom."""
    kelvin, count, blocks = 400.0, 60, 60
    engine = started("native", water, count, ensemble="nvt-nose-hoover", temperature=kelvin, thermostat_time=20, seed=3)
    assert engine.degrees_of_freedom == 3
    engine.advance(1000)
    samples = np.empty((blocks, count))
    for block in range(blocks):
        engine.advance(97)
        samples[block] = [kinetic_energy(water.get_masses(), one.velocities) for one in engine.snapshots()]
    reduced = 2 * samples / (BOLTZMANN * kelvin)
    assert reduced.mean() == pytest.approx(3, rel=0.04)
    assert reduced.var() == pytest.approx(6, rel=0.12)
    assert kstest(reduced[::10].ravel(), "chi2", args=(3,)).pvalue > 1e-3
    momenta = [(water.get_masses()[:, None] * one.velocities).sum(0) for one in engine.snapshots()]
    assert np.abs(momenta).max() < 1e-9


def test_a_nose_hoover_chain_has_a_constant_energy(water):
    """That of the molecule, of the links of the chain, and the work done on them, within what half a step changes."""
    timestep, time = 0.2, 30.0
    engine = started(
        "native", water, 4, ensemble="nvt-nose-hoover", temperature=300, thermostat_time=time, timestep=timestep
    )
    heat, weights = BOLTZMANN * 300, np.array([3, 1, 1])
    turned, before, molecule_alone, whole = np.zeros((4, 3)), np.zeros((4, 3)), [], []
    for _ in range(2000):
        engine.advance(1)
        links = np.array([engine.state(replica)["thermostat"] for replica in range(4)])
        turned += timestep * (links + before) / 2
        before = links
        molecule_alone.append(totals(engine))
        whole.append(totals(engine) + (heat * weights * (0.5 * time**2 * links**2 + turned)).sum(1))
    assert np.ptp(molecule_alone, 0).min() > 0.08
    assert np.ptp(whole, 0).max() < 0.02
    assert np.abs(np.mean(whole[-500:], 0) - np.mean(whole[:500], 0)).max() < 1e-3
