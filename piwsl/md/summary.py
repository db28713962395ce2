"""Summaries of runs: the first version of summary.json, and the line that a run ends with."""

from piwsl.export.exported_file import read_exported_info
from piwsl.md import run_directory as files
from piwsl.md.engines.base import ReplicaEngine
from piwsl.md.job import Job
from piwsl.md.restart import RestartState
from piwsl.runs.summary import MDSummary, ModelRecord, SystemRecord, provenance
from piwsl.units import PICOSECOND


def verdict(summary: MDSummary) -> str:
    """Describe in one line how a run ended."""
    picoseconds = summary.steps_done * summary.timestep_fs / PICOSECOND
    text = f"{summary.result}: {summary.steps_done} steps ({picoseconds:g} ps)"
    if summary.result == "completed":
        text += ", no stop rule violated"
    speed = summary.speed
    return f"{text}; {speed.steps_per_second or 0.0:.0f} steps/s, {speed.ns_per_day or 0.0:.2f} ns/day"


def new_summary(job: Job, engine: ReplicaEngine, replica: int | None, state: RestartState | None) -> MDSummary:
    """Return the summary of a run that starts or continues, to be kept up to date.

    Args:
        job: The run.
        engine: Engine that moves it.
        replica: Number of the replica; None for the summary of all replicas.
        state: State to continue from, or None.
    """
    protocol, structure = job.protocol, job.structure
    outputs = {"config": files.CONFIG, "start": files.START, "log": files.LOG}
    if protocol.replicas is None:
        outputs |= {"topology": files.TOPOLOGY, "thermo": files.THERMO}
    elif replica is not None:
        outputs = {"start": files.START, "topology": files.TOPOLOGY, "thermo": files.THERMO}
    summary = MDSummary(
        **provenance(("torch", "openmm", "ase", "mdtraj", "numpy"), job.command),
        system=SystemRecord(
            name=job.name,
            formula=structure.get_chemical_formula(),
            species=[int(number) for number in structure.numbers],
        ),
        model=ModelRecord(
            path=str(job.model.resolve()),
            sha256=job.identity.model_sha256,
            info={key: value for key, value in read_exported_info(job.exported).items() if key != "check"},
        ),
        engine=engine.name,
        force=engine.force,
        force_reason=engine.force_reason,
        platform=engine.platform,
        ensemble=protocol.ensemble,
        temperature_K=protocol.temperature.plain(),
        pressure_bar=protocol.pressure if protocol.ensemble == "npt" else None,
        timestep_fs=protocol.timestep,
        equilibration_steps=protocol.equilibration,
        steps_requested=protocol.steps,
        steps_done=0,
        trajectory_interval=protocol.trajectory_interval,
        seed=protocol.seed_of(replica or 0),
        replica=None if protocol.replicas is None else replica,
        outputs=outputs,
        result="interrupted",  # what a killed run leaves behind
    )
    if state is not None:
        summary.started, summary.wall_seconds = state.started, state.wall_seconds
        summary.steps_done = summary.restarted_at_step = state.step
    return summary
