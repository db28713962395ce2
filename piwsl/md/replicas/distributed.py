"""Replicas distributed over processes with access to the same files, such as the workers of a Dask cluster."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from piwsl.errors import ConfigError, EngineError
from piwsl.md import run_directory as files
from piwsl.md.job import Job
from piwsl.md.progress import Progress
from piwsl.md.protocol import MDProtocol
from piwsl.md.replicas.replica_summary import ReplicaSummary
from piwsl.md.restart import Continuation, resume_chunk
from piwsl.md.simulation import Simulation
from piwsl.runs.directory import RunDirectory, locked
from piwsl.runs.executors import Executor
from piwsl.runs.interruption import Interruption, polite_interruption
from piwsl.runs.process_settings import process_settings
from piwsl.runs.summary import SUMMARY_FILE, MDSummary

LOGGER = logging.getLogger(__name__)
STOP = ".stop"  # file that makes workers stop after their next restart states
_PAUSE = 2.0  # s between two updates from the summaries of the replicas
_LOST = 60.0  # s after which a worker has detected the loss of its scheduler


@dataclass(frozen=True)
class DistributedReplicas:
    """Processes that run the replicas of a job.

    Attributes:
        executor: Executor that calls a function for many arguments.
        chunk: Number of replicas per call.
    """

    executor: Executor
    chunk: int


@contextmanager
def distributed_replicas(
    scheduler: str | None, workers: int | None, n_atoms: int, protocol: MDProtocol
) -> Iterator[DistributedReplicas | None]:
    """Provide Dask workers for replicas within the block.

    Args:
        scheduler: Address of a running Dask scheduler.
        workers: Number of workers to start on this machine.
        n_atoms: Number of atoms of each replica.
        protocol: Protocol of the run.

    Yields:
        The processes; None if neither ``scheduler`` nor ``workers`` is given and this process runs the replicas.

    Raises:
        ConfigError: Both a scheduler and workers are given, the protocol has no replicas, or the scheduler does not
            answer.
        MissingDependencyError: Dask is not installed.
    """
    if scheduler is None and workers is None:
        yield None
        return
    if scheduler is not None and workers is not None:
        raise ConfigError(
            "dask_workers=N starts a cluster and scheduler=ADDRESS uses a running one: give only one of them"
        )
    if protocol.replicas is None:
        raise ConfigError("a Dask cluster runs replicas only: add replicas=N")
    import torch

    from piwsl.md.run_model import copies_per_call
    from piwsl.runs.dask_cluster import DaskCluster, local_cluster

    device = "cuda" if torch.cuda.is_available() else "cpu"
    chunk = copies_per_call(n_atoms, protocol.replicas, workers or 1, device)
    if scheduler is not None:
        cluster = DaskCluster(scheduler)
        cluster.check()
        yield DistributedReplicas(cluster, chunk)
        return
    assert workers is not None
    with local_cluster(workers) as local:
        yield DistributedReplicas(local, chunk)


def run_distributed(
    job: Job, simulation: Simulation, distributed: DistributedReplicas, progress: Callable[[Progress], None] | None
) -> MDSummary:
    """Run replicas in other processes and return the summary of the run.

    If a worker dies, its replicas continue from their last restart states on another worker.

    Args:
        job: Description of the run, with files that the other processes can access.
        simulation: Simulation of one replica, created to check that the engine works; no step is run.
        distributed: Processes that run the replicas.
        progress: Progress callback, called as workers write restart states.

    Raises:
        UnphysicalError: Replicas became unphysical; all output is written first.
        EngineError: Workers died repeatedly.
    """
    state = next(iter(simulation.before.states.values())) if simulation.before else None
    (job.output / STOP).unlink(missing_ok=True)
    if state is None:
        files.write_structure(job.output / files.START, job.structure)
    replica_summary = ReplicaSummary(job, simulation.engine, state)
    chunks = [
        job.replicas[first : first + distributed.chunk] for first in range(0, len(job.replicas), distributed.chunk)
    ]
    LOGGER.info(f"{len(chunks)} tasks with up to {distributed.chunk} replicas each")
    died = []
    with polite_interruption() as interruption:
        watch = _Watch(job, replica_summary, progress, interruption)
        for outcome in distributed.executor.run(carry_out, [(job, list(chunk)) for chunk in chunks], watch.poll):
            chunk = chunks[outcome.index]
            if outcome.died:
                died.append(f"{job.directory(chunk[0]).name} to {job.directory(chunk[-1]).name}: {outcome.died}")
            watch.read(chunk)
    (job.output / STOP).unlink(missing_ok=True)
    if died:
        kept = RunDirectory(job.output, files.MD_RUN).can_continue
        advice = "continue with restart=True" if kept else "no restart state exists: start a new run with force=True"
        raise EngineError(f"{'; '.join(died)}: {advice}")
    return replica_summary.finish()


def carry_out(job: Job, replicas: Sequence[int]) -> None:
    """Run some replicas of a job to their end; called in a worker."""
    if (job.output / STOP).exists():
        return
    with process_settings(huge_pages=True), locked(job.output, files.lock_files(replicas), _LOST):
        before = resume_chunk(job, replicas)
        if before is None or not _ended(job, before):
            simulation = Simulation(job, list(before.states) if before else replicas, before)
            simulation.open()
            simulation.run(should_stop=_StopFile(job.output))


def _ended(job: Job, before: Continuation) -> bool:
    """Return whether all remaining replicas have completed their steps and have recorded their results."""
    results = [MDSummary.read(job.directory(number)).result for number in before.states]
    return not results or (before.step == job.protocol.steps and set(results) == {"completed"})


class _StopFile:
    """Callable that returns True if the stop file exists; it checks the file at most once per second."""

    def __init__(self, output: Path) -> None:
        self._file, self._checked = output / STOP, time.monotonic()

    def __call__(self) -> bool:
        if time.monotonic() - self._checked < 1.0:
            return False
        self._checked = time.monotonic()
        return self._file.exists()


class _Watch:
    """Observer that updates the summary of all replicas from the files of the workers, and reports progress."""

    def __init__(
        self,
        job: Job,
        replica_summary: ReplicaSummary,
        progress: Callable[[Progress], None] | None,
        interruption: Interruption,
    ) -> None:
        self._job, self._replica_summary, self._progress = job, replica_summary, progress
        self._interruption = interruption
        self._updated = time.monotonic()

    def poll(self) -> None:
        """Check for an interruption, and read the summaries if enough time has passed."""
        if self._interruption.requested and not (self._job.output / STOP).exists():
            (self._job.output / STOP).touch()
        if time.monotonic() - self._updated >= _PAUSE:
            self.read(self._job.replicas)
            if self._progress:
                self._progress(self._replica_summary.progress())
            self._updated = time.monotonic()

    def read(self, replicas: Sequence[int]) -> None:
        """Read the summaries of replicas that have started."""
        begun = [number for number in replicas if (self._job.directory(number) / SUMMARY_FILE).is_file()]
        self._replica_summary.update({number: MDSummary.read(self._job.directory(number)) for number in begun})
