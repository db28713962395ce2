"""Real data sets of the field, read from beside the repository; skipped where they are absent."""

import pytest

from piwsl.data.inspect import inspect_frames
from piwsl.data.read import read_frames
from piwsl.training.config import load_config
from piwsl.training.run import run_training
from piwsl.units import parse_units

pytestmark = pytest.mark.real


@pytest.mark.slow
def test_rmd17_trains_by_naming_the_file_and_its_units(real_data, tmp_path):
    """A few steps from random weights already beat predicting no force at all (about 990 meV/A)."""
    config = load_config(
        None,
        [
            f"data.file={real_data / 'rmd17_aspirin.npz'}",
            "data.units=kcal/mol",
            "data.train=200",
            "data.validation=20",
            "data.test=50",
            "model.channels=16",
            "model.layers=2",
            "optimizer.steps=60",
            "optimizer.batch_size=5",
            "optimizer.validation_interval=20",
            "optimizer.learning_rate=5e-3",
            "optimizer.warmup=10",
            "loss.cadence=10",
            "threads=1",
        ],
    )
    result = run_training(config, tmp_path / "run")
    assert result.test is not None
    assert result.test.force_mae < 0.6


@pytest.mark.parametrize(
    ("name", "units", "frames", "elements"),
    [
        ("rmd17_aspirin.npz", "kcal/mol", 2050, ["H", "C", "O"]),
        ("aspirin_ccsd.npz", "kcal/mol, angstrom", 700, ["H", "C", "O"]),
        ("lmnto.extxyz.gz", None, 600, ["Li", "O", "Ti", "Ni", "Mo"]),
    ],
)
def test_sets_are_read_and_found_sane(real_data, name, units, frames, elements):
    read = read_frames(real_data / name, parse_units(units) if units else None)
    report = inspect_frames(read)
    assert (report.frames, report.energies, report.forces) == (frames, frames, frames)
    assert report.elements == elements
    assert report.warnings == []


def test_wrong_units_are_noticed(real_data):
    report = inspect_frames(read_frames(real_data / "rmd17_aspirin.npz", parse_units("eV")))
    assert len(report.warnings) == 2


def test_periodic_cells_train(real_data, tmp_path):
    config = load_config(
        None,
        [
            f"data.file={real_data / 'lmnto.extxyz.gz'}",
            "data.train=8",
            "data.validation=4",
            "model.channels=8",
            "model.layers=1",
            "model.cutoff=4.0",
            "optimizer.steps=4",
            "optimizer.batch_size=2",
            "optimizer.validation_interval=2",
            "threads=1",
        ],
    )
    result = run_training(config, tmp_path / "run")
    assert result.validation.force_mae is not None
