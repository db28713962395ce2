"""The estimate of a step's memory against the memory of a real step."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from piwsl.errors import ConfigError
from piwsl.models.neighbor_sums.edge_list import use_neighbor_sums
from piwsl.models.training_loops import training_neighbor_sums
from piwsl.training.data import training_frames
from piwsl.training.data_checks import fitting_loss
from piwsl.training.distributed.processes import Processes
from piwsl.training.fit import Setup
from piwsl.training.loader import share_of_process
from piwsl.training.objective import build_objective
from piwsl.training.run import run_training
from piwsl.training.start import starting_potential
from piwsl.training.step_memory import StepMemory, step_memory


def estimate(config, processes=Processes()):  # noqa: B008
    frames = training_frames(config)
    share = share_of_process(config, frames, processes)
    setup = Setup(config, frames, Path("run"), processes, torch.device("cpu"), share)
    potential = starting_potential(config, frames).potential
    use_neighbor_sums(potential.network, training_neighbor_sums(setup.device)[0])
    objective = build_objective(fitting_loss(config.loss, frames.all_labels), config.displacement)
    memory = step_memory(setup, objective, potential)
    assert memory is not None
    return memory


def test_a_step_that_does_not_fit_is_refused_before_anything_is_written(small, tmp_path):
    config = small("optimizer.batch_size=200000", "optimizer.steps=1", "model.channels=256", "model.layers=6")
    with pytest.raises(
        ConfigError, match=r"a training step requires about \d+\.\d GB, but only .*; set loss.pisc: 0, or reduce"
    ):
        run_training(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_estimate_follows_batch_parts_copies_and_processes(small):
    def step(*overrides, processes=1):
        return estimate(small("model.channels=64", *overrides), Processes(processes, local_count=processes))

    fixed = step("optimizer.batch_size=2").needed
    whole = step("optimizer.batch_size=4000")
    assert (whole.structures, whole.atoms, whole.copies) == (4000, 12000, 2)
    part = step("optimizer.batch_size=4000", "optimizer.accumulate=4")
    assert (part.needed - fixed) / (whole.needed - fixed) == pytest.approx(0.25, abs=0.05)
    plain = step("optimizer.batch_size=4000", "loss.pitc=0", "loss.pisc=0")
    assert plain.needed - fixed < 0.6 * (whole.needed - fixed)
    two = step("optimizer.batch_size=4000", processes=2)
    assert two.structures == 2000
    assert two.needed == pytest.approx(whole.needed + fixed, rel=0.1)


def test_advice_fits_the_case():
    with pytest.raises(ConfigError) as error:
        StepMemory(2e12, 1e9, structures=1, atoms=90000, copies=0).check()
    assert "batch_size" not in str(error.value)
    assert "pisc" not in str(error.value)
    assert "\n" not in str(error.value)
    StepMemory(1e9, 2e9, 10, 100, 2).check()


STEP = """
import sys, resource, torch
from pathlib import Path
from piwsl.data.batch import collate
from piwsl.losses import FrameRandom
from piwsl.models import build_potential
from piwsl.models.neighbor_sums.edge_list import use_neighbor_sums
from piwsl.models.training_loops import training_neighbor_sums
from piwsl.training.config import load_config
from piwsl.runs.process_settings import keep_freed_memory
from piwsl.training.objective import build_objective
from piwsl.training.data import training_frames

torch.set_num_threads(1)
keep_freed_memory()
config = load_config(Path(sys.argv[1]))
frames = training_frames(config)
objective = build_objective(config.loss, config.displacement)
potential = build_potential(config.model, dict.fromkeys(frames.train.elements, 0.0))
use_neighbor_sums(potential.network, training_neighbor_sums(torch.device("cpu"))[0])

def step(count):
    chosen = [frames.train[index % len(frames.train)] for index in range(count)]
    batch = collate(chosen, config.model.cutoff + objective.margin)
    objective(potential, batch, FrameRandom(0, 0))[0].backward()

step(1)
Path("/proc/self/clear_refs").write_text("5")
before = int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1])
step(config.optimizer.batch_size)
peak = int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
print(1024 * (peak - before))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
def test_the_estimate_is_right_within_a_factor_of_two(small, tmp_path):
    from piwsl.runs.config import to_yaml

    settings = ["model.channels=64", "model.layers=3", "model.cutoff=5"]
    config = small(*settings, "optimizer.batch_size=800")
    (tmp_path / "c.yaml").write_text(to_yaml(config))
    try:
        done = subprocess.run(
            [sys.executable, "-c", STEP, tmp_path / "c.yaml"], check=True, capture_output=True, text=True, timeout=300
        )
    except subprocess.CalledProcessError as error:
        if "clear_refs" in error.stderr:
            pytest.skip("the peak of resident memory cannot be reset here")
        raise
    expected = estimate(config).needed - estimate(small(*settings, "optimizer.batch_size=2")).needed
    assert 0.5 < expected / int(done.stdout) < 2
