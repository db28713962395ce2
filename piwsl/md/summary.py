"""The content of summary.json: inputs, versions, times, outputs, result."""

from datetime import datetime, timezone
from typing import Any

from piwsl._version import __version__
from piwsl.export.exported_file import read_exported_info
from piwsl.md import run_directory as files
from piwsl.md.engines.base import ReplicaEngine
from piwsl.md.job import Job
from piwsl.md.restart import RestartState
from piwsl.runs.provenance import versions
from piwsl.units import PICOSECOND


def verdict(summary: dict[str, Any]) -> str:
    """How a run ended, in one line."""
    picoseconds = summary["steps_done"] * summary["timestep_fs"] / PICOSECOND
    speed = summary["speed"]
    text = f"{summary['result']}: {summary['steps_done']} steps ({picoseconds:g} ps)"
    if summary["result"] == "completed":
        text += ", no stop rule violated"
    return f"{text}; {speed['steps_per_second']:.0f} steps/s, {speed['ns_per_day']:.2f} ns/day"


def new_summary(job: Job, engine: ReplicaEngine, replica: int | None, state: RestartState | None) -> dict[str, Any]:
    """The summary of a run that begins or goes on, to be kept up to date.

    Args:
        job: the run.
        engine: that moves it.
        replica: whose summary it is; None for that of all replicas.
        state: to go on from, or None.
    """
    protocol, structure = job.protocol, job.structure
    outputs = {"config": files.CONFIG, "start": files.START, "log": files.LOG}
    if protocol.replicas is None:
        outputs |= {"topology": files.TOPOLOGY, "thermo": files.THERMO}
    elif replica is not None:
        outputs = {"start": files.START, "topology": files.TOPOLOGY, "thermo": files.THERMO}
    found: dict[str, Any] = {
        "piwsl_version": __version__,
        "versions": versions(("torch", "openmm", "ase", "mdtraj", "numpy")),
        "command": job.command,
        "started": state.started if state else now(),
        "finished": None,
        "wall_seconds": state.wall_seconds if state else 0.0,
        "system": {
            "name": job.name,
            "formula": structure.get_chemical_formula(),
            "species": [int(number) for number in structure.numbers],
        },
        "model": {
            "path": str(job.model.resolve()),
            "sha256": job.identity.model_sha256,
            "info": {k: value for k, value in read_exported_info(job.exported).items() if k != "check"},
        },
        "engine": engine.name,
        "force": engine.force,
        "force_reason": engine.force_reason,
        "platform": engine.platform,
        "ensemble": protocol.ensemble,
        "temperature_K": protocol.temperature.plain(),
        "pressure_bar": protocol.pressure if protocol.ensemble == "npt" else None,
        "timestep_fs": protocol.timestep,
        "equilibration_steps": protocol.equilibration,
        "steps_requested": protocol.steps,
        "steps_done": state.step if state else 0,
        "trajectory_interval": protocol.trajectory_interval,
        "seed": protocol.seed_of(replica or 0),
        "restarted_at_step": state.step if state else None,
        "speed": {"steps_per_second": None, "ns_per_day": None},
        "outputs": outputs,
        "result": "interrupted",  # what a killed run leaves behind
        "stop": None,
        "violations": [],  # noted, or left by going back
    }
    if replica is not None and protocol.replicas is not None:
        found["replica"] = replica
    return found


def now() -> str:
    """ISO time, UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
