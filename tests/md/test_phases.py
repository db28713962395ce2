"""Phases of a run and what comes before: equilibration, schedules, minimization, heavier hydrogen; violations."""

import json
import os
import signal
from pathlib import Path

import mdtraj
import numpy as np
import pytest
from ase.build import bulk
from ase.io import read

from piwsl.analysis.run_directory import read_run
from piwsl.errors import ConfigError, EngineError, UnphysicalError
from piwsl.md.dry_run import plan_run
from piwsl.md.protocol import MDProtocol, TemperatureSchedule
from piwsl.md.restart import newest_states
from piwsl.md.run import run_protocol
from piwsl.md.structure import advice, with_hydrogen_mass
from tests.support.argon import argon_model

ENGINES = ["openmm", "ase"]


def protocol(**options) -> MDProtocol:
    short = {"steps": 200, "trajectory_interval": 20, "report_interval": 50, "state_interval": 100}
    return MDProtocol.of(**{**short, **options})


def thermo(directory: Path):
    return np.genfromtxt(directory / "thermo.csv", delimiter=",", skip_header=1)


def frames(directory: Path):
    trajectory = next(directory.glob("trajectory.*"))
    return mdtraj.load(str(trajectory), top=str(directory / "topology.pdb")).xyz * 10


def test_a_schedule_is_read_and_followed():
    rising = TemperatureSchedule.of("300:500:500")
    assert [rising.at(part) for part in (0, 0.25, 0.5, 1)] == [300, 400, 500, 500]
    assert (str(rising), rising.plain(), rising.constant, rising.highest) == ("300:500:500", "300:500:500", False, 500)
    made = MDProtocol.of(temperature="100:300", steps=1000, equilibration=50)
    assert [made.temperature_at(step) for step in (-50, 0, 500, 1000)] == [100, 100, 200, 300]
    with pytest.raises(ConfigError, match="above 0 K"):
        MDProtocol.of(temperature="300:0")
    with pytest.raises(ConfigError, match="nve has no thermostat"):
        MDProtocol.of(temperature="300:400", ensemble="nve")
    with pytest.raises(ConfigError, match="openmm does not support nvt-csvr: choose engine='ase'"):
        MDProtocol.of(ensemble="nvt-csvr")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_heats_up(engine, ethanol, make_model, tmp_path):
    options = {"temperature": "50:1000", "friction": 0.1, "steps": 6000, "report_interval": 20, "engine": engine}
    run_protocol(ethanol, make_model(ethanol), protocol(**options), tmp_path / "run")
    kelvin = thermo(tmp_path / "run")[:, 5]
    third = len(kelvin) // 3
    for part, expected in enumerate((50 + 950 / 6, 525, 1000 - 950 / 6)):
        mean = kelvin[part * third : (part + 1) * third].mean()
        assert mean == pytest.approx(expected, rel=0.25), part
    assert read_run(tmp_path / "run").target_temperature is None


@pytest.mark.parametrize("engine", ENGINES)
def test_equilibration_leaves_no_frames_and_no_overall_motion(engine, ethanol, make_model, tmp_path):
    options = {"ensemble": "nve", "equilibration": 300, "temperature": 400, "friction": 0.1, "engine": engine}
    run = run_protocol(ethanol, make_model(ethanol), protocol(**options, trajectory_interval=1), tmp_path / "run")
    rows = thermo(tmp_path / "run")
    assert rows[:, 0].tolist() == [50, 100, 150, 200]
    assert np.ptp(rows[:, 4]) < 0.02  # constant energy
    found = frames(tmp_path / "run")
    assert len(found) == 200
    centers = np.einsum("i,fij->fj", ethanol.get_masses(), found) / ethanol.get_masses().sum()
    assert np.abs(np.diff(centers, axis=0)).max() < 1e-5
    assert (run.summary.steps_done, run.summary.equilibration_steps) == (200, 300)
    assert np.abs(found[0] - ethanol.positions).max() > 0.05


@pytest.mark.slow
@pytest.mark.parametrize("where", [-150, 70])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_restart_within_either_phase_equals_the_whole(engine, where, ethanol, make_model, tmp_path):
    model, options = make_model(ethanol), protocol(equilibration=200, engine=engine, ensemble="nve", temperature=300)

    class Interrupts:
        name = "interrupts"

        def check(self, snapshot, energies, step):
            if step >= where:
                os.kill(os.getpid(), signal.SIGTERM)

    run_protocol(ethanol, model, options, tmp_path / "whole")
    cut = run_protocol(ethanol, model, options, tmp_path / "cut", stop_rules=[Interrupts()])
    assert not cut.completed
    assert (newest_states({0: tmp_path / "cut"})[0][0].step < 0) == (where < 0)
    again = run_protocol(ethanol, model, options, tmp_path / "cut", restart=True)
    assert again.completed
    assert np.array_equal(frames(tmp_path / "whole"), frames(tmp_path / "cut"))
    assert np.allclose(thermo(tmp_path / "whole"), thermo(tmp_path / "cut"), atol=1e-7)


def test_minimization_starts_the_run_from_a_minimum(ethanol, make_model, tmp_path):
    model = make_model(ethanol)
    moved = ethanol.copy()
    moved.rattle(0.05, seed=3)
    options = protocol(minimize=True)
    run_protocol(moved, model, options, tmp_path / "run")
    start = read(tmp_path / "run" / "start.extxyz")
    assert np.abs(start.get_all_distances() - ethanol.get_all_distances()).max() < 0.02
    assert "minimized in" in (tmp_path / "run" / "md.log").read_text()
    longer = protocol(minimize=True, steps=300)
    assert run_protocol(moved, model, longer, tmp_path / "run", restart=True).completed  # from what it was given
    assert run_protocol(start, model, protocol(minimize=True, steps=400), tmp_path / "run", restart=True).completed


def test_heavier_hydrogens_take_their_mass_from_their_neighbors(ethanol):
    heavy = with_hydrogen_mass(ethanol, 3.0)
    assert heavy.get_masses().sum() == pytest.approx(ethanol.get_masses().sum())
    assert heavy.get_masses()[ethanol.numbers == 1].tolist() == [3.0] * 6
    assert np.array_equal(with_hydrogen_mass(heavy, 3.0).get_masses(), heavy.get_masses())
    assert np.array_equal(with_hydrogen_mass(ethanol, None).get_masses(), ethanol.get_masses())
    with pytest.raises(ConfigError, match=r"leaves .* amu for atom C0"):
        with_hydrogen_mass(ethanol, 5.0)


def test_a_long_step_is_warned_of(ethanol):
    assert advice(ethanol, MDProtocol.of(timestep=0.5)) == []
    assert "use at most 0.5 fs, or heavier hydrogen atoms" in advice(ethanol, MDProtocol.of(timestep=1.0))[0]
    heavy = MDProtocol.of(timestep=0.8, hydrogen_mass=3.0)
    assert advice(with_hydrogen_mass(ethanol, 3.0), heavy) == []


def test_npt_needs_a_box(ethanol, make_model, tmp_path):
    for engine in ENGINES:
        with pytest.raises(EngineError, match="npt requires a"):
            run_protocol(ethanol, make_model(ethanol), protocol(ensemble="npt", engine=engine), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_crystal_in_npt_is_continued_exactly(engine, tmp_path):
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True)
    model = argon_model(tmp_path / "argon.pt")
    options = {"ensemble": "npt", "temperature": 30, "timestep": 5, "engine": engine, "state_interval": 50}
    run_protocol(atoms, model, protocol(**options), tmp_path / "whole")
    run_protocol(atoms, model, protocol(**options, on_stop="record"), tmp_path / "half")  # another run
    run_protocol(atoms, model, protocol(**{**options, "steps": 100}), tmp_path / "cut")
    run_protocol(atoms, model, protocol(**options), tmp_path / "cut", restart=True)
    assert np.allclose(thermo(tmp_path / "whole"), thermo(tmp_path / "cut"), atol=1e-7)
    assert np.allclose(frames(tmp_path / "whole"), frames(tmp_path / "cut"), atol=1e-5)


def test_a_violation_can_be_noted(ethanol, make_model, tmp_path):
    model = make_model(ethanol)
    tight = {"stop": ("bond:0.02",), "on_stop": "record", "temperature": 600}
    run = run_protocol(ethanol, model, protocol(**tight), tmp_path / "run")
    assert run.completed
    (noted,) = run.summary.violations
    assert (noted.rule, noted.frame) == ("bond", "violation-bond.extxyz")
    assert read(tmp_path / "run" / "violation-bond.extxyz").info["step"] == noted.step
    assert len(frames(tmp_path / "run")) == 10
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["violations"] == [noted.model_dump()]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_can_go_back_to_what_was_good(engine, ethanol, make_model, tmp_path):
    """With a rule that is violated now and then, the run ends whole, each frame once."""
    options = {"on_stop": "restart-from-good", "engine": engine, "friction": 0.1, "seed": 4, "state_interval": 20}
    limit = {"stop": ("temperature:580",), "temperature": 400, "steps": 1000}
    run = run_protocol(ethanol, make_model(ethanol), protocol(**options, **limit), tmp_path / "run")
    assert run.completed
    assert 1 <= len(run.summary.violations) <= 10
    assert thermo(tmp_path / "run")[:, 0].tolist() == list(range(50, 1001, 50))
    assert len(frames(tmp_path / "run")) == 50
    assert "with new random numbers" in (tmp_path / "run" / "md.log").read_text()


def test_what_is_wrong_again_and_again_ends_the_run(ethanol, make_model, tmp_path):
    options = protocol(on_stop="restart-from-good", stop=("bond:0.005",), temperature=600)
    with pytest.raises(UnphysicalError, match="bond"):
        run_protocol(ethanol, make_model(ethanol), options, tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["result"], len(summary["violations"])) == ("stopped", 10)


@pytest.mark.slow
def test_a_plan_writes_nothing_and_estimates(ethanol, make_model, tmp_path):
    model = make_model(ethanol)
    before = sorted(tmp_path.rglob("*"))
    plan = plan_run(ethanol, model, MDProtocol.of(steps=10_000, equilibration=1000, timestep=2.0))
    assert plan.seconds == pytest.approx(11_000 * plan.seconds_per_step)
    assert any(line.startswith("trajectory  100 frames") for line in plan.lines)
    assert "is too long for hydrogen atoms" in plan.warnings[0]
    assert sorted(tmp_path.rglob("*")) == before
