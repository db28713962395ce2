"""A run of replicas in this process: a replica that becomes unphysical is removed, and the others continue."""

from collections.abc import Callable

from piwsl.errors import ConfigError
from piwsl.md import run_directory as files
from piwsl.md.progress import Progress
from piwsl.md.replicas.replica_summary import ReplicaSummary
from piwsl.md.simulation import Simulation
from piwsl.runs.directory import locked
from piwsl.runs.summary import MDSummary

_FILES_OF_A_REPLICA = 3  # that are open while it runs
_OTHER_FILES = 64


def run_replicas(simulation: Simulation, progress: Callable[[Progress], None] | None) -> MDSummary:
    """Carry out a run of replicas in this process and return its summary.

    Raises:
        UnphysicalError: Replicas became unphysical; everything is written before.
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
    """Raise the limit of open files of this process.

    Raises:
        ConfigError: the system allows fewer.
    """
    try:
        import resource
    except ImportError:  # not on Windows, which has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if count <= soft or soft == resource.RLIM_INFINITY:
        return
    if hard != resource.RLIM_INFINITY and count > hard:
        raise ConfigError(f"so many replicas need {count} open files, and the system allows {hard} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
