"""A run of molecular dynamics from a protocol to a directory that explains itself."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shutil import move
from typing import Any

import numpy as np
from ase import Atoms

from piwsl.data.files import sha256
from piwsl.errors import ConfigError, ModelFileError, RunDirectoryError, UnphysicalError
from piwsl.export.exported import read_exported_info
from piwsl.md import run_directory as files
from piwsl.md.engines.base import Engine, split_seed
from piwsl.md.engines.make import make_engine
from piwsl.md.forces.threads import choose_threads
from piwsl.md.loop import Loop, Outcome
from piwsl.md.model import EXPORTED_NAME, prepare_model
from piwsl.md.progress import Progress
from piwsl.md.protocol import MDProtocol
from piwsl.md.restart import RestartState, RunIdentity, newest_state, structure_sha256
from piwsl.md.stop_rules import bonded_pairs, check_start
from piwsl.md.structure import check_structure, thermal_velocities
from piwsl.md.summary import new_summary, now, verdict
from piwsl.md.writers import ThermoWriter, TrajectoryWriter, write_topology
from piwsl.memory import keep_freed_memory, keep_largest_blocks
from piwsl.provenance import log_to_file
from piwsl.units import PICOSECOND


@dataclass(frozen=True)
class MDRun:
    """A run that ended: its directory and the content of its summary.json."""

    directory: Path
    summary: dict[str, Any]

    @property
    def completed(self) -> bool:
        """All steps were made; False where the run was interrupted."""
        return bool(self.summary["result"] == "completed")


def run_md(
    structure: Atoms,
    model: Path,
    protocol: MDProtocol,
    output: Path,
    name: str = "structure",
    restart: bool = False,
    force: bool = False,
    command: str = "",
    progress: Callable[[Progress], None] | None = None,
) -> MDRun:
    """Run molecular dynamics and write everything to a directory.

    Lines about what happens go to the logger ``piwsl.md`` and to ``md.log``.

    Args:
        structure: start structure.
        model: exported potential (either form), or a trained file, which is then exported into ``output``.
        protocol: how to run.
        output: directory of the run.
        name: of the system, for the summary.
        restart: continue the run in ``output`` to ``protocol.steps`` steps in total.
        force: replace another run in ``output``.
        command: the command line, for the summary.
        progress: called a few times a second.

    Raises:
        UnphysicalError: a stop rule ended the run; everything is written before.
        DataError: the start structure cannot be used.
        RunDirectoryError: ``output`` holds another run, or one that cannot be continued this way.
        PiwslError: other kinds for a model or an engine that cannot be used.
    """
    check_structure(structure)
    structure = files.normalised(structure)
    identity = RunIdentity(protocol, _model_sha256(model), structure_sha256(structure))
    state, damaged = _state_to_continue(output, identity) if restart else (None, [])
    if state is None:
        files.check_free(output, force)
    elif files.read_summary(output)["result"] == "completed" and state.step == protocol.steps:
        files.LOGGER.info(f"nothing to do: the run already has its {state.step} steps")
        return MDRun(output, files.read_summary(output))
    choose_threads(len(structure))
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as scratch:
        exported = prepare_model(model, structure, Path(scratch))
        if read_exported_info(exported)["format_of_program"] == "aotinductor":
            keep_largest_blocks()
        engine = make_engine(exported, structure, protocol)
        warning = check_start(structure, engine.energies().potential, engine.forces())
        if state is None:
            output.mkdir(parents=True, exist_ok=True)
            files.clear(output)
        if exported != model:
            move(exported, output / EXPORTED_NAME)
            exported = output / EXPORTED_NAME
    with log_to_file(files.LOGGER, output / files.LOG):
        for line in [*damaged, *([warning] if warning else [])]:
            files.LOGGER.warning(line)
        first = _begin(engine, structure, protocol, output, state)
        summary = new_summary(name, structure, model, exported, identity, engine, command, state)
        return _continue(engine, structure, identity, output, first, summary, progress)


def _model_sha256(model: Path) -> str:
    if not model.is_file():
        raise ModelFileError(f"{model}: no such file")
    return sha256(model)


def _state_to_continue(output: Path, identity: RunIdentity) -> tuple[RestartState, list[str]]:
    """The newest whole state of the same run, and a line for each damaged one."""
    summary = files.read_summary(output)
    if summary["result"] == "stopped":
        raise RunDirectoryError(f"{output}: was stopped ({summary['stop']['message']}): it cannot be continued")
    state, damaged = newest_state(output)
    changed = state.identity.differences(identity)
    if changed:
        raise RunDirectoryError(f"{output}: a restart continues the same run, but changed are {'; '.join(changed)}")
    if identity.protocol.steps < state.step:
        raise ConfigError(f"steps is {identity.protocol.steps}, but {output} already has {state.step}: it is the total")
    return state, [f"{line}: going back to step {state.step}" for line in damaged]


def _begin(engine: Engine, structure: Atoms, protocol: MDProtocol, output: Path, state: RestartState | None) -> int:
    """Bring the engine to its first step and say what runs."""
    log = files.LOGGER
    kind = "" if engine.force == "ASE" else f"force {engine.force} ({engine.force_reason}), "
    log.info(f"engine {engine.name}, {kind}platform {engine.platform}")
    protocol.save(output / files.CONFIG)
    if state is not None:
        exact = engine.restore(state.engine, split_seed(protocol.seed, 1, state.step))
        note = "" if exact else "; the thermostat draws new random numbers"
        log.info(f"continued from step {state.step} to {protocol.steps}{note}")
        return state.step
    files.write_structure(output / files.START, structure)
    write_topology(output / files.TOPOLOGY, structure, bonded_pairs(structure))
    rng = np.random.default_rng(np.random.SeedSequence([protocol.seed, 0]))
    engine.start(thermal_velocities(structure, protocol.temperature, rng))
    return 0


def _continue(
    engine: Engine,
    structure: Atoms,
    identity: RunIdentity,
    output: Path,
    first: int,
    summary: dict[str, Any],
    progress: Callable[[Progress], None] | None,
) -> MDRun:
    protocol = identity.protocol
    trajectory_file = output / f"trajectory.{protocol.trajectory_format}"
    summary["outputs"]["trajectory"] = trajectory_file.name
    trajectory = TrajectoryWriter(
        trajectory_file, protocol.trajectory_interval, protocol.timestep, keep=first // protocol.trajectory_interval
    )
    thermo = ThermoWriter(output / files.THERMO, protocol.timestep, keep_until=first)
    loop = Loop(engine, structure, identity, output, trajectory, thermo, summary, progress)
    try:
        outcome = loop.run(first)
    finally:
        trajectory.close()
        thermo.close()
    _finish(outcome, structure, output, summary)
    return MDRun(output, summary)


def _finish(outcome: Outcome, structure: Atoms, output: Path, summary: dict[str, Any]) -> None:
    summary["finished"] = now()
    if not (output / summary["outputs"]["trajectory"]).is_file():  # stopped before the first frame
        del summary["outputs"]["trajectory"]
    summary["result"] = outcome.result
    violation = outcome.violation
    if violation is None:
        files.write_summary(output, summary)
        files.LOGGER.info(verdict(summary))
        return
    files.write_structure(
        output / files.STOPPED, structure, outcome.positions, step=violation.step, stopped_by=violation.rule
    )
    summary["stop"] = violation.as_dict()
    summary["outputs"]["stopped"] = files.STOPPED
    files.write_summary(output, summary)
    files.LOGGER.error(f"stopped: {violation.message}")
    time_ps = violation.step * summary["timestep_fs"] / PICOSECOND
    raise UnphysicalError(
        f"the run is no longer physics after {time_ps:g} ps: {violation.message}; "
        f"the frames until then are in {output}, the broken one in {files.STOPPED}"
    )
