"""The processes of a run: their ranks, the process group, and how an error in one process ends all."""

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
from torch.distributed import PrefixStore, Store, TCPStore, rendezvous  # type: ignore[attr-defined]  # they are there

from piwsl.errors import ConfigError, PiwslError, reason_of
from piwsl.training.distributed.process_group import wait_for_all

# One process may read, or wait for a download, while the others wait for it.
PATIENCE = timedelta(hours=2)
# An error of another process is noticed after LOOK seconds; after GRACE more this process ends, too.
LOOK, GRACE = 1.0, 5.0
# Time in which all processes must have started, and s after which a process tells for whom it waits.
MEETING, NOTICE = timedelta(minutes=10), 20.0

LOGGER = logging.getLogger(__name__)
_NUMBERS = itertools.count()  # of the blocks that this process took part in
_WITHIN = threading.Lock()


class LostProcessError(PiwslError):
    """Another process of the run has disappeared."""


@dataclass(frozen=True)
class Processes:
    """The processes of a run and the place of this one.

    Attributes:
        count: Processes in all.
        rank: Number of this process, from 0.
        nodes: Number of machines.
        local_rank: Number of this process on its machine.
        local_count: Processes on this machine, the same on each.
        address, port: Where they meet; empty in a run of one process.
        elastic: Started by torchrun, which holds the place where they meet.
        note: What the user should know about their number; empty: nothing.
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
        """Number of this machine, from 0."""
        return self.rank // self.local_count


def launched_processes(environment: Mapping[str, str] = os.environ) -> Processes:
    """Return the processes that torchrun or srun started; a single one otherwise.

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
    """Return the single process of an interactive step (``srun --pty``): the other tasks have no terminal.

    Raises:
        ConfigError: This is one of the others.
    """
    if environment.get("SLURM_PROCID", "0") != "0":
        raise ConfigError("srun --pty starts one process that has a terminal: start several with srun without --pty")
    tasks = environment["SLURM_STEP_NUM_TASKS"]
    return Processes(note=f"one process, since this is an interactive step of {tasks} tasks (srun --pty)")


def _whole_numbers(function: Callable[[Mapping[str, str]], Processes]) -> Callable[[Mapping[str, str]], Processes]:
    """Turn variables of a launcher that are missing or no whole numbers into one line."""

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
        raise ConfigError(f"{count} processes on {nodes} machines: start the same number on each")
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
    # Tasks by machine: "2(x3)", "2", or "2,1" where they differ.
    tasks = environment.get("SLURM_STEP_TASKS_PER_NODE", environment["SLURM_STEP_NUM_TASKS"])
    match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", tasks)
    if match is None:
        raise ConfigError(
            f"srun put {tasks} processes on the machines: request the same number with srun --ntasks-per-node"
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
    """Describes the launched processes to Lightning."""

    def __init__(self, processes: Processes) -> None:
        super().__init__()
        self.processes = processes

    creates_processes_externally = True

    @property
    def main_address(self) -> str:
        """Address or port of rank 0."""
        return self.processes.address

    @property
    def main_port(self) -> int:
        """Address or port of rank 0."""
        return self.processes.port

    @staticmethod
    def detect() -> bool:
        """Return False: Lightning never chooses this environment itself."""
        return False

    def world_size(self) -> int:
        """Return the number of processes."""
        return self.processes.count

    def set_world_size(self, size: int) -> None:
        """Do nothing: the launcher determines it."""

    def global_rank(self) -> int:
        """Return the rank of this process."""
        return self.processes.rank

    def set_global_rank(self, rank: int) -> None:
        """Do nothing: the launcher determines it."""

    def local_rank(self) -> int:
        """Return the rank of this process on its machine."""
        return self.processes.local_rank

    def node_rank(self) -> int:
        """Return the number of this machine."""
        return self.processes.node


@contextmanager
def process_group(processes: Processes, backend: str) -> Iterator[Processes]:
    """Connect the processes within the block; with a single process do nothing.

    An error in one process ends all of them: the first to fail raises it, the others raise SystemExit.

    Raises:
        LostProcessError: Another process disappeared without an error of its own.
    """
    if processes.count == 1 or _WITHIN.locked():  # within a block of all runs of an ensemble
        yield processes
        return
    with _WITHIN:
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
                "another process of the run is gone (killed for its memory?): look for its message, then continue "
                "the run with resume=True"
            ) from error
        raise
    watch.stop()


def _join(processes: Processes, backend: str) -> None:
    """Form the group, once: it lasts for all runs of these processes, since gloo does not always connect again."""
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
def _meeting_place(processes: Processes) -> Store:
    if processes.elastic:
        store: Store = next(rendezvous("env://"))[0]
        return store
    first = processes.rank == 0
    place = f"{processes.address}:{processes.port}"
    others = "the other processes" if first else "the first process"
    notice = threading.Timer(NOTICE, LOGGER.warning, [f"process {processes.rank} waits for {others} at {place}"])
    notice.daemon = True
    notice.start()
    try:
        return TCPStore(processes.address, processes.port, processes.count, is_master=first, timeout=MEETING)
    except (RuntimeError, OSError, ValueError) as error:
        raise LostProcessError(
            f"{others} of {processes.count} did not come to {place} ({reason_of(error)}): start all of them with srun "
            "or torchrun, or train as one process"
        ) from None
    finally:
        notice.cancel()


class _Watch:
    """Watches for a failed process, and ends this process where it would wait for a failed one forever."""

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
        """Report that this process failed; return True on the first that does."""
        try:
            return bool(self.store.add(self.KEY, 1) == 1)
        except RuntimeError:  # the meeting place is gone, with the process that held it
            return False

    def _look(self) -> None:
        while not self.over.wait(LOOK):
            try:
                failed = self.store.check([self.KEY])
            except RuntimeError:
                failed = True
            if failed:
                if not self.over.wait(GRACE):
                    # Blocked in a call that waits for the failed process, which no exception can reach.
                    os._exit(2)
                return
