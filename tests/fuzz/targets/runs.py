"""Run directories and what jobs write into theirs: states, statistics, analyses, labels, summaries, splits."""

import atexit
import json
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from piwsl.analysis.analysis_file import read_analysis
from piwsl.analysis.analyze import analyze
from piwsl.analysis.reference import Reference, read_reference
from piwsl.analysis.reference_statistics import read_reference_statistics
from piwsl.analysis.run_directory import read_run, replica_directories
from piwsl.data.labeling.single_point import SinglePoint
from piwsl.data.labeling.structures import LabelStore
from piwsl.export.trained_file import member_models
from piwsl.learning.directory import LearnSummary
from piwsl.md.job import RunIdentity
from piwsl.md.progress import read_progress
from piwsl.md.protocol import MDProtocol
from piwsl.md.restart import RestartState, read_state, write_state
from piwsl.md.run_directory import read_start, write_structure
from piwsl.training.stored_split import stored_split
from tests.fuzz.digest import digest_of
from tests.fuzz.harness import Target
from tests.fuzz.mutations import BYTES, JSON, TEXT, ZIP
from tests.support import run_directories as support

FRAMES = 12
IDENTITY = RunIdentity(MDProtocol.of(engine="openmm", replicas=2), "a" * 64, "b" * 64)
STATE = f"state-{10 + IDENTITY.protocol.equilibration:09d}.npz"


@lru_cache
def _run_directory() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="piwsl-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
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
    return digest_of(run.species, run.times, run.name, run.frames.all(), run.thermo and run.thermo.total)


def _state(path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {"positions": rng.normal(size=(9, 3)), "velocities": rng.normal(size=(9, 3))}
    written = write_state(path.parent, RestartState(10, IDENTITY, arrays))
    assert written == path


def _read_state(path: Path) -> str:
    state = read_state(path, 9)
    return digest_of(*state.engine.values(), state.step, state.rules, state.identity)


def _statistics(path: Path) -> None:
    frames = support.shaking(60, seed=1)
    reference = Reference.of_frames("mine", support.ETHANOL.numbers, frames, 50.0 * np.arange(60))
    reference.save_statistics(path)


def _read_statistics(path: Path) -> str:
    found = read_reference_statistics(path)
    return digest_of(found.species, found.start, found.frames, found.digest, found.bonds.lengths)


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
    return digest_of(*read_analysis(path))


def _learn_summary(path: Path) -> None:
    summary = LearnSummary(name="ethanol", formula="C2H6O", budget=50, labels=10, result="completed")
    path.write_text(summary.model_dump_json(indent=1))


def _reference(path: Path) -> str:
    reference = read_reference(path)
    return digest_of(reference.species, reference.frames.all(), reference.times)


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


def deep_json(path: Path) -> None:
    path.write_text('{"a":' * 200_000)


TARGETS = [
    Target("run-summary", "summary.json", _of_run, _analyzed, JSON, {"deep": deep_json}, beside=_beside),
    Target("run-thermo", "thermo.csv", _of_run, _analyzed, TEXT, beside=_beside),
    Target("run-topology", "topology.pdb", _of_run, _analyzed, TEXT, beside=_beside),
    Target("run-start", "start.extxyz", _of_run, _analyzed, TEXT, beside=_beside),
    Target("reference", "a.npz", _coordinates, _reference, ZIP),
    Target("labels", "labels.jsonl", _store, _read_store, BYTES),
    Target("state", STATE, _state, _read_state, ZIP, sealed=True),
    Target("statistics", "a.npz", _statistics, _read_statistics, ZIP, sealed=True),
    Target("analysis", "analysis.json", _analysis, _read_analysis, JSON, {"deep": deep_json}, seconds=2),
    Target("learn-summary", "summary.json", _learn_summary, lambda path: str(LearnSummary.read(path.parent)), JSON),
    Target("ensemble", "ensemble.json", _ensemble, _read_ensemble, JSON, beside=_members),
    Target("split", "split.json", _split, lambda path: str(stored_split(path)), JSON, {"deep": deep_json}),
]
