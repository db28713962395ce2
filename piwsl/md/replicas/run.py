"""A run of replicas: those that leave physics leave the run, and the others go on."""

from collections.abc import Callable

from piwsl.errors import ConfigError
from piwsl.md import run_directory as files
from piwsl.md.progress import Progress
from piwsl.md.replicas.replica_summary import ReplicaSummary
from piwsl.md.simulation import Simulation
from piwsl.runs.lock import locked
from piwsl.runs.summary import MDSummary

_FILES_OF_A_REPLICA = 3  # that are open while it runs
_OTHER_FILES = 64


def run_replicas(simulation: Simulation, progress: Callable[[Progress], None] | None) -> MDSummary:
    """Carry out a run of replicas in this process; gives its summary.

    Raises:
        UnphysicalError: some have left physics; everything is written before.
    """
    allow_open_files(_FILES_OF_A_REPLICA * len(simulation.engine.replicas) + _OTHER_FILES)
    state = next(iter(simulation.before.states.values())) if simulation.before else None
    if state is None:
        files.write_structure(simulation.job.output / files.START, simulation.job.structure)
    overview = ReplicaSummary(simulation.job, simulation.engine, state)

    def kept() -> None:
        overview.update({number: one.summary for number, one in simulation.recorders.items()})

    with locked(simulation.job.output, files.lock_files(simulation.engine.replicas)):
        simulation.open()
        simulation.run(progress, kept)
        kept()
    return overview.finish()


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
