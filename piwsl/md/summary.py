"""The content of summary.json: inputs, versions, times, outputs, result."""

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ase import Atoms

from piwsl._version import __version__
from piwsl.export.exported import read_exported_info
from piwsl.md import run_directory as files
from piwsl.md.engines.base import Engine
from piwsl.md.restart import RestartState, RunIdentity
from piwsl.provenance import versions
from piwsl.units import PICOSECOND


def verdict(summary: dict[str, Any]) -> str:
    """How a run ended, in one line."""
    picoseconds = summary["steps_done"] * summary["timestep_fs"] / PICOSECOND
    speed = summary["speed"]
    text = f"{summary['result']}: {summary['steps_done']} steps ({picoseconds:g} ps)"
    if summary["result"] == "completed":
        text += ", no stop rule violated"
    return f"{text}; {speed['steps_per_second']:.0f} steps/s, {speed['ns_per_day']:.2f} ns/day"


def new_summary(
    name: str,
    structure: Atoms,
    model: Path,
    exported: Path,
    identity: RunIdentity,
    engine: Engine,
    command: str,
    state: RestartState | None,
) -> dict[str, Any]:
    """The summary of a run that begins or goes on; the loop keeps it up to date."""
    protocol = identity.protocol
    return {
        "piwsl_version": __version__,
        "versions": versions(("torch", "openmm", "ase", "mdtraj", "numpy")),
        "command": command,
        "started": state.started if state else now(),
        "finished": None,
        "wall_seconds": state.wall_seconds if state else 0.0,
        "system": {
            "name": name,
            "formula": structure.get_chemical_formula(),
            "species": [int(number) for number in structure.numbers],
        },
        "model": {
            "path": str(model.resolve()),
            "sha256": identity.model_sha256,
            "info": {k: value for k, value in read_exported_info(exported).items() if k != "check"},
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
        "seed": protocol.seed,
        "restarted_at_step": state.step if state else None,
        "speed": {"steps_per_second": None, "ns_per_day": None},
        "outputs": {
            "config": files.CONFIG,
            "start": files.START,
            "topology": files.TOPOLOGY,
            "thermo": files.THERMO,
            "log": files.LOG,
        },
        "result": "interrupted",  # what a killed run leaves behind
        "stop": None,
        "violations": [],  # noted, or left by going back
    }


def now() -> str:
    """ISO time, UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
