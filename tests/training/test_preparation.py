"""Preparation of a run: what decides in validation, and the elements of a network with a list of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import piwsl
from piwsl.data.frames import FrameSet
from piwsl.errors import ConfigError
from piwsl.export.trained_file import load_trained
from piwsl.training.data import training_frames
from piwsl.training.distributed.processes import Processes
from piwsl.training.frames import LabelCounts
from piwsl.training.preparation import prepare
from piwsl.training.run import run_training


def judged(config, tmp_path, frames=None):
    task = prepare(config, frames or training_frames(config), tmp_path / "run", Processes(), torch.device("cpu")).task
    return {weighted.term.name: weighted.at(config.optimizer.steps) for weighted in task.validated.terms}


def test_validation_follows_the_labels_of_training_or_one_error(small, tmp_path):
    assert judged(small(), tmp_path) == {"energy": 1.0, "forces": 100.0}
    assert judged(small("data.forces_fraction=0"), tmp_path) == {"energy": 1.0}
    assert judged(small("optimizer.monitor=energy"), tmp_path) == {"energy": 1.0}
    assert judged(small("optimizer.monitor=forces"), tmp_path) == {"forces": 1.0}
    # Energies decide although they are not trained.
    assert judged(small("optimizer.monitor=energy", "loss.energy=0"), tmp_path) == {"energy": 1.0}


def test_labels_that_are_hidden_or_absent_cannot_decide(small, tmp_path):
    with pytest.raises(ConfigError, match=r"optimizer\.monitor: forces: no training frame has forces: set it to loss"):
        run_training(small("optimizer.monitor=forces", "data.forces_fraction=0"), tmp_path / "run")
    config = small("optimizer.monitor=energy")
    frames = training_frames(config)
    hidden = FrameSet([replace(one, energy=np.nan) for one in frames.validation])
    frames = replace(frames, validation=hidden, labels={**frames.labels, "validation": LabelCounts.of(hidden)})
    with pytest.raises(ConfigError, match="no validation frame has an energy"):
        judged(config, tmp_path, frames)


@pytest.mark.slow
def test_training_stops_early_on_the_error_that_decides(small, tmp_path):
    """Energies that cannot be learned stop training; the forces alone would have improved further."""
    config = small("optimizer.steps=400", "optimizer.patience=1", "optimizer.validation_interval=10", "loss.energy=0")
    config = config.model_copy(update={"model": config.model.model_copy(update={"radial_size": 20})})
    config = config.model_copy(update={"loss": config.loss.model_copy(update={"pitc": 0.0, "pisc": 0.0})})
    steps = {}
    for monitor in ("energy", "forces"):
        optimizer = config.optimizer.model_copy(update={"monitor": monitor})
        frames = training_frames(config)
        random = np.random.default_rng(0)
        noise = FrameSet([replace(one, energy=one.energy + 5 * random.standard_normal()) for one in frames.validation])
        reports = []
        run_training(
            config.model_copy(update={"optimizer": optimizer}),
            tmp_path / monitor,
            progress=reports.append,
            frames=replace(frames, validation=noise),
        )
        steps[monitor] = reports[-1].step
    assert steps["energy"] < steps["forces"]


def test_mace_has_the_elements_of_the_frames(water_file, tmp_path):
    tiny = {"channels": 4, "largest_degree": 1, "hidden_degrees": [0], "correlations": [2, 2], "radial_layers": [8]}
    config = {"model": {"network": "mace", **tiny}, "data": {"train": 40, "validation": 10}, "threads": 1}
    for steps, resume in ((2, False), (3, True)):
        options = {"optimizer.steps": steps, "optimizer.schedule": "constant"}
        run = piwsl.train(
            water_file, config=config, options=options, output=tmp_path / "run", resume=resume, progress=False
        )
        assert load_trained(run.model).config.options["elements"] == (1, 8)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ([], True),
        (["data.forces_fraction=0"], False),
        (["model.network=ace"], False),
        (["model.forces=direct"], False),
    ],
)
def test_a_better_network_for_few_labels_is_said(small, settings, said, tmp_path):
    config = small(*settings)
    prepared = prepare(config, training_frames(config), tmp_path / "run", Processes(), torch.device("cpu"))
    assert any("few labels: with 40 frames, model.network=ace" in fact for fact in prepared.facts) is said
