"""Processes of a run: ranks, process group, and termination of all processes after an error in one."""

import atexit
import itertools
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, wraps

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from torch import distributed
from torch.distributed import PrefixStore, Store, TCPStore, rendezvous  # type: ignore[attr-defined]  # not in stubs

from piwsl.errors import ConfigError, PiwslError, reason_of
from piwsl.runs.interruption import default_termination
from piwsl.training.distributed.process_group import wait_for_all

# Timeout of collective calls: the other processes wait while one process reads or downloads data.
PATIENCE = timedelta(hours=2)
# Interval (s) between checks for an error in another process, and time (s) from there until this process exits.
LOOK, GRACE = 1.0, 5.0
# Timeout for the start of all processes, and time (s) after which a waiting process logs a warning.
MEETING, NOTICE = timedelta(minutes=10), 20.0

LOGGER = logging.getLogger(__name__)
_NUMBERS = itertools.count()  # Consecutive numbers of the process-group blocks in this process.
_WITHIN = threading.Lock()


class LostProcessError(PiwslError):
    """Raised when another process of the run has terminated or cannot be reached."""


@dataclass(frozen=True)
class Processes:
    """Processes of a run, and the rank of this process.

    Attributes:
        count: Total number of processes.
        rank: Rank of this process, from 0.
        nodes: Number of machines.
        local_rank: Rank of this process on its machine.
        local_count: Number of processes on each machine.
        address: Host name of rank 0; empty in a run with one process.
        port: Port of the rendezvous on rank 0; 0 in a run with one process.
        elastic: Whether torchrun started the processes and provides the rendezvous.
        note: Remark on the number of processes for the user; may be empty.
    """

    count: int = 1
    rank: int = 0
    nodes: int = 1
    local_rank: int = 0
    local_count: int = 1
    address: str = ""
    port: int = 0
    elastic: bool = False
    note: str = ""

    @property
    def node(self) -> int:
        """Index of this machine, from 0."""
        return self.rank // self.local_count


def launched_processes(environment: Mapping[str, str] = os.environ) -> Processes:
    """Return the processes started by torchrun or srun, or a single process without a launcher.

    Raises:
        ConfigError: The machines have different numbers of processes.
    """
    if "TORCHELASTIC_RUN_ID" in environment:
        return _of_torchrun(environment)
    tasks = environment.get("SLURM_STEP_NUM_TASKS", "1")
    if tasks == "1":
        return Processes()
    if "SLURM_PTY_PORT" in environment:
        return _interactive(environment)
    return _of_slurm(environment)


def _interactive(environment: Mapping[str, str]) -> Processes:
    """Return the single process of an interactive step (``srun --pty``). The other tasks have no terminal.

    Raises:
        ConfigError: This process is one of the other tasks.
    """
    if environment.get("SLURM_PROCID", "0") != "0":
        raise ConfigError(
            "srun --pty gives a terminal to one process only: to train with several processes, use srun without --pty"
        )
    tasks = environment["SLURM_STEP_NUM_TASKS"]
    return Processes(note=f"one process, because this is an interactive step of {tasks} tasks (srun --pty)")


def _whole_numbers(function: Callable[[Mapping[str, str]], Processes]) -> Callable[[Mapping[str, str]], Processes]:
    """Convert errors about missing or malformed launcher variables to a one-line `ConfigError`."""

    @wraps(function)
    def described(environment: Mapping[str, str]) -> Processes:
        try:
            return function(environment)
        except (KeyError, ValueError) as error:
            raise ConfigError(
                f"the variables of torchrun or srun in the environment are incomplete ({reason_of(error)}): unset "
                "TORCHELASTIC_RUN_ID and SLURM_STEP_NUM_TASKS to train as one process"
            ) from None

    return described


@_whole_numbers
def _of_torchrun(environment: Mapping[str, str]) -> Processes:
    count, local_count = int(environment["WORLD_SIZE"]), int(environment["LOCAL_WORLD_SIZE"])
    nodes = int(environment.get("GROUP_WORLD_SIZE", count // local_count))
    if nodes * local_count != count:
        raise ConfigError(
            f"{count} processes cannot be divided equally among {nodes} machines: start the same number on each"
        )
    if count == 1:
        return Processes()
    return Processes(
        count=count,
        rank=int(environment["RANK"]),
        nodes=nodes,
        local_rank=int(environment["LOCAL_RANK"]),
        local_count=local_count,
        address=environment["MASTER_ADDR"],
        port=int(environment["MASTER_PORT"]),
        elastic=True,
    )


@_whole_numbers
def _of_slurm(environment: Mapping[str, str]) -> Processes:
    # Tasks per machine: "2(x3)", "2", or "2,1" if the numbers differ.
    tasks = environment.get("SLURM_STEP_TASKS_PER_NODE", environment["SLURM_STEP_NUM_TASKS"])
    match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", tasks)
    if match is None:
        raise ConfigError(
            f"srun started different numbers of processes on the machines ({tasks}): request equal numbers with srun "
            "--ntasks-per-node"
        )
    hosts = environment.get("SLURM_STEP_NODELIST", environment.get("SLURM_NODELIST", "127.0.0.1"))
    job = 100 * int(environment.get("SLURM_JOB_ID", "0")) + int(environment.get("SLURM_STEP_ID", "0"))
    return Processes(
        count=int(environment["SLURM_STEP_NUM_TASKS"]),
        rank=int(environment["SLURM_PROCID"]),
        nodes=int(match[2] or 1),
        local_rank=int(environment["SLURM_LOCALID"]),
        local_count=int(match[1]),
        address=environment.get("MASTER_ADDR") or SLURMEnvironment.resolve_root_node_address(hosts),
        port=int(environment.get("MASTER_PORT") or 15_000 + job % 10_000),
    )


class LaunchedEnvironment(ClusterEnvironment):
    """Cluster environment that describes the launched processes to Lightning."""

    def __init__(self, processes: Processes) -> None:
        super().__init__()
        self.processes = processes

    creates_processes_externally = True

    @property
    def main_address(self) -> str:
        """Host name of rank 0."""
        return self.processes.address

    @property
    def main_port(self) -> int:
        """Port of the rendezvous on rank 0."""
        return self.processes.port

    @staticmethod
    def detect() -> bool:
        """Return False, so that Lightning never selects this environment automatically."""
        return False

    def world_size(self) -> int:
        """Return the number of processes."""
        return self.processes.count

    def set_world_size(self, size: int) -> None:
        """Do nothing. The launcher determines the number of processes."""

    def global_rank(self) -> int:
        """Return the rank of this process."""
        return self.processes.rank

    def set_global_rank(self, rank: int) -> None:
        """Do nothing. The launcher determines the rank."""

    def local_rank(self) -> int:
        """Return the rank of this process on its machine."""
        return self.processes.local_rank

    def node_rank(self) -> int:
        """Return the index of this machine."""
        return self.processes.node


@contextmanager
def process_group(processes: Processes, backend: str) -> Iterator[Processes]:
    """Connect the processes within the block. With a single process, do nothing.

    An error in one process ends all processes: the first process that fails raises its error, and the other processes
    raise SystemExit.

    Raises:
        LostProcessError: Another process terminated without raising an error.
    """
    if processes.count == 1 or _WITHIN.locked():  # already connected, as in the runs of an ensemble
        yield processes
        return
    with _WITHIN, default_termination():
        yield from _connected(processes, backend)


def _connected(processes: Processes, backend: str) -> Iterator[Processes]:
    watch = _Watch(PrefixStore(f"run {next(_NUMBERS)}", _meeting_place(processes)))
    try:
        _join(processes, backend)
        yield processes
        wait_for_all()
    except BaseException as error:
        watch.stop()
        if not watch.fail():
            raise SystemExit(130 if isinstance(error, KeyboardInterrupt) else 2) from None
        if isinstance(error, RuntimeError) and re.search(r"gloo|Gloo|NCCL|[Cc]onnection", str(error)):
            raise LostProcessError(
                "another process of the run has terminated, possibly because it ran out of memory: check its output, "
                "then continue the run with resume=True"
            ) from error
        raise
    watch.stop()


def _join(processes: Processes, backend: str) -> None:
    """Initialize the process group once for all runs of these processes, because gloo cannot always reconnect."""
    if distributed.is_initialized():
        return
    device = torch.device("cuda", processes.local_rank) if backend == "nccl" else None
    if device is not None:
        torch.cuda.set_device(device)
    distributed.init_process_group(
        backend,
        store=PrefixStore("group", _meeting_place(processes)),
        rank=processes.rank,
        world_size=processes.count,
        timeout=PATIENCE,
        device_id=device,
    )
    atexit.register(_leave_group)


def _leave_group() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


@cache
def _meeting_place(processes: Processes, timeout: timedelta = MEETING, notice_after: float = NOTICE) -> Store:
    """Return the store of all processes; log a warning after ``notice_after`` seconds of waiting."""
    if processes.elastic:
        store: Store = next(rendezvous("env://"))[0]
        return store
    first = processes.rank == 0
    place = f"{processes.address}:{processes.port}"
    others = "the other processes" if first else "the first process"
    message = f"process {processes.rank} is waiting for {others} at {place}"
    notice = threading.Timer(notice_after, LOGGER.warning, [message])
    notice.daemon = True
    notice.start()
    try:
        return TCPStore(processes.address, processes.port, processes.count, is_master=first, timeout=timeout)
    except (RuntimeError, OSError, ValueError) as error:
        raise LostProcessError(
            f"could not connect {processes.count} processes at {place}: no answer from {others} ({reason_of(error)}): "
            "start all processes with srun or torchrun, or train as one process"
        ) from None
    finally:
        notice.cancel()


class _Watch:
    """Thread that watches for failed processes and ends this process if it is blocked in a collective call."""

    KEY = "failures"

    def __init__(self, store: Store) -> None:
        self.store = store
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.over.set()
        self.thread.join(GRACE)

    def fail(self) -> bool:
        """Report the failure of this process. Return True if no other process failed before."""
        try:
            return bool(self.store.add(self.KEY, 1) == 1)
        except RuntimeError:  # The store ended together with the process that hosts it.
            return False

    def _look(self) -> None:
        while not self.over.wait(LOOK):
            try:
                failed = self.store.check([self.KEY])
            except RuntimeError:
                failed = True
            if failed:
                if not self.over.wait(GRACE):
                    # No exception can interrupt a collective call that waits for the failed process.
                    os._exit(2)
                return
