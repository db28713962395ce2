"""Run replicas in this process: a replica that becomes unphysical is removed, and the other replicas continue."""

from collections.abc import Callable

from piwsl.errors import ConfigError
from piwsl.md import run_directory as files
from piwsl.md.progress import Progress
from piwsl.md.replicas.replica_summary import ReplicaSummary
from piwsl.md.simulation import Simulation
from piwsl.runs.directory import locked
from piwsl.runs.summary import MDSummary

_FILES_OF_A_REPLICA = 3  # open files per running replica
_OTHER_FILES = 64


def run_replicas(simulation: Simulation, progress: Callable[[Progress], None] | None) -> MDSummary:
    """Run replicas in this process and return the summary of the run.

    Raises:
        UnphysicalError: Replicas became unphysical; all output is written first.
    """
    allow_open_files(_FILES_OF_A_REPLICA * len(simulation.engine.replicas) + _OTHER_FILES)
    state = next(iter(simulation.before.states.values())) if simulation.before else None
    if state is None:
        files.write_structure(simulation.job.output / files.START, simulation.job.structure)
    replica_summary = ReplicaSummary(simulation.job, simulation.engine, state)

    def on_checkpoint() -> None:
        replica_summary.update({number: recorder.summary for number, recorder in simulation.recorders.items()})

    with locked(simulation.job.output, files.lock_files(simulation.engine.replicas)):
        simulation.open()
        simulation.run(progress, on_checkpoint)
        on_checkpoint()
    return replica_summary.finish()


def allow_open_files(count: int) -> None:
    """Raise the limit on open files of this process if necessary.

    Raises:
        ConfigError: The system limit is lower than ``count``.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if count <= soft or soft == resource.RLIM_INFINITY:
        return
    if hard != resource.RLIM_INFINITY and count > hard:
        raise ConfigError(
            f"the replicas need {count} open files, but the system allows {hard} (ulimit -Hn): reduce the number of "
            "replicas, or raise the limit"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
