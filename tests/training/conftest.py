"""A small labeled data set: water in an analytic force field, exact and quick."""

import numpy as np
import pytest
import torch

from piwsl.data.batch import collate
from piwsl.training.config import load_config
from tests.support.molecules import PairPotential, frame

MORSE = PairPotential(lambda r: 4.0 * (1.0 - torch.exp(-1.5 * (r - 1.0))) ** 2)


@pytest.fixture(scope="session")
def water_file(tmp_path_factory):
    """60 frames of water with exact energies and forces of a Morse force field, eV and angstrom."""
    frames = [frame("H2O", rattle=0.08, seed=seed) for seed in range(60)]
    prediction = MORSE(collate(frames, 8.0, torch.float64))
    path = tmp_path_factory.mktemp("data") / "water.npz"
    np.savez(
        path,
        nuclear_charges=frames[0].species,
        coords=[f.positions for f in frames],
        energies=prediction.energies.numpy() - 2000.0,
        forces=prediction.forces.numpy().reshape(60, 3, 3),
        units="eV, angstrom",
    )
    return path


@pytest.fixture(scope="session")
def small(water_file):
    """A configuration of a few seconds, with further settings as arguments."""

    def configure(*overrides):
        return load_config(
            None,
            [
                f"data.file={water_file}",
                "data.validation=10",
                "data.test=10",
                "model.channels=8",
                "model.layers=1",
                "model.cutoff=3.0",
                "model.zbl=false",  # the Morse force field has no nuclear repulsion
                "loss.pitc=1",  # so that displaced copies are a part of every test
                "loss.pisc=0.01",
                "optimizer.steps=60",
                "optimizer.batch_size=5",
                "optimizer.validation_interval=20",
                "optimizer.warmup=5",
                "optimizer.learning_rate=5e-3",
                "threads=1",
                *overrides,
            ],
        )

    return configure
