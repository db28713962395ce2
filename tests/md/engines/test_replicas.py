"""Engines of many replicas: each replica is by itself, whatever happens to the others."""

import logging
import shutil

import numpy as np
import pytest
from ase.build import bulk, molecule

from piwsl.errors import EngineError, ModelFileError
from piwsl.export.exported_file import load_exported
from piwsl.export.replica_evaluation import bind_replicas
from piwsl.md.engines.make import make_engine
from piwsl.md.engines.native import NativeReplicas
from piwsl.md.engines.openmm import OpenMMEngine
from piwsl.md.engines.openmm_replicas import OpenMMReplicas
from piwsl.md.protocol import MDProtocol
from piwsl.md.run_model import copies_per_call, prepare_replica_model
from piwsl.md.simulation import starts
from piwsl.runs.process_settings import replica_threads
from tests.support.models_for_tests import trained_file
from tests.support.molecules import oxide
from tests.support.spring_replicas import SpringReplicas
from tests.support.springs import springs_model

ENGINES = {"native": NativeReplicas, "openmm": OpenMMReplicas}
NVT = MDProtocol.of(temperature=300, friction=0.05, seed=7, replicas=5)
NVE = MDProtocol.of(ensemble="nve", temperature=300, seed=7, replicas=5)


def on_springs(kind, atoms, protocol=NVT):
    return ENGINES[kind](SpringReplicas(atoms), atoms, protocol, starts(atoms, protocol, range(5)))


def positions(engine):
    return np.array([one.positions for one in engine.snapshots()])


@pytest.fixture(scope="module")
def network(exports, tmp_path_factory):
    """A random network in float64: trained, of three ethanols, and general."""
    folder = tmp_path_factory.mktemp("network")
    for name, path in (
        ("model.pt", exports.trained()), ("three.pt", exports.openmm(copies=3)), ("general.pt", exports.general())
    ):  # fmt: skip
        shutil.copy(path, folder / name)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["three.pt", "general.pt"])
def test_a_replica_among_others_does_what_it_does_alone(network, ethanol, name):
    potential = load_exported(network / name)
    where = starts(ethanol, NVT, range(5))
    together = NativeReplicas(bind_replicas(potential, ethanol.numbers, threads=2), ethanol, NVT, where)
    alone = NativeReplicas(bind_replicas(potential, ethanol.numbers), ethanol, NVT, {3: where[3]})
    together.advance(150)
    together.advance(50)
    alone.advance(200)
    assert together.state(3)["generator"] == alone.state(3)["generator"]
    assert np.abs(positions(together)[3] - positions(alone)[0]).max() < 1e-9
    assert np.abs(positions(together)[3] - ethanol.positions).max() > 0.1
    assert together.energies()[3].potential == pytest.approx(alone.energies()[0].potential, abs=1e-8)


@pytest.mark.parametrize("kind", ENGINES)
def test_one_that_is_nowhere_leaves_and_the_others_go_on(ethanol, kind):
    engine, whole = on_springs(kind, ethanol, NVE), on_springs(kind, ethanol, NVE)
    for one in (engine, whole):
        one.advance(20)
    state = engine.state(1)
    engine.restore({1: {**state, "positions": np.full_like(state["positions"], np.nan)}}, {1: 0})
    engine.advance(30)
    assert np.isnan(engine.snapshots()[1].positions).all()
    assert np.isnan(engine.energies()[1].potential)
    engine.remove(1)
    assert engine.replicas == [0, 2, 3, 4]
    engine.advance(50)
    whole.advance(80)
    others = [0, 2, 3, 4]
    assert np.abs(positions(engine) - positions(whole)[others]).max() < 1e-9
    assert np.abs(engine.forces() - whole.forces()[others]).max() < 1e-7
    expected = [whole.energies()[replica].potential for replica in others]
    assert [one.potential for one in engine.energies()] == pytest.approx(expected, abs=1e-8)


def test_random_numbers_do_not_depend_on_who_has_left(ethanol):
    engine, whole = on_springs("native", ethanol), on_springs("native", ethanol)
    for one in (engine, whole):
        one.advance(10)
    engine.remove(0)
    engine.remove(3)
    for one in (engine, whole):
        one.advance(10)
    assert np.array_equal(positions(engine), positions(whole)[[1, 2, 4]])


@pytest.mark.parametrize("kind", ENGINES)
def test_who_has_left_costs_nothing(ethanol, kind):
    engine = ENGINES[kind](potential := SpringReplicas(ethanol), ethanol, NVT, starts(ethanol, NVT, range(5)))
    engine.advance(1)
    for replica, left in ((2, 4), (4, 3), (0, 2), (1, 1), (3, 0)):
        engine.remove(replica)
        engine.advance(1)
        before = potential.evaluated
        engine.advance(10)
        assert potential.evaluated - before == 10 * left
    assert engine.snapshots() == engine.energies() == engine.replicas == []
    assert engine.forces().shape == (0, 9, 3)


def test_a_state_continues_exactly(network, ethanol):
    potential = load_exported(network / "three.pt")
    where = starts(ethanol, NVT, range(5))
    engines = [NativeReplicas(bind_replicas(potential, ethanol.numbers), ethanol, NVT, where) for _ in range(2)]
    first, second = engines
    first.advance(37)
    states = {replica: first.state(replica) for replica in first.replicas}
    first.advance(40)
    assert second.restore(states, dict.fromkeys(states, 0))
    assert np.array_equal(second.forces(), second.forces())
    second.advance(40)
    for one, other in zip(first.snapshots(), second.snapshots(), strict=True):
        assert np.array_equal(one.positions, other.positions)
        assert np.array_equal(one.velocities, other.velocities)


def test_in_openmm_a_state_continues_exactly_in_nve_alone(ethanol):
    for protocol, exact in ((NVE, True), (NVT, False)):
        first, second = on_springs("openmm", ethanol, protocol), on_springs("openmm", ethanol, protocol)
        first.advance(20)
        states = {replica: first.state(replica) for replica in range(5)}
        assert second.restore(states, dict.fromkeys(states, 5)) is exact
        for engine in (first, second):
            engine.advance(20)
        difference = np.abs(positions(first) - positions(second)).max()
        assert bool(difference < 1e-10) is exact
        assert difference < 0.5


def test_the_engines_follow_the_same_trajectories(ethanol, make_model):
    """Native, in one System of OpenMM, and one by one in the engine of single runs, with forces at the start."""
    ethanol.rattle(0.1, seed=4)
    model = make_model(molecule("CH3CH2OH"))
    potential = bind_replicas(load_exported(model), ethanol.numbers)
    where = starts(ethanol, NVE, range(2))
    engines = [kind(potential, ethanol, NVE, where) for kind in ENGINES.values()]
    singles = [OpenMMEngine(model, ethanol, NVE) for _ in range(2)]
    for single, start in zip(singles, where.values(), strict=True):
        single.start(start.velocities)
    for _ in range(3):
        for engine in (*engines, *singles):
            engine.advance(40)
        expected = np.array([one.snapshot().positions for one in singles])
        for engine in engines:
            assert np.abs(positions(engine) - expected).max() < 1e-7
            for ours, single in zip(engine.energies(), singles, strict=True):
                assert ours.potential == pytest.approx(single.energies().potential, abs=1e-7)
                assert ours.kinetic == pytest.approx(single.energies().kinetic, abs=1e-7)


@pytest.mark.slow
def test_a_periodic_structure(network):
    made = oxide()
    atoms = made.atoms()
    protocol = MDProtocol.of(temperature=50, timestep=0.1, replicas=5)
    where = starts(atoms, protocol, range(5))
    engine = make_engine(network / "general.pt", atoms, protocol, where)
    engine.advance(20)
    assert np.isfinite(positions(engine)).all()
    assert np.array_equal(engine.snapshots()[2].cell, atoms.cell.array)
    other = MDProtocol.of(temperature=50, replicas=5, engine="openmm")
    with pytest.raises(EngineError, match="molecules without a cell only: choose engine='native'"):
        make_engine(network / "general.pt", atoms, other, where)


def test_the_engine_is_chosen_by_name(network, ethanol):
    where = starts(ethanol, NVT, range(5))
    native = make_engine(network / "three.pt", ethanol, NVT, where)
    assert (native.name, native.degrees_of_freedom) == ("native", 27)
    assert "3 copies per call" in native.platform
    other = MDProtocol.of(**NVT.model_dump() | {"engine": "openmm"})
    assert make_engine(network / "three.pt", ethanol, other, where).name == "openmm"
    with pytest.raises(ModelFileError, match="not an exported"):
        make_engine(network / "model.pt", ethanol, NVT, where)


def test_a_file_of_one_copy_serves_too_and_the_log_says_what_is_faster(ethanol, tmp_path, caplog):
    model = springs_model(tmp_path / "one.pt", ethanol)
    assert prepare_replica_model(model, ethanol, tmp_path, copies=4) == model
    assert "one.pt evaluates one copy per call: replicas run faster with the trained model.pt" in caplog.text
    make_engine(model, ethanol, NVT, starts(ethanol, NVT, range(5))).advance(3)


@pytest.mark.slow
def test_a_trained_file_is_exported_for_the_replicas(network, ethanol, tmp_path):
    path = prepare_replica_model(network / "model.pt", ethanol, tmp_path, copies=4)
    assert (path.name, load_exported(path).copies) == ("exported.pt", 4)
    assert prepare_replica_model(path, ethanol, tmp_path, copies=4) == path
    crystal = bulk("CO", "rocksalt", a=4.3)
    path = prepare_replica_model(network / "model.pt", crystal, tmp_path, copies=4)
    assert load_exported(path).target == "general"


@pytest.mark.slow
def test_a_network_without_neighbor_sums_runs_in_the_general_form(ethanol, tmp_path):
    model = trained_file(tmp_path / "so3lr.pt", network="so3lr", channels=16, layers=1, heads=2)
    path = prepare_replica_model(model, ethanol, tmp_path, copies=4, work=1e8)
    assert load_exported(path).target == "general"
    engine = make_engine(path, ethanol, NVT, starts(ethanol, NVT, range(5)))
    before = positions(engine)
    engine.advance(3)
    assert np.isfinite(positions(engine)).all()
    assert not np.array_equal(positions(engine), before)


@pytest.mark.slow
def test_long_runs_compile_and_go_without_where_there_is_no_compiler(network, ethanol, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "piwsl")
    monkeypatch.setenv("PATH", str(tmp_path))
    path = prepare_replica_model(network / "model.pt", ethanol, tmp_path, copies=4, work=1e8)
    assert path.name == "exported.pt"
    assert "was not compiled: format='aotinductor' requires a C++ compiler" in caplog.text


@pytest.mark.parametrize(
    ("n_atoms", "replicas", "threads", "copies"),
    [(21, 64, 2, 8), (21, 8, 2, 4), (21, 1, 2, 1), (21, 17, 2, 5), (21, 64, 1, 8), (150, 64, 2, 1), (3, 64, 2, 32)],
)
def test_copies_are_spread_evenly(n_atoms, replicas, threads, copies):
    assert copies_per_call(n_atoms, replicas, threads) == copies


def test_threads(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert replica_threads() == 3
    assert replica_threads("cuda") == 1
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert replica_threads() >= 1
