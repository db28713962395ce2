"""Replicas of a run, distributed over processes that see the same files, such as the workers of a Dask cluster."""

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
STOP = ".stop"  # a file: workers end at their next states
_PAUSE = 2.0  # s between two readings of the summaries of the replicas
_LOST = 60.0  # s after which a worker has noticed that its scheduler is gone


@dataclass(frozen=True)
class DistributedReplicas:
    """Other processes that move the replicas.

    Attributes:
        executor: Calls a function for many arguments.
        chunk: Number of replicas of a call.
    """

    executor: Executor
    chunk: int


@contextmanager
def distributed_replicas(
    scheduler: str | None, workers: int | None, n_atoms: int, protocol: MDProtocol
) -> Iterator[DistributedReplicas | None]:
    """Provide Dask workers for replicas of ``n_atoms`` atoms within the block; None: this process moves them.

    Raises:
        ConfigError: both a scheduler and workers are given, there are no replicas, or the scheduler does not answer.
        MissingDependencyError: Dask is not installed.
    """
    if scheduler is None and workers is None:
        yield None
        return
    if scheduler is not None and workers is not None:
        raise ConfigError("dask_workers=N starts a cluster and scheduler=ADDRESS names one: give one of them")
    if protocol.replicas is None:
        raise ConfigError("a Dask cluster moves replicas: add replicas=N")
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
    """Carry out a run of replicas in other processes and return its summary.

    Replicas of a worker that dies continue from their last states on another one.

    Args:
        job: The run, with files that the other processes see.
        simulation: A simulation of one replica, which shows that the engine works; it is not run.
        distributed: The other processes.
        progress: Called as workers write states.

    Raises:
        UnphysicalError: Replicas became unphysical; everything is written before.
        EngineError: Workers died again and again.
    """
    state = next(iter(simulation.before.states.values())) if simulation.before else None
    (job.output / STOP).unlink(missing_ok=True)
    if state is None:
        files.write_structure(job.output / files.START, job.structure)
    replica_summary = ReplicaSummary(job, simulation.engine, state)
    chunks = [
        job.replicas[first : first + distributed.chunk] for first in range(0, len(job.replicas), distributed.chunk)
    ]
    LOGGER.info(f"{len(chunks)} tasks of up to {distributed.chunk} replicas")
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
        advice = "continue with restart=True" if kept else "there is no state yet: start anew with force=True"
        raise EngineError(f"{'; '.join(died)}: {advice}")
    return replica_summary.finish()


def carry_out(job: Job, replicas: Sequence[int]) -> None:
    """Move some replicas of a run to their end, in a worker."""
    if (job.output / STOP).exists():
        return
    with process_settings(huge_pages=True), locked(job.output, files.lock_files(replicas), _LOST):
        before = resume_chunk(job, replicas)
        if before is None or not _ended(job, before):
            simulation = Simulation(job, list(before.states) if before else replicas, before)
            simulation.open()
            simulation.run(should_stop=_StopFile(job.output))


def _ended(job: Job, before: Continuation) -> bool:
    """Whether no replica remains, or all that remain made their steps and recorded that."""
    results = [MDSummary.read(job.directory(number)).result for number in before.states]
    return not results or (before.step == job.protocol.steps and set(results) == {"completed"})


class _StopFile:
    """Returns True when the stop file exists, which is checked once a second."""

    def __init__(self, output: Path) -> None:
        self._file, self._checked = output / STOP, time.monotonic()

    def __call__(self) -> bool:
        if time.monotonic() - self._checked < 1.0:
            return False
        self._checked = time.monotonic()
        return self._file.exists()


class _Watch:
    """Keeps the summary of all replicas up to date from what workers write, and reports progress."""

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
        """Check for an interruption, and read the summaries now and then. Called often."""
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
