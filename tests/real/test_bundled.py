"""The bundled aspirin: it is what its README says, and its model is as good as promised."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from piwsl import PiwslCalculator
from piwsl.analysis import bundled_reference
from piwsl.cli.main import run
from piwsl.data.frames import Frame
from piwsl.data.inspect import inspect_frames
from piwsl.data.labeling.calculators import reference_calculator
from piwsl.data.read import read_frames
from piwsl.data.systems import RESOURCES, named_system
from piwsl.export.exported_file import load_exported
from piwsl.export.exporter import Exporter
from piwsl.export.trained_file import load_trained
from piwsl.training.evaluate import evaluate_potential

pytestmark = pytest.mark.slow

ASPIRIN = named_system("aspirin")


def test_size_of_the_resources():
    assert sum(path.stat().st_size for path in RESOURCES.iterdir()) < 8 * 2**20


def test_frames():
    train, test = read_frames(ASPIRIN.train), read_frames(ASPIRIN.test)
    assert (len(train), len(test)) == (2000, 1000)
    for frames in (train, test):
        report = inspect_frames(frames)
        assert report.formulas == {"C9H8O4": len(frames)}
        assert report.energies == report.forces == len(frames)
        assert report.warnings == []
    closest = np.abs(test[0].positions - np.stack([frame.positions for frame in train])).max((1, 2)).min()
    assert closest > 0.05  # test frames come from other trajectories


@pytest.mark.parametrize("index", [0, 700])
def test_labels_are_those_of_the_method(index):
    frame = read_frames(ASPIRIN.test)[index]
    atoms = frame.atoms()
    atoms.calc = reference_calculator("gfn2-xtb")
    assert frame.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-4)
    assert np.allclose(frame.forces, atoms.get_forces(), atol=1e-3)


def test_the_structure_is_a_minimum_of_the_method():
    atoms = ASPIRIN.structure
    atoms.calc = reference_calculator("gfn2-xtb")
    assert np.abs(atoms.get_forces()).max() < 0.006


def test_reference_trajectory():
    reference = bundled_reference("aspirin")
    assert reference.frames.all().shape == (5000, 21, 3)
    assert reference.times is not None
    assert float(np.diff(reference.times).mean()) == pytest.approx(20.0)
    assert reference.species.tolist() == ASPIRIN.structure.numbers.tolist()
    positions = reference.frames.all()
    lengths = np.linalg.norm(positions[:, 0] - positions[:, 1], axis=1)
    assert 1.3 < lengths.mean() < 1.7


def test_errors_of_the_model():
    model = load_trained(ASPIRIN.model)
    frames = read_frames(ASPIRIN.test)
    errors = evaluate_potential(model.potential(), frames.select(range(0, 1000, 5)), model.config.cutoff, torch.float32)
    assert errors.force_mae is not None
    assert errors.force_mae < 0.040
    assert model.training["loss"]["pitc"] > 0


def test_exported_forms_and_ase_agree_with_the_model(tmp_path):
    model = load_trained(ASPIRIN.model)
    Exporter([ASPIRIN.model]).general(tmp_path / "general.pt")
    frame = read_frames(ASPIRIN.test)[123]
    forces = {}
    for name, path in (("openmm", ASPIRIN.exported), ("general", tmp_path / "general.pt")):
        atoms = frame.atoms()
        atoms.calc = PiwslCalculator(path)
        forces[name] = atoms.get_forces()
    double = model.potential(dtype="float64")
    forces["eager"] = _eager_forces(double, frame, model.config.cutoff)
    for name in ("openmm", "general"):
        assert np.abs(forces[name] - forces["eager"]).max() < 1e-4
    assert load_exported(ASPIRIN.exported).info["trained_sha256"] == [_sha(ASPIRIN.model)]


def _eager_forces(potential, frame: Frame, cutoff: float):
    from piwsl.data.batch import collate

    batch = collate([frame], cutoff, torch.float64)
    _, forces = potential(
        batch.species, batch.positions, batch.edges, batch.edge_shifts, batch.structure_index, batch.n_structures
    )
    return forces.numpy()


def _sha(path: Path) -> str:
    from piwsl.runs.files import sha256

    return sha256(path)


def test_from_md_to_report_and_energy_is_conserved(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    _piwsl(
        "md", "--system", "aspirin", "--ensemble", "nve", "--temperature", "300", "--steps", "2000",
        "--report-interval", "10", "--output", "run",
    )  # fmt: skip
    summary = json.loads(Path("run/summary.json").read_text())
    assert (summary["force"], summary["result"], summary["steps_done"]) == ("TorchForce", "completed", 2000)
    _piwsl("analyze", "run")
    figures = json.loads(Path("run/analysis/analysis.json").read_text())
    assert figures["stable"] is True
    assert Path("run/analysis/report.html").stat().st_size > 10_000
    assert "Stable" in capsys.readouterr().out
    rows = np.loadtxt("run/thermo.csv", delimiter=",", skiprows=1)
    drift = np.polyfit(rows[:, 1], rows[:, 4], 1)[0] * 10.0 / 21  # eV/atom in 10 ps
    assert abs(drift) < 1e-3


def _piwsl(*arguments) -> None:
    with pytest.raises(SystemExit) as stop:
        run([str(argument) for argument in arguments])
    assert not stop.value.code
