"""A run of molecular dynamics from a protocol to a directory that explains itself."""

import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from logging import INFO, WARNING
from pathlib import Path
from shutil import copyfile

from ase import Atoms

from piwsl.errors import UnphysicalError
from piwsl.export.opening import EXPORTED_NAMES, is_trained, model_sha256
from piwsl.md import run_directory as files
from piwsl.md.job import Job, RunIdentity, structure_sha256
from piwsl.md.progress import Progress
from piwsl.md.protocol import MDProtocol
from piwsl.md.replicas.distributed import DistributedReplicas, run_distributed
from piwsl.md.replicas.run import run_replicas
from piwsl.md.restart import Continuation, find_continuation
from piwsl.md.run_directory import MD_RUN
from piwsl.md.run_model import prepare_model
from piwsl.md.simulation import Simulation
from piwsl.md.structure import advice, check_structure, minimized, normalized, with_hydrogen_mass
from piwsl.runs.directory import RunDirectory
from piwsl.runs.files import atomic_path, writing
from piwsl.runs.process import process_settings
from piwsl.runs.summary import MDSummary
from piwsl.units import PICOSECOND

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class MDRun:
    """A run that ended.

    Attributes:
        directory: Run directory.
        summary: Content of its summary.json.
    """

    directory: Path
    summary: MDSummary

    @property
    def completed(self) -> bool:
        """All steps were made; False where the run was interrupted."""
        return self.summary.result == "completed"


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
    distributed: DistributedReplicas | None = None,
) -> MDRun:
    """Run molecular dynamics and write everything to a directory; replicas to a directory each in it.

    Messages go to the loggers below ``piwsl`` and to ``md.log``.

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
        distributed: other processes for replicas; None: this one.

    Raises:
        UnphysicalError: stop rules ended the run, or some of its replicas; everything is written before.
        DataError: the start structure cannot be used.
        RunDirectoryError: ``output`` holds another run, or one that cannot be continued this way.
        PiwslError: other kinds for a model or an engine that cannot be used.
    """
    with process_settings(huge_pages=True):
        return _run(structure, model, protocol, output, name, restart, force, command, progress, distributed)


def _run(
    structure: Atoms,
    model: Path,
    protocol: MDProtocol,
    output: Path,
    name: str,
    restart: bool,
    force: bool,
    command: str,
    progress: Callable[[Progress], None] | None,
    distributed: DistributedReplicas | None,
) -> MDRun:
    check_structure(structure)
    structure = with_hydrogen_mass(normalized(structure), protocol.hydrogen_mass)
    identity = RunIdentity(protocol, model_sha256(model), structure_sha256(structure))
    directory = RunDirectory(output, MD_RUN)
    before = find_continuation(output, identity, distributed is not None) if restart else None
    if before is None:
        directory.check_free(force)
    elif (summary := MDSummary.read(output)).result == "completed" and before.step == protocol.steps:
        LOGGER.info(f"nothing to do: the run already has its {before.step} steps")
        return MDRun(output, summary)
    with tempfile.TemporaryDirectory() as scratch:
        chunk = None if distributed is None else distributed.chunk
        job, lines = _job(structure, model, identity, output, before, Path(scratch), chunk)
        job = replace(job, name=name, command=command)
        numbers = list(before.states) if before else job.replicas
        simulation = Simulation(job, numbers if distributed is None else numbers[:1], before)
        if simulation.warning:
            lines.append((WARNING, simulation.warning))
        directory.create()
        with directory.lock():
            if before is None:
                files.clear(output)
            kept = output / job.exported.name if job.exported.parent == Path(scratch) else job.exported
            if kept != job.exported:  # the simulation uses its file to the end, others find the copy
                with writing(kept), atomic_path(kept) as temporary:
                    copyfile(job.exported, temporary)
            with directory.log():
                for level, line in lines:
                    LOGGER.log(level, line)
                with writing(output / files.CONFIG):
                    protocol.save(output / files.CONFIG)
                if distributed is not None:
                    shared = replace(job, exported=kept)
                    return MDRun(output, run_distributed(shared, simulation, distributed, progress))
                return _move(simulation, progress)


def _job(
    structure: Atoms,
    model: Path,
    identity: RunIdentity,
    output: Path,
    before: Continuation | None,
    scratch: Path,
    chunk: int | None,
) -> tuple[Job, list[tuple[int, str]]]:
    """Decide everything, with new files in ``scratch``; return also lines for the log with their levels."""
    protocol = identity.protocol
    if before is not None:
        exported = next((output / name for name in EXPORTED_NAMES if (output / name).is_file()), None)
        if exported is None or not is_trained(model):
            exported = prepare_model(model, structure, protocol, scratch, chunk)
        damaged = [(WARNING, f"{line}: the run continues from step {before.step}") for line in before.damaged]
        return Job(before.structure, model, exported, before.identity, output), damaged
    exported = prepare_model(model, structure, protocol, scratch, chunk)
    lines = [(WARNING, line) for line in advice(structure, protocol)]
    if protocol.minimize:
        structure, text = minimized(structure, exported if protocol.replicas is None else model)
        structure = normalized(structure)
        lines.append((INFO, text))
    return Job(structure, model, exported, identity, output), lines


def _move(simulation: Simulation, progress: Callable[[Progress], None] | None) -> MDRun:
    """Carry out a run in this process."""
    job = simulation.job
    if job.protocol.replicas is not None:
        return MDRun(job.output, run_replicas(simulation, progress))
    simulation.open()
    simulation.run(progress)
    recorder = simulation.recorders[0]
    if recorder.violation is not None:
        LOGGER.error(f"stopped: {recorder.violation.message}")
        raise UnphysicalError(recorder.broken(recorder.violation))
    LOGGER.info(verdict(recorder.summary))
    return MDRun(job.output, recorder.summary)


def verdict(summary: MDSummary) -> str:
    """Describe in one line how a run ended."""
    picoseconds = summary.steps_done * summary.timestep_fs / PICOSECOND
    text = f"{summary.result}: {summary.steps_done} steps ({picoseconds:g} ps)"
    if summary.result == "completed":
        text += ", no stop rule violated"
    speed = summary.speed
    return f"{text}; {speed.steps_per_second or 0.0:.0f} steps/s, {speed.ns_per_day or 0.0:.2f} ns/day"
