"""Several processes: who they are, what they compute together, how they end."""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch

from piwsl.errors import ConfigError
from piwsl.export.trained_file import load_trained
from piwsl.losses.objective import local_mean
from piwsl.runs.config import to_yaml
from piwsl.training.config import load_config
from piwsl.training.data import training_frames
from piwsl.training.distributed import processes
from piwsl.training.distributed.process_group import from_rank_zero, gathered, global_mean, process_count, summed
from piwsl.training.distributed.processes import Processes, launched_processes, process_group
from piwsl.training.loader import share_of_process
from piwsl.training.run import run_training
from tests.support.two_levels import write_water

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "WORLD_SIZE": "6",
    "LOCAL_WORLD_SIZE": "2",
    "GROUP_WORLD_SIZE": "3",
    "RANK": "3",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "node1",
    "MASTER_PORT": "29500",
}
SLURM = {
    "SLURM_JOB_ID": "1234",
    "SLURM_STEP_ID": "1",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
}


def test_processes_of_torchrun():
    found = launched_processes(TORCHRUN)
    assert found == Processes(6, 3, nodes=3, local_rank=1, local_count=2, address="node1", port=29500, elastic=True)
    assert found.node == 1
    alone = {"WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", "GROUP_WORLD_SIZE": "1"}
    assert launched_processes({**TORCHRUN, **alone}) == Processes()


def test_processes_of_slurm():
    found = launched_processes(SLURM)
    assert (found.count, found.rank, found.nodes, found.node, found.local_rank, found.local_count) == (8, 5, 2, 1, 1, 4)
    assert found.address == "gpu07"
    assert found.port != launched_processes({**SLURM, "SLURM_JOB_ID": "1235"}).port
    one_node = {**SLURM, "SLURM_STEP_TASKS_PER_NODE": "8", "SLURM_LOCALID": "5", "SLURM_STEP_NODELIST": "gpu07"}
    assert launched_processes(one_node).nodes == 1


@pytest.mark.parametrize(
    "environment",
    [{}, {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8"}, {**SLURM, "SLURM_STEP_NUM_TASKS": "1"}],
    ids=["nothing", "a SLURM job without srun", "srun of one"],
)
def test_otherwise_there_is_one_process(environment):
    assert launched_processes(environment) == Processes()


def test_an_interactive_step_is_one_process():
    environment = {**SLURM, "SLURM_PTY_PORT": "40001", "SLURM_PROCID": "0"}
    found = launched_processes(environment)
    assert (found.count, found.rank) == (1, 0)
    assert found.note == "one process, because this is an interactive step of 8 tasks (srun --pty)"
    with pytest.raises(ConfigError, match="without --pty"):
        launched_processes({**environment, "SLURM_PROCID": "3"})


@pytest.mark.parametrize(
    "environment",
    [{"TORCHELASTIC_RUN_ID": "x"}, {**SLURM, "SLURM_PROCID": "x"}, {"SLURM_STEP_NUM_TASKS": "4"}],
    ids=["torchrun", "not a number", "srun"],
)
def test_incomplete_variables_of_a_launcher_are_one_line(environment):
    with pytest.raises(ConfigError, match="torchrun or srun in the environment are incomplete"):
        launched_processes(environment)


@pytest.mark.slow
def test_a_waiting_process_logs_for_which_processes_it_waits(caplog):
    alone = Processes(2, 0, local_count=2, address="127.0.0.1", port=29517)
    with pytest.raises(
        processes.LostProcessError, match=r"could not connect 2 processes at 127\.0\.0\.1:29517"
    ) as caught:
        processes._meeting_place(alone, timeout=timedelta(seconds=1), notice_after=0.1)
    assert "\n" not in str(caught.value)
    assert "process 0 is waiting for the other processes at 127.0.0.1:29517" in caplog.text


def test_uneven_machines_are_refused():
    with pytest.raises(ConfigError, match="--ntasks-per-node"):
        launched_processes({**SLURM, "SLURM_STEP_TASKS_PER_NODE": "5,3"})
    with pytest.raises(ConfigError, match="the same number on each"):
        launched_processes({**TORCHRUN, "WORLD_SIZE": "5"})


def test_alone_nothing_is_sent():
    with process_group(Processes(), "gloo"):
        assert not torch.distributed.is_initialized()
        values, labeled = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([True, False, True])
        assert global_mean(values, labeled) == local_mean(values, labeled)
        assert global_mean(values, torch.zeros(3, dtype=torch.bool)) is None
        assert summed(values) is values
        assert (gathered(3), from_rank_zero(lambda: 4), process_count()) == ([3], 4, 1)


def test_what_cannot_be_shared_is_refused(small):
    config = small("optimizer.batch_size=6", "optimizer.accumulate=2")
    frames = training_frames(config)
    assert share_of_process(config, frames, Processes(3, 1)).size == 1
    with pytest.raises(ConfigError, match=r"batch_size = 6 is not divisible by 4 processes x 2 parts.*multiple of 8"):
        share_of_process(config, frames, Processes(4))
    with pytest.raises(ConfigError, match="10 validation frames are too few for 11 processes"):
        share_of_process(small("optimizer.batch_size=22"), frames, Processes(11))


@pytest.fixture
def partly_labeled(water_file, tmp_path):
    """Frames with energies on four of five and forces on every fourth."""
    import ase.io

    from piwsl.data.read import read_frames

    atoms = []
    for index, frame in enumerate(read_frames(water_file)):
        atoms.append(frame.atoms())
        if index % 5:
            atoms[-1].info["REF_energy"] = frame.energy
        if index % 4 == 0:
            atoms[-1].arrays["REF_forces"] = frame.forces
    ase.io.write(tmp_path / "partly.xyz", atoms, format="extxyz")
    return tmp_path / "partly.xyz"


@pytest.mark.slow
def test_two_processes_are_one(small, partly_labeled, tmp_path):
    """Also with a further level of theory, whose head receives its gradient from both processes."""
    low = write_water(tmp_path / "low.npz", "low", range(200, 215))
    levels = [f"data.levels={{low: {low}}}", "data.levels_share=0.25"]  # only one process has such a frame in a step
    settings = ["data.validation=11", "dtype=float64", "optimizer.batch_size=4", "optimizer.steps=12", *levels]
    config = small(f"data.file={partly_labeled}", *settings, "optimizer.validation_interval=6", "loss.pitc=3")
    one = run_training(config, tmp_path / "one")

    class StopError(Exception):
        pass

    def stop(progress):
        if progress.step == 8:
            raise StopError

    with pytest.raises(StopError):
        run_training(config, tmp_path / "broken", progress=stop)
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    script = Path(__file__).with_name("two_processes.py")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", script, tmp_path],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    # The error of one process ended both, and was told once.
    assert done.returncode != 0
    assert [line for line in done.stderr.splitlines() if line.startswith("piwsl")] == [
        "piwsl: water.h5: frame 3 is damaged"
    ], done.stderr
    assert 'two_processes.py", line' not in done.stderr  # no traceback of ours
    expected = load_trained(one.model)
    for name in ("two", "broken"):  # the second was begun by one process and finished by two
        model = load_trained(tmp_path / name / "model.pt")
        for key, value in expected.tensors.items():
            torch.testing.assert_close(model.tensors[key], value, rtol=1e-9, atol=1e-9)
        for key, value in expected.heads[0].tensors.items():
            torch.testing.assert_close(model.heads[0].tensors[key], value, rtol=1e-9, atol=1e-9)
        errors = [{key: value or 0 for key, value in one.training["validation"].items()} for one in (model, expected)]
        assert errors[0] == pytest.approx(errors[1], rel=1e-7)
        assert load_config(tmp_path / name / "config.yaml") == load_config(tmp_path / "one" / "config.yaml")
    logs = [(tmp_path / name / "metrics" / "metrics.csv").read_text().splitlines() for name in ("one", "two")]
    assert logs[0][0] == logs[1][0]
    for lines in zip(*(log[1:] for log in logs), strict=True):
        here, there = ([float(entry or 0) for entry in line.split(",")] for line in lines)
        assert here == pytest.approx(there, rel=1e-5)
    log = (tmp_path / "two" / "train.log").read_text()
    assert log.count("computed on: 2 cpu processes") == 1
    assert done.stdout.count("step 2/12") == 1
