"""Atoms that the structure holds fixed stay where they are, in every engine."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.constraints import FixAtoms, FixBondLength
from ase.io import read, write

from piwsl.errors import DataError, RunDirectoryError
from piwsl.md import run_directory
from piwsl.md.engines.base import kinetic_energy
from piwsl.md.engines.native import NativeReplicas
from piwsl.md.engines.openmm_replicas import OpenMMReplicas
from piwsl.md.job import structure_sha256
from piwsl.md.protocol import MDProtocol
from piwsl.md.run import run_md
from piwsl.md.simulation import starts
from piwsl.md.stop.start import check_start
from piwsl.md.structure import degrees_of_freedom, normalized, prepared, thermal_velocities
from piwsl.units import BOLTZMANN
from tests.support.spring_replicas import SpringReplicas

FIXED = [0, 4]
SINGLE = [
    ("openmm", "nve"),
    ("openmm", "nvt-langevin"),
    ("openmm", "nvt-nose-hoover"),
    ("ase", "nve"),
    ("ase", "nvt-langevin"),
    ("ase", "nvt-nose-hoover"),
    ("ase", "nvt-csvr"),
]
REPLICAS = [
    (NativeReplicas, "nve"),
    (NativeReplicas, "nvt-langevin"),
    (NativeReplicas, "nvt-nose-hoover"),
    (OpenMMReplicas, "nve"),
    (OpenMMReplicas, "nvt-langevin"),
]


@pytest.fixture
def held(ethanol):
    ethanol.set_constraint(FixAtoms(FIXED))
    return ethanol


def test_fixed_atoms_are_at_rest_and_have_no_degrees_of_freedom(held):
    for conserves in (True, False):
        assert degrees_of_freedom(held, conserves) == 21
    rng = np.random.default_rng(0)
    draws = np.array([thermal_velocities(held, 300, rng) for _ in range(2000)])
    assert np.array_equal(draws[:, FIXED], np.zeros_like(draws[:, FIXED]))
    kinetic = np.mean([kinetic_energy(held.get_masses(), one) for one in draws])
    assert kinetic == pytest.approx(0.5 * 21 * BOLTZMANN * 300, rel=5 * np.sqrt(2 / 21 / 2000))


@pytest.mark.parametrize(("engine", "ensemble"), SINGLE)
def test_they_stay_in_a_run_its_equilibration_and_after_a_restart(engine, ensemble, held, make_model, tmp_path):
    held.rattle(0.02, seed=1)
    start = held.positions.copy()
    options = {"trajectory_interval": 10, "trajectory_format": "extxyz", "state_interval": 20, "progress": False}
    model = make_model(held)
    run_md(
        held,
        model,
        output=tmp_path / "run",
        engine=engine,
        ensemble=ensemble,
        steps=20,
        minimize=True,
        equilibration=10,
        **options,
    )
    run_md(None, model, output=tmp_path / "run", restart=True, steps=40, progress=False)
    frames = read(tmp_path / "run" / "trajectory.extxyz", ":")
    assert len(frames) == 4
    for frame in frames:
        assert np.abs(frame.positions - start)[FIXED].max() < 1e-7
        assert (np.abs(frame.positions - start).max(axis=1) > 1e-3).sum() == 7
    assert read(tmp_path / "run" / "start.extxyz").constraints[0].index.tolist() == FIXED


@pytest.mark.parametrize(("engine", "ensemble"), REPLICAS)
def test_they_stay_in_replicas(engine, ensemble, held):
    protocol = MDProtocol.of(ensemble=ensemble, replicas=3, temperature=400)
    run = engine(SpringReplicas(held), held, protocol, starts(held, protocol, range(3)))
    before = run.energies()
    run.advance(50)
    run.remove(1)
    run.advance(50)
    for snapshot in run.snapshots():
        assert np.abs(snapshot.positions - held.positions)[FIXED].max() < 1e-12
        assert np.abs(snapshot.velocities[FIXED]).max() == 0
        assert (np.abs(snapshot.positions - held.positions).max(axis=1) > 1e-3).sum() == 7
    if ensemble == "nve":
        totals = [one.potential + one.kinetic for one in (before[0], run.energies()[0])]
        assert totals[0] == pytest.approx(totals[1], abs=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("ensemble", ["nvt-langevin", "nvt-nose-hoover"])
def test_the_others_have_the_temperature_of_the_thermostat(ensemble, held):
    protocol = MDProtocol.of(ensemble=ensemble, replicas=100, temperature=400, friction=0.1, thermostat_time=20)
    run = NativeReplicas(SpringReplicas(held), held, protocol, starts(held, protocol, range(100)))
    kinetic = []
    for _ in range(30):
        run.advance(100)
        kinetic += [one.kinetic for one in run.energies()]
    # Samples of a replica are correlated; the bound is that of 100 independent ones.
    assert 2 * np.mean(kinetic) / (21 * BOLTZMANN) == pytest.approx(400, rel=4 * np.sqrt(2 / 21 / 100))


def test_they_are_a_part_of_the_structure_and_of_its_files(held, tmp_path):
    free = held.copy()
    free.set_constraint()
    assert structure_sha256(normalized(held)) != structure_sha256(normalized(free))
    run_directory.write_structure(tmp_path / run_directory.START, normalized(held))
    again = run_directory.read_start(tmp_path)
    assert structure_sha256(again) == structure_sha256(normalized(held))


def test_a_restart_with_other_fixed_atoms_is_refused(held, make_model, tmp_path):
    model = make_model(held)
    run_md(held, model, output=tmp_path / "run", steps=20, progress=False)
    held.set_constraint()
    with pytest.raises(RunDirectoryError, match="but these differ: structure"):
        run_md(held, model, output=tmp_path / "run", restart=True, steps=40, progress=False)


def test_columns_of_a_file_hold_atoms(ethanol, make_model, tmp_path):
    """Extended XYZ has a column move_mask, of one or of three values."""
    ethanol.set_constraint(FixAtoms(FIXED))
    # ASE 3.25 writes this column only if it is named.
    write(tmp_path / "held.extxyz", ethanol, columns=["symbols", "positions", "move_mask"])
    assert "move_mask" in (tmp_path / "held.extxyz").read_text()
    protocol = MDProtocol()
    assert prepared(read(tmp_path / "held.extxyz"), protocol).constraints[0].index.tolist() == FIXED


def test_forces_on_them_need_not_be_small(held):
    forces = np.zeros((9, 3))
    forces[FIXED[0], 0] = 1e3
    assert check_start(held, -1.0, forces) is None
    forces[1, 0] = 1e3
    with pytest.raises(DataError, match="on atom C1"):
        check_start(held, -1.0, forces)


def test_what_no_engine_keeps_is_refused_before_anything_is_written(make_model, tmp_path):
    ethanol = molecule("CH3CH2OH")
    model = make_model(ethanol)
    crystal = bulk("Cu", cubic=True)
    crystal.set_constraint(FixAtoms([0]))
    with pytest.raises(DataError, match="some atoms are fixed, but npt moves all atoms with the cell"):
        prepared(crystal, MDProtocol.of(ensemble="npt"))
    for constraint, problem in (
        (FixAtoms(range(9)), "all atoms are fixed"),
        (FixBondLength(0, 1), "constraint FixBondLengths is not supported"),
    ):
        ethanol.set_constraint(constraint)
        with pytest.raises(DataError, match=problem):
            run_md(ethanol, model, output=tmp_path / "run", steps=5, progress=False)
    assert not (tmp_path / "run").exists()
