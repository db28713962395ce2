"""Replicas of a run spread over processes that see the same files, such as the workers of a Dask cluster."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from piwsl.errors import ConfigError, EngineError
from piwsl.md import run_directory as files
from piwsl.md.continuation import Continuation, resume_chunk
from piwsl.md.job import Job
from piwsl.md.progress import Progress
from piwsl.md.protocol import MDProtocol
from piwsl.md.replicas.replica_summary import ReplicaSummary
from piwsl.md.simulation import Simulation
from piwsl.runs.executors import Executor
from piwsl.runs.interruption import Interruption, polite_interruption
from piwsl.runs.lock import locked
from piwsl.runs.process import process_settings
from piwsl.runs.summary import SUMMARY_FILE, MDSummary

STOP = ".stop"  # a file that asks the workers to end at their next states
_PAUSE = 2.0  # s between looks at what the workers have written
_LOST = 60.0  # s in which a worker that has lost its scheduler notices that


@dataclass(frozen=True)
class Spread:
    """Where replicas run.

    Attributes:
        executor: calls a function for many arguments.
        chunk: replicas of a call.
    """

    executor: Executor
    chunk: int


@contextmanager
def spread_over(
    scheduler: str | None, workers: int | None, n_atoms: int, protocol: MDProtocol
) -> Iterator[Spread | None]:
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
        yield Spread(cluster, chunk)
        return
    assert workers is not None
    with local_cluster(workers) as local:
        yield Spread(local, chunk)


def run_spread(simulation: Simulation, spread: Spread, progress: Callable[[Progress], None] | None) -> MDSummary:
    """Carry out a run of replicas elsewhere; gives its summary.

    Replicas of a worker that dies go on from their last states on another one.

    Args:
        simulation: of one replica, which was tried and is not used.
        spread: where to.
        progress: called as workers write states.

    Raises:
        UnphysicalError: some have left physics; everything is written before.
        EngineError: workers have died again and again.
    """
    job = simulation.job
    state = next(iter(simulation.before.states.values())) if simulation.before else None
    (job.output / STOP).unlink(missing_ok=True)
    if state is None:
        files.write_structure(job.output / files.START, job.structure)
    overview = ReplicaSummary(job, simulation.engine, state)
    chunks = [job.replicas[first : first + spread.chunk] for first in range(0, len(job.replicas), spread.chunk)]
    files.LOGGER.info(f"{len(chunks)} tasks of up to {spread.chunk} replicas")
    died = []
    with polite_interruption() as interruption:
        watch = _Watch(job, overview, progress, interruption)
        for outcome in spread.executor.run(carry_out, [(job, list(chunk)) for chunk in chunks], watch.look):
            chunk = chunks[outcome.index]
            if outcome.died:
                died.append(f"{job.directory(chunk[0]).name} to {job.directory(chunk[-1]).name}: {outcome.died}")
            watch.note(chunk)
    (job.output / STOP).unlink(missing_ok=True)
    if died:
        raise EngineError(f"{'; '.join(died)}: continue with --restart")
    return overview.finish()


def carry_out(job: Job, replicas: Sequence[int]) -> None:
    """Some replicas of a run from where they are to their end, in a worker."""
    if (job.output / STOP).exists():
        return
    with process_settings(huge_pages=True), locked(job.output, files.lock_files(replicas), _LOST):
        before = resume_chunk(job, replicas)
        if before is None or not _ended(job, before):
            simulation = Simulation(job, list(before.states) if before else replicas, before)
            simulation.open()
            simulation.run(asked=_Asked(job.output))


def _ended(job: Job, before: Continuation) -> bool:
    """All have left, or all that are left have made their steps and said so."""
    results = [MDSummary.read(job.directory(number)).result for number in before.states]
    return not results or (before.step == job.protocol.steps and set(results) == {"completed"})


class _Asked:
    """Whether the run was asked to end: looks once a second."""

    def __init__(self, output: Path) -> None:
        self._file, self._looked = output / STOP, time.monotonic()

    def __call__(self) -> bool:
        if time.monotonic() - self._looked < 1.0:
            return False
        self._looked = time.monotonic()
        return self._file.exists()


class _Watch:
    """Keeps the overview up to date from what workers write, and tells how far they are."""

    def __init__(
        self,
        job: Job,
        overview: ReplicaSummary,
        progress: Callable[[Progress], None] | None,
        interruption: Interruption,
    ) -> None:
        self._job, self._overview, self._progress = job, overview, progress
        self._interruption = interruption
        self._told = time.monotonic()

    def look(self) -> None:
        """Called often; looks seldom."""
        if self._interruption.requested and not (self._job.output / STOP).exists():
            (self._job.output / STOP).touch()
        if time.monotonic() - self._told >= _PAUSE:
            self.note(self._job.replicas)
            if self._progress:
                self._progress(self._overview.progress())
            self._told = time.monotonic()

    def note(self, replicas: Sequence[int]) -> None:
        """Read the summaries of replicas that have begun."""
        begun = [number for number in replicas if (self._job.directory(number) / SUMMARY_FILE).is_file()]
        self._overview.update({number: MDSummary.read(self._job.directory(number)) for number in begun})
