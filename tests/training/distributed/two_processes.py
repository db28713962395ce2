"""What `test_parallel` lets torchrun start twice: train, resume, and fail in one of the two."""

import sys
from pathlib import Path

from piwsl.cli.main import run
from piwsl.errors import DataError
from piwsl.losses import Objective
from piwsl.training.config import load_config
from piwsl.training.distributed.processes import launched_processes
from piwsl.training.run import run_training

folder = Path(sys.argv[1])
config = load_config(folder / "config.yaml")
run_training(config, folder / "two")
run_training(config, folder / "broken", resume=True)

original = Objective.__call__


def failing(self, potential, batch, randomness, *mean):
    if launched_processes().rank == 1 and randomness.step == 2:
        raise DataError("water.h5: frame 3 is damaged")
    return original(self, potential, batch, randomness, *mean)


Objective.__call__ = failing
run(["train", str(folder / "config.yaml"), "--output", str(folder / "failed")])
