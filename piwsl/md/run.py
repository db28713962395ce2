"""A run of molecular dynamics from a protocol to a directory that explains itself."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import move
from typing import Any

import numpy as np
from ase import Atoms

from piwsl.errors import ConfigError, RunDirectoryError, UnphysicalError
from piwsl.export.exported import read_exported_info
from piwsl.md import run_directory as files
from piwsl.md.engines.base import Engine, phase_seed
from piwsl.md.engines.make import make_engine
from piwsl.md.engines.single import SingleCopy
from piwsl.md.ensembles import conserves_momentum
from piwsl.md.forces.threads import choose_threads
from piwsl.md.loop import Loop
from piwsl.md.model import EXPORTED_NAME, model_sha256, prepare_model
from piwsl.md.output.frame import writing
from piwsl.md.output.topology import write_topology
from piwsl.md.prepare import advice, minimised, with_hydrogen_mass
from piwsl.md.progress import Progress, SpeedMeter
from piwsl.md.protocol import MDProtocol
from piwsl.md.recorder import Recorder
from piwsl.md.restart import RestartState, RunIdentity, newest_state, structure_sha256
from piwsl.md.stop.rules import StopRules, make_rules
from piwsl.md.stop.start import check_start
from piwsl.md.structure import bonded_pairs, check_structure, thermal_velocities, without_overall_motion
from piwsl.md.summary import new_summary, verdict
from piwsl.memory import keep_freed_memory, keep_largest_blocks
from piwsl.provenance import log_to_file


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
    structure = with_hydrogen_mass(files.normalised(structure), protocol.hydrogen_mass)
    identity = RunIdentity(protocol, model_sha256(model), structure_sha256(structure))
    state, damaged = _state_to_continue(output, identity) if restart else (None, [])
    identity = state.identity if state else identity
    if state is None:
        files.check_free(output, force)
    elif files.read_summary(output)["result"] == "completed" and state.step == protocol.steps:
        files.LOGGER.info(f"nothing to do: the run already has its {state.step} steps")
        return MDRun(output, files.read_summary(output))
    choose_threads(len(structure))
    keep_freed_memory()
    lines = [f"{line}: going back to step {state.step}" for line in damaged] if state else advice(structure, protocol)
    with tempfile.TemporaryDirectory() as scratch:
        exported = prepare_model(model, structure, Path(scratch))
        if read_exported_info(exported)["format_of_program"] == "aotinductor":
            keep_largest_blocks()
        said = None
        if state is not None:
            structure = files.read_start(output)
        elif protocol.minimise:
            structure, said = minimised(structure, exported)
            structure = files.normalised(structure)
        first = state.step if state else -protocol.equilibration
        engine = make_engine(exported, structure, protocol, first)
        warning = check_start(structure, engine.energies().potential, engine.forces())
        rules = make_rules(structure, protocol, engine.ensemble, engine.degrees_of_freedom, exported)
        if state is None:
            files.begin(output)
        if exported != model:
            move(exported, output / EXPORTED_NAME)
            exported = output / EXPORTED_NAME
    with log_to_file(files.LOGGER, output / files.LOG):
        for line in [*lines, *([warning] if warning else [])]:
            files.LOGGER.warning(line)
        if said:
            files.LOGGER.info(said)
        _begin(engine, structure, protocol, output, state)
        summary = new_summary(name, structure, model, exported, identity, engine, command, state)
        if state is not None:
            earlier = files.read_summary(output)["violations"]
            summary["violations"] = [one for one in earlier if one["step"] <= state.step]
        return _go(engine, rules, structure, exported, identity, output, state, summary, progress)


def _state_to_continue(output: Path, identity: RunIdentity) -> tuple[RestartState, list[str]]:
    """The newest whole state of the same run, and a line for each damaged one."""
    summary = files.read_summary(output)
    if summary["result"] == "stopped":
        raise RunDirectoryError(f"{output}: was stopped ({summary['stop']['message']}): it cannot be continued")
    state, damaged = newest_state(output)
    if identity.structure_sha256 == structure_sha256(files.read_start(output)):  # which may be a minimised one
        identity = replace(identity, structure_sha256=state.identity.structure_sha256)
    changed = state.identity.differences(identity)
    if changed:
        raise RunDirectoryError(f"{output}: a restart continues the same run, but changed are {'; '.join(changed)}")
    if identity.protocol.steps < state.step:
        raise ConfigError(f"steps is {identity.protocol.steps}, but {output} already has {state.step}: it is the total")
    return replace(state, identity=identity), damaged


def _begin(engine: Engine, structure: Atoms, protocol: MDProtocol, output: Path, state: RestartState | None) -> None:
    """Bring the engine to its first step and say what runs."""
    log = files.LOGGER
    kind = "" if engine.force == "ASE" else f"force {engine.force} ({engine.force_reason}), "
    log.info(f"engine {engine.name}, {kind}platform {engine.platform}")
    with writing(output / files.CONFIG):
        protocol.save(output / files.CONFIG)
    if state is not None:
        exact = engine.restore(state.engine, phase_seed(protocol.seed, state.step, protocol.equilibration))
        note = "" if exact else "; the thermostat draws new random numbers"
        log.info(f"continued from step {state.step} to {protocol.steps}{note}")
        return
    files.write_structure(output / files.START, structure)
    write_topology(output / files.TOPOLOGY, structure, bonded_pairs(structure))
    rng = np.random.default_rng(np.random.SeedSequence([protocol.seed, 0]))
    engine.start(thermal_velocities(structure, protocol.temperature.start, rng))


def _go(
    engine: Engine,
    rules: StopRules,
    structure: Atoms,
    exported: Path,
    identity: RunIdentity,
    output: Path,
    state: RestartState | None,
    summary: dict[str, Any],
    progress: Callable[[Progress], None] | None,
) -> MDRun:
    """Equilibration, where there is any left, and production."""
    protocol = identity.protocol
    step = state.step if state else -protocol.equilibration
    meter = SpeedMeter(step, protocol.steps, protocol.timestep)
    phases = [last for last in (0, protocol.steps) if last > step]
    recorder = None
    try:
        for last in phases:
            if recorder is not None:
                engine = _production(engine, structure, exported, protocol)
                rules = make_rules(structure, protocol, engine.ensemble, engine.degrees_of_freedom, exported)
                recorder.close()
            recorder = Recorder(output, structure, identity, rules, summary, engine.degrees_of_freedom, step)
            if state is not None:
                rules.restore(state.rules)
                recorder.kept, state = state, None
            step = Loop(SingleCopy(engine), [recorder], protocol, progress).run(step, last, meter)
            if step < last or recorder.violation is not None:
                break
    finally:
        if recorder is not None:
            recorder.close()
    assert recorder is not None
    if recorder.violation is not None:
        files.LOGGER.error(f"stopped: {recorder.violation.message}")
        raise UnphysicalError(recorder.broken(recorder.violation))
    recorder.finish("completed" if step == protocol.steps else "interrupted")
    files.LOGGER.info(verdict(summary))
    return MDRun(output, summary)


def _production(engine: Engine, structure: Atoms, exported: Path, protocol: MDProtocol) -> Engine:
    """The engine of production, where equilibration has left the atoms."""
    snapshot = engine.snapshot()
    atoms = structure.copy()
    atoms.positions = snapshot.positions
    if snapshot.cell is not None:
        atoms.set_cell(snapshot.cell)
    velocities = snapshot.velocities
    if conserves_momentum(protocol.ensemble, protocol.engine):
        velocities = without_overall_motion(atoms, velocities)
    made = make_engine(exported, atoms, protocol, 0)
    made.start(velocities)
    files.LOGGER.info(f"equilibrated for {protocol.equilibration} steps; now {protocol.ensemble}")
    return made
