"""Training on structures of several charges."""

import logging
from dataclasses import replace

import numpy as np
import pytest

from piwsl.data.frames import FrameSet
from piwsl.data.read import read_frames
from piwsl.data.write import write_frames
from piwsl.errors import DataError
from piwsl.export.trained_file import load_trained
from piwsl.training.data import training_frames
from piwsl.training.evaluation import evaluate
from piwsl.training.run import run_training

CHARGES = (0.0, 1.0, -1.0)
SHIFT = 2.0  # eV, what a charge adds to the energies


@pytest.fixture(scope="module")
def charged_file(water_file, tmp_path_factory):
    """Water whose energy depends on its charge; the third charge is that of every third frame."""
    frames = [
        replace(frame, energy=frame.energy + SHIFT * charge, charge=charge, unpaired_electrons=abs(charge))
        for frame, charge in zip(read_frames(water_file), CHARGES * 20, strict=True)
    ]
    path = tmp_path_factory.mktemp("charged") / "charged.h5"
    write_frames(FrameSet(frames), path)
    return path


@pytest.mark.slow
def test_mixed_charges_in_one_batch_are_learned(small, charged_file, tmp_path):
    overrides = (f"data.file={charged_file}", "loss.energy=10", "loss.forces=1", "optimizer.steps=100")
    config = small(*overrides, "model.charge_embedding=true", "optimizer.learning_rate=2e-2")
    frames = training_frames(config)
    assert not any("ignores" in warning for warning in frames.report.warnings)
    run_training(config, tmp_path / "run")
    model = load_trained(tmp_path / "run" / "model.pt")
    assert model.domain.charges == [-1.0, 0.0, 1.0]
    assert model.domain.unpaired_electrons == [0.0, 1.0]
    assert model.domain.default_charge == (0.0, 0.0)
    assert all(frame.charge in CHARGES for frame in model.check_frames)
    # Without the charge as input, the error of an energy could not fall below 2/3 of the shift.
    assert evaluate(tmp_path / "run", charged_file).errors.energy_mae < 0.3 * SHIFT


@pytest.mark.slow
def test_a_network_that_ignores_the_charge_says_so_once(small, charged_file, tmp_path, caplog):
    config = small(f"data.file={charged_file}", "optimizer.steps=20", "loss.pitc=0", "loss.pisc=0")
    with caplog.at_level(logging.INFO, "piwsl"):
        run_training(config, tmp_path / "run")
    train = len(training_frames(config).train)
    lines = [line for line in caplog.text.splitlines() if "which network painn ignores" in line]
    assert len(lines) == 1
    assert f"of {train} training frames have a charge (-1, +1) and unpaired electrons (1)" in lines[0]
    model = load_trained(tmp_path / "run" / "model.pt")
    assert model.domain.charges == [-1.0, 0.0, 1.0]
    assert model.domain.default_charge is None


@pytest.mark.slow
def test_evaluation_compares_the_charges(small, charged_file, tmp_path):
    frames = read_frames(charged_file)
    neutral = tmp_path / "neutral.h5"
    write_frames(FrameSet([frame for frame in frames if frame.charge == 0.0]), neutral)
    config = small(
        f"data.file={neutral}", "data.validation=3", "data.test=3", "optimizer.steps=5", "model.charge_embedding=true"
    )
    run_training(config, tmp_path / "run")
    with pytest.raises(DataError, match=r"frame 1: the structure has a charge of \+1"):
        evaluate(tmp_path / "run", charged_file, strict=True)
    evaluate(tmp_path / "run", neutral, strict=True)


def test_structures_that_state_nothing_count_as_the_default(charged_file):
    from piwsl.data.domain import TrainingDomain

    frames = read_frames(charged_file)
    cations = FrameSet([replace(frame, charge=1.0, unpaired_electrons=1.0) for frame in frames][:3])
    atoms = replace(frames[0], charge=np.nan, unpaired_electrons=np.nan).atoms()
    taking = TrainingDomain.of(cations, 3.0, default_charge=(0.0, 0.0))
    assert taking.charges == [1.0]
    concerns = taking.concerns(atoms)
    assert "states no charge, which is read as 0, which does not occur" in concerns["charge"]
    assert "states no spin, which is read as 0 unpaired electrons" in concerns["spin"]
    ignoring = TrainingDomain.of(cations, 3.0)
    assert not {"charge", "spin"} & set(ignoring.concerns(atoms))
    assert "is neutral" in ignoring.concerns(frames[0].atoms())["charge"]
    plain = FrameSet([replace(frame, charge=np.nan, unpaired_electrons=np.nan) for frame in frames][:3])
    assert TrainingDomain.of(plain, 3.0).charges is None
    assert TrainingDomain.of(plain, 3.0, default_charge=(1.0, 1.0)).charges == [1.0]
    assert "charges            +1 e" in taking.lines()
