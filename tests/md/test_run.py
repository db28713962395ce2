import json
import os
import signal
import threading
from pathlib import Path

import mdtraj
import numpy as np
import pytest
from ase.build import fcc111
from ase.io import read

from piwsl.errors import (
    ConfigError,
    DataError,
    ElementError,
    EngineError,
    ModelFileError,
    RunDirectoryError,
    UnphysicalError,
)
from piwsl.export.exported_file import load_exported, read_exported_info
from piwsl.interfaces.openmm.force import OpenMMForce, python_force
from piwsl.md.engines.ase import ASEEngine
from piwsl.md.engines.openmm import OpenMMEngine
from piwsl.md.protocol import MDProtocol
from piwsl.md.restart import read_state, state_files, write_state
from piwsl.md.run import run_protocol, verdict
from piwsl.runs.directory import locked
from piwsl.runs.summary import MDSummary, ViolationRecord
from piwsl.trajectories.thermo import read_thermo
from tests.support.models_for_tests import trained_file

SUMMARY_KEYS = {
    "piwsl_version", "versions", "command", "started", "finished", "wall_seconds", "system", "model", "engine", "force",
    "force_reason", "platform", "ensemble", "temperature_K", "timestep_fs", "steps_requested", "steps_done",
    "trajectory_interval", "seed", "speed", "outputs", "result", "stop",
}  # fmt: skip
ENGINES = ["openmm", "ase"]


def protocol(**options) -> MDProtocol:
    short = {"steps": 200, "trajectory_interval": 20, "report_interval": 50, "state_interval": 100}
    return MDProtocol.of(**{**short, **options})


def frames(directory: Path):
    trajectory = next(directory.glob("trajectory.*"))
    return mdtraj.load(str(trajectory), top=str(directory / "topology.pdb")).xyz * 10


def steps_of(directory: Path):
    return [int(row[0]) for row in read_thermo(directory / "thermo.csv")]


@pytest.mark.parametrize("engine", [pytest.param("openmm", marks=pytest.mark.torchforce), "ase"])
def test_a_run_explains_itself(engine, ethanol, make_model, tmp_path):
    seen = []
    model = make_model(ethanol)
    run = run_protocol(
        ethanol, model, protocol(engine=engine), tmp_path / "run", name="ethanol", command="c", progress=seen.append
    )
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary == run.summary.model_dump(mode="json")
    assert set(summary) >= SUMMARY_KEYS
    assert (summary["result"], summary["stop"], summary["steps_done"]) == ("completed", None, 200)
    assert summary["force"] == {"openmm": "TorchForce", "ase": "ASE"}[engine]
    assert summary["system"] == {
        "name": "ethanol",
        "formula": "C2H6O",
        "species": ethanol.numbers.tolist(),
        "masses": None,
    }
    assert summary["model"]["info"]["target"] == "openmm"
    assert all((tmp_path / "run" / name).is_file() for name in summary["outputs"].values())
    assert MDProtocol.load(tmp_path / "run" / "config.yaml") == protocol(engine=engine)
    assert len(frames(tmp_path / "run")) == 10
    assert steps_of(tmp_path / "run") == [50, 100, 150, 200]
    assert (seen[-1].step, seen[-1].total) == (200, 200)
    assert seen[-1].ns_per_day == pytest.approx(seen[-1].steps_per_second * 0.5e-6 * 86400)


@pytest.mark.parametrize("ensemble", ["nve", "nvt"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_continued_run_equals_an_uninterrupted_one(engine, ensemble, ethanol, make_model, tmp_path):
    model = make_model(ethanol)
    options = {"engine": engine, "ensemble": ensemble, "trajectory_format": "xtc"}
    run_protocol(ethanol, model, protocol(**options), tmp_path / "whole")
    run_protocol(ethanol, model, protocol(**options, steps=130), tmp_path / "parts")
    run = run_protocol(ethanol, model, protocol(**options), tmp_path / "parts", restart=True)
    assert (run.summary.steps_done, run.summary.restarted_at_step) == (200, 130)
    assert np.array_equal(frames(tmp_path / "parts"), frames(tmp_path / "whole"))
    assert (tmp_path / "parts" / "thermo.csv").read_text() == (tmp_path / "whole" / "thermo.csv").read_text()


def test_a_thermostat_goes_on_where_the_checkpoint_is_of_another_machine(ethanol, make_model, tmp_path):
    model, output = make_model(ethanol), tmp_path / "run"
    run_protocol(ethanol, model, protocol(steps=100), output)
    state = read_state(state_files(output)[0])
    state.engine["checkpoint"] = np.frombuffer(b"another platform", dtype=np.uint8)
    write_state(output, state)
    run = run_protocol(ethanol, model, protocol(), output, restart=True)
    assert run.completed
    assert "the thermostat draws new random numbers" in (output / "md.log").read_text()
    positions = frames(output)
    assert np.abs(np.diff(positions, axis=0)).max() < 0.6  # goes on from where it was


def test_a_damaged_newest_state_falls_back_and_everything_is_cut_to_it(ethanol, make_model, tmp_path):
    model = make_model(ethanol)
    run_protocol(ethanol, model, protocol(), tmp_path / "whole")
    output = tmp_path / "run"
    run_protocol(ethanol, model, protocol(steps=170), output)
    newest = state_files(output)[0]
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    run = run_protocol(ethanol, model, protocol(), output, restart=True)
    assert run.summary.restarted_at_step == 100
    assert steps_of(output) == [50, 100, 150, 200]
    assert np.array_equal(frames(output), frames(tmp_path / "whole"))
    assert "damaged" in (output / "md.log").read_text()


def test_a_restart_refuses_what_changed(ethanol, make_model, tmp_path):
    model, output = make_model(ethanol), tmp_path / "run"
    run_protocol(ethanol, model, protocol(), output)
    before = (output / "thermo.csv").read_bytes()
    with pytest.raises(RunDirectoryError, match=r"these differ: timestep: 0\.5 -> 1\.0; seed: 0 -> 4"):
        run_protocol(ethanol, model, protocol(timestep=1.0, seed=4), output, restart=True)
    with pytest.raises(RunDirectoryError, match="these differ: model: sha256"):
        run_protocol(ethanol, make_model(ethanol, "other.pt", limit=9.0), protocol(), output, restart=True)
    moved = ethanol.copy()
    moved.positions[0] += 0.01
    with pytest.raises(RunDirectoryError, match="these differ: structure: sha256"):
        run_protocol(moved, model, protocol(), output, restart=True)
    with pytest.raises(ConfigError, match=r"steps=150 is .* already has 200"):
        run_protocol(ethanol, model, protocol(steps=150), output, restart=True)
    with pytest.raises(RunDirectoryError, match=r"holds no summary\.json|no such directory"):
        run_protocol(ethanol, model, protocol(), tmp_path / "empty", restart=True)
    assert (output / "thermo.csv").read_bytes() == before
    assert not (tmp_path / "empty").exists()


def test_another_run_is_never_overwritten(ethanol, make_model, tmp_path):
    model, output = make_model(ethanol), tmp_path / "run"
    run_protocol(ethanol, model, protocol(), output)
    (output / "notes.txt").write_text("mine")
    with pytest.raises(RunDirectoryError, match="already holds a molecular dynamics run"):
        run_protocol(ethanol, model, protocol(), output)
    run_protocol(ethanol, model, protocol(steps=40, trajectory_format="xtc"), output, force=True)
    assert (output / "notes.txt").read_text() == "mine"
    assert not (output / "trajectory.dcd").exists()
    assert [path.name for path in state_files(output)] == ["state-000000040.npz", "state-000000000.npz"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_breaking_bond_stops_the_run(engine, ethanol, make_model, tmp_path):
    model, output = make_model(ethanol, first_bond=-3.0), tmp_path / "run"
    with pytest.raises(UnphysicalError, match=r"bond C0-C1 is .* the unphysical frame is in stopped\.extxyz") as caught:
        run_protocol(ethanol, model, protocol(engine=engine, steps=100_000), output)
    assert "\n" not in str(caught.value)
    summary = json.loads((output / "summary.json").read_text())
    stop = summary["stop"]
    assert (summary["result"], stop["rule"], stop["limit"]) == ("stopped", "bond", 0.5)
    assert stop["atoms"] == [{"index": 0, "element": "C"}, {"index": 1, "element": "C"}]
    assert stop["value"] > 0.5
    assert stop["step"] == summary["steps_done"]
    assert len(frames(output)) == (stop["step"] - 1) // 20  # every whole frame before the break
    broken = read(output / "stopped.extxyz")
    start = read(output / "start.extxyz")
    assert abs(broken.get_distance(0, 1) - start.get_distance(0, 1)) == pytest.approx(stop["value"], abs=1e-6)
    with pytest.raises(RunDirectoryError, match=r"stop rules ended the run .*bond C0-C1.* cannot be continued"):
        run_protocol(ethanol, model, protocol(engine=engine, steps=100_000), output, restart=True)


@pytest.mark.parametrize("engine", ENGINES)
def test_nan_stops_the_run(engine, ethanol, make_model, tmp_path):
    longest = np.sort(ethanol.get_all_distances()[ethanol.get_all_distances() < 2.7])[-1]
    model = make_model(ethanol, limit=float(longest) + 0.05)
    with pytest.raises(UnphysicalError, match="is not a finite number"):
        run_protocol(ethanol, model, protocol(engine=engine, steps=100_000, trajectory_interval=2), tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["stop"]["rule"] == "nan"
    assert np.isfinite(frames(tmp_path / "run")).all()


def test_heat_stops_the_run(ethanol, make_model, tmp_path):
    with pytest.raises(UnphysicalError, match=r"temperature .* K is above 400 K"):
        run_protocol(ethanol, make_model(ethanol), protocol(stop=("temperature:400",), steps=20_000), tmp_path / "run")


def test_nothing_is_written_for_a_bad_start(ethanol, make_model, tmp_path):
    model, output = make_model(ethanol), tmp_path / "run"
    overlapping = ethanol.copy()
    overlapping.positions[4] = overlapping.positions[1] + [0.2, 0, 0]
    with pytest.raises(DataError, match=r"C1 and H4 are 0\.20 angstrom apart"):
        run_protocol(overlapping, model, protocol(), output)
    stretched = ethanol.copy()
    stretched.positions[0] += [20, 0, 0]
    with pytest.raises(DataError, match="eV/angstrom on atom C0"):
        run_protocol(stretched, make_model(ethanol, "far.pt", limit=100.0), protocol(), output)
    with pytest.raises(ModelFileError, match="no such file"):
        run_protocol(ethanol, tmp_path / "missing.pt", protocol(), output)
    truncated = tmp_path / "truncated.pt"
    truncated.write_bytes(model.read_bytes()[:1000])
    with pytest.raises(ModelFileError, match="damaged"):
        run_protocol(ethanol, truncated, protocol(), output)
    assert not output.exists()


def test_a_large_force_at_the_start_is_a_warning(ethanol, make_model, tmp_path):
    model = make_model(ethanol)
    ethanol.positions[3] *= 1.2
    run_protocol(ethanol, model, protocol(steps=1), tmp_path / "run")
    assert "WARNING start structure: force of" in (tmp_path / "run" / "md.log").read_text()


def test_sigterm_writes_a_state_first(ethanol, make_model, tmp_path):
    model, output = make_model(ethanol), tmp_path / "run"
    before = signal.getsignal(signal.SIGTERM)
    kill = threading.Timer(0.0, os.kill, (os.getpid(), signal.SIGTERM))

    def progress(now):
        if not kill.ident:
            kill.start()

    run = run_protocol(ethanol, model, protocol(steps=10_000_000), output, progress=progress)
    assert signal.getsignal(signal.SIGTERM) is before
    done = run.summary.steps_done
    assert (run.summary.result, run.completed) == ("interrupted", False)
    assert state_files(output)[0].name == f"state-{done:09d}.npz"
    total = done + 100
    again = run_protocol(
        ethanol, model, protocol(steps=10_000_000).model_copy(update={"steps": total}), output, restart=True
    )
    assert again.completed
    assert len(frames(output)) == total // 20


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_trained_file_is_exported_into_the_run(engine, ethanol, tmp_path):
    model, output = trained_file(tmp_path / "model.pt"), tmp_path / "run"
    run = run_protocol(ethanol, model, protocol(engine=engine, steps=20, temperature=50), output)
    assert run.summary.model.path == str(model)
    assert run.summary.model.info["target"] == "openmm"
    written = read_exported_info(output / "exported.pt")
    del written["check"], written["sha256"]  # left out of the summary
    assert written == run.summary.model.info
    again = run_protocol(ethanol, model, protocol(engine=engine, steps=40, temperature=50), output, restart=True)
    assert (again.completed, again.summary.restarted_at_step) == (True, 20)
    unknown = ethanol.copy()
    unknown.numbers[0] = 14
    with pytest.raises(ElementError, match="Si"):
        run_protocol(unknown, model, protocol(engine=engine), tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("pbc", [(True, True, False), (False, False, True)])
def test_slabs_and_wires_run_with_a_trained_file(pbc, exports, tmp_path):
    slab = fcc111("C", (2, 2, 3), a=4.5, vacuum=6)
    slab.pbc = pbc
    model, output = exports.trained(), tmp_path / "run"
    run = run_protocol(slab, model, protocol(engine="ase", ensemble="nve", steps=2, temperature=50), output)
    assert (run.summary.steps_done, run.summary.model.info["target"]) == (2, "general")
    with pytest.raises(EngineError, match=r"OpenMM supports boxes .*: choose engine='ase'"):
        run_protocol(slab, model, protocol(steps=2), tmp_path / "openmm")


@pytest.mark.slow
def test_a_real_network_gives_the_same_forces_everywhere(ethanol, exports):
    model = exports.openmm()
    ethanol.rattle(0.05, seed=1)
    reference = ASEEngine(model, ethanol, protocol()).forces()
    assert np.abs(reference).max() > 0.1
    python = OpenMMForce(python_force(load_exported(model), ethanol.numbers), "PythonForce", "asked for")
    for engine in (OpenMMEngine(model, ethanol, protocol()), OpenMMEngine(model, ethanol, protocol(), force=python)):
        assert np.abs(engine.forces() - reference).max() < 1e-4


def test_a_run_that_goes_on_is_neither_replaced_nor_continued(ethanol, make_model, tmp_path):
    model, protocol = make_model(ethanol), MDProtocol.of(steps=20, state_interval=10)
    run_protocol(ethanol, model, protocol, tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    longer = MDProtocol.of(steps=40, state_interval=10)
    with locked(tmp_path / "run"):
        for option in ("force", "restart"):
            with pytest.raises(RunDirectoryError, match="another process is using this directory"):
                run_protocol(ethanol, model, longer, tmp_path / "run", **{option: True})
    assert {path: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_the_last_line_names_recorded_violations():
    summary = MDSummary(
        system={"name": "ethanol"},
        ensemble="nve",
        temperature_K=300.0,
        timestep_fs=0.5,
        steps_requested=100,
        steps_done=100,
        trajectory_interval=10,
        result="completed",
    )
    assert "100 steps (0.05 ps), no stop rule violated; " in verdict(summary)
    summary.violations.append(ViolationRecord(rule="extrapolation", step=20, advisory=True))
    assert "recorded in summary.json: extrapolation (first at step 20); " in verdict(summary)
    assert "no stop rule" not in verdict(summary)
