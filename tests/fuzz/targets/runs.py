"""Run directories, their trajectories, states, statistics, analyses and settings."""

import hashlib
import json
import shutil
import tempfile
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from ase.build import bulk

from piwsl.analysis.analysis_file import read_analysis
from piwsl.analysis.analyze import analyze
from piwsl.analysis.reference import Reference, read_reference
from piwsl.analysis.reference_statistics import read_reference_statistics
from piwsl.analysis.run_directory import read_run, replica_directories
from piwsl.data.labeling.single_point import SinglePoint
from piwsl.data.labeling.structures import LabelStore
from piwsl.data.reference_energies import read_reference_energies
from piwsl.export.trained_file import member_models
from piwsl.learning.directory import LearnSummary
from piwsl.learning.settings import load_learn_settings
from piwsl.learning.settings import template as learn_template
from piwsl.md.job import RunIdentity
from piwsl.md.progress import read_progress
from piwsl.md.protocol import MDProtocol
from piwsl.md.restart import RestartState, read_state, write_state
from piwsl.md.run_directory import read_start, write_structure
from piwsl.training.config import load_config, template
from piwsl.training.stored_split import stored_split
from piwsl.training.tuning.results import all_results
from piwsl.training.tuning.settings import TuneConfig, load_settings
from piwsl.training.tuning.study import STUDY_FILE, damage_as_error, open_study
from piwsl.trajectories.files import create_trajectory, read_trajectory
from piwsl.trajectories.frame_writer import OutputFrame
from tests.fuzz.harness import Target
from tests.fuzz.mutations import BYTES, JSON, TEXT, ZIP
from tests.support import run_directories as support

FRAMES = 12
COPPER = bulk("Cu", cubic=True)
CELLS = np.repeat(COPPER.cell.array[None], FRAMES, axis=0)
IDENTITY = RunIdentity(MDProtocol.of(engine="openmm", replicas=2), "a" * 64, "b" * 64)
STATE = f"state-{10 + IDENTITY.protocol.equilibration:09d}.npz"


def _digest(*values: Any) -> str:
    digest = hashlib.sha256()
    for value in values:
        digest.update(value.tobytes() if isinstance(value, np.ndarray) else str(value).encode())
    return digest.hexdigest()


def _copper(path: Path) -> None:
    """Write a trajectory of copper in a format of piwsl, or in one of mdtraj."""
    noise = np.random.default_rng(0).normal(size=(FRAMES, len(COPPER), 3))
    positions = COPPER.positions + 0.05 * noise
    kind = path.suffix[1:]
    if kind in ("dcd", "xtc", "extxyz", "hdf5"):
        writer = create_trajectory(path, COPPER, MDProtocol.of(trajectory_format=kind))
        for number, place in enumerate(positions):
            writer.write(OutputFrame(number, 50.0 * number, place, CELLS[0]))
        writer.close()
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mdtraj writes NetCDF through scipy, and says so
        support.write_trajectory(path, positions, COPPER.numbers, CELLS)


def _topology(folder: Path) -> None:
    support.write_trajectory(folder / "topology.pdb", COPPER.positions[None], COPPER.numbers, CELLS[:1])


def _trajectory(path: Path) -> str:
    found = read_trajectory(path, path.with_name("topology.pdb"))
    return _digest(found.positions, found.times)


@lru_cache
def _run_directory() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="piwsl-tests-"))
    run = support.write_run(folder / "run", support.shaking(FRAMES, seed=0))
    write_structure(run / "start.extxyz", support.ETHANOL)
    return run


def _beside(folder: Path) -> None:
    shutil.copytree(_run_directory(), folder, dirs_exist_ok=True)


def _of_run(path: Path) -> None:
    shutil.copy(_run_directory() / path.name, path)


def _analyzed(path: Path) -> str:
    run = read_run(path.parent)
    replica_directories(path.parent)
    read_progress(path.parent)
    read_start(path.parent)
    return _digest(run.species, run.times, run.name, run.frames.all(), run.thermo and run.thermo.total)


def _state(path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {"positions": rng.normal(size=(9, 3)), "velocities": rng.normal(size=(9, 3))}
    written = write_state(path.parent, RestartState(10, IDENTITY, arrays))
    assert written == path


def _read_state(path: Path) -> str:
    state = read_state(path, 9)
    return _digest(*state.engine.values(), state.step, state.rules, state.identity)


def _statistics(path: Path) -> None:
    frames = support.shaking(60, seed=1)
    reference = Reference.of_frames("mine", support.ETHANOL.numbers, frames, 50.0 * np.arange(60))
    reference.save_statistics(path)


def _read_statistics(path: Path) -> str:
    found = read_reference_statistics(path)
    return _digest(found.species, found.start, found.frames, found.digest, found.bonds.lengths)


@lru_cache
def _analysis_text() -> str:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "analysis"
        run = _run_directory()
        topology = run / "topology.pdb"
        analyze(run, reference=run / "trajectory.dcd", reference_topology=topology, output=output, report=False)
        return (output / "analysis.json").read_text()


def _analysis(path: Path) -> None:
    path.write_text(_analysis_text())


def _read_analysis(path: Path) -> str:
    return _digest(*read_analysis(path))


def _learn_summary(path: Path) -> None:
    summary = LearnSummary(name="ethanol", formula="C2H6O", budget=50, labels=10, result="completed")
    path.write_text(summary.model_dump_json(indent=1))


def _reference(path: Path) -> str:
    reference = read_reference(path)
    return _digest(reference.species, reference.frames.all(), reference.times)


def _coordinates(path: Path) -> None:
    np.savez(path, z=support.ETHANOL.numbers, R=support.shaking(FRAMES, seed=0))


@lru_cache
def _labels() -> dict[int, SinglePoint]:
    rng = np.random.default_rng(0)
    return {index: SinglePoint(float(rng.normal()), rng.normal(size=(3, 3)), None) for index in range(8)}


def _store(path: Path) -> None:
    store = LabelStore(path)
    for index, labels in _labels().items():
        store.add(index, labels)


def _read_store(path: Path) -> str:
    """Read the labels that are there: a killed job leaves an incomplete last line, which is dropped."""
    content = path.read_bytes()
    store, expected = LabelStore(path), _labels()
    for index in range(8):
        found = store.labels(index)
        assert found is None or (found.energy == expected[index].energy and found.forces is not None), "another energy"
        assert found is None or np.array_equal(found.forces, expected[index].forces), "other forces"
    path.write_bytes(content)
    return ""


def _text(content: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(content) and None


def _read_config(path: Path) -> str:
    return str(load_config(path))


def _read_tuning(path: Path) -> str:
    return str(load_settings(path))


def _read_learning(path: Path) -> str:
    return str(load_learn_settings(path))


def _protocol(path: Path) -> None:
    MDProtocol.of(engine="openmm", replicas=2).save(path)


def _members(folder: Path) -> None:
    (folder / "member").mkdir()
    (folder / "member" / "model.pt").touch()


def _ensemble(path: Path) -> None:
    path.write_text(json.dumps({"members": [{"directory": "member"}, {"directory": "member"}]}))


def _read_ensemble(path: Path) -> str:
    return str([model.name for model in member_models(path.parent)])


def _split(path: Path) -> None:
    split = {"train": [0, 2], "validation": [1], "test": [3, 4], "levels": {"low": [5]}, "sha256": {"data": "a" * 64}}
    path.write_text(json.dumps(split))


def _tune_settings() -> TuneConfig:
    return TuneConfig.model_validate(
        {"trials": 3, "metric": "loss", "ranges": {"loss.pitc": {"low": 0.0, "high": 1.0}}}
    )


@lru_cache
def _study_content() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        study = open_study(_tune_settings(), Path(folder), {"a": 1})
        study.add_trial(optuna.trial.create_trial(values=[1.0], params={}, distributions={}))
        return (Path(folder) / STUDY_FILE).read_bytes()


def _study(path: Path) -> None:
    path.write_bytes(_study_content())


def _read_study(path: Path) -> str:
    """Read a copy, because a database is also written to."""
    settings = _tune_settings()
    with tempfile.TemporaryDirectory(dir=path.parent / "tmp") as folder:
        shutil.copy(path, folder)
        study = open_study(settings, Path(folder), {"a": 1})
        with damage_as_error(settings):
            return str([result.value for result in all_results(study, settings.metric)])


def _read_energies(path: Path) -> str:
    return str(read_reference_energies(path, None, 5.0))


def _aliases(path: Path) -> None:
    """Nine levels of ten aliases: a thousand million values."""
    lines = ["a0: &a0 [x]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 10)]
    path.write_text("\n".join(lines))


def _deep(path: Path) -> None:
    path.write_text("[" * 200_000)


def _deep_json(path: Path) -> None:
    path.write_text('{"a":' * 200_000)


TUNING = """\
data: {train: 10}
tune:
  trials: 5
  metric: force_mae
  ranges:
    loss.pitc: {low: 0.01, high: 10.0, log: true}
"""
YAML = {"aliases": _aliases, "deep": _deep}
TARGETS = [
    *(
        Target(f"trajectory-{kind}", f"a.{kind}", _copper, _trajectory, mutations, beside=_topology, seconds=seconds)
        for kind, mutations, seconds in (
            ("dcd", BYTES, 0.1),
            ("xtc", BYTES, 2),
            ("extxyz", TEXT, 0.1),
            ("hdf5", BYTES, 3),
            ("trr", BYTES, 2),
            ("nc", BYTES, 2),
            ("mdcrd", TEXT, 2),
            ("pdb", TEXT, 2),
            ("gro", TEXT, 2),
        )
    ),
    Target("run-summary", "summary.json", _of_run, _analyzed, JSON, {"deep": _deep_json}, beside=_beside),
    Target("run-thermo", "thermo.csv", _of_run, _analyzed, TEXT, beside=_beside),
    Target("run-topology", "topology.pdb", _of_run, _analyzed, TEXT, beside=_beside),
    Target("run-start", "start.extxyz", _of_run, _analyzed, TEXT, beside=_beside),
    Target("reference", "a.npz", _coordinates, _reference, ZIP),
    Target("labels", "labels.jsonl", _store, _read_store, BYTES),
    Target("state", STATE, _state, _read_state, ZIP, sealed=True),
    Target("statistics", "a.npz", _statistics, _read_statistics, ZIP, sealed=True),
    Target("analysis", "analysis.json", _analysis, _read_analysis, JSON, {"deep": _deep_json}, seconds=2),
    Target("learn-summary", "summary.json", _learn_summary, lambda path: str(LearnSummary.read(path.parent)), JSON),
    Target("ensemble", "ensemble.json", _ensemble, _read_ensemble, JSON, beside=_members),
    Target("split", "split.json", _split, lambda path: str(stored_split(path)), JSON, {"deep": _deep_json}),
    Target("protocol", "a.yaml", _protocol, lambda path: str(MDProtocol.load(path)), TEXT, YAML),
    Target("study", STUDY_FILE, _study, _read_study, BYTES, seconds=0.5),
    Target("configuration", "a.yaml", _text(template()), _read_config, TEXT, YAML),
    Target("tuning", "a.yaml", _text(TUNING), _read_tuning, TEXT, YAML),
    Target("learning", "a.yaml", _text(learn_template()), _read_learning, TEXT, YAML),
    Target("energies", "a.json", _text(json.dumps({"H": -13.6, "O": -2042.0})), _read_energies, JSON, YAML),
]
