"""A run of molecular dynamics from a protocol to a directory that explains itself."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from logging import INFO, WARNING
from pathlib import Path
from shutil import move

from ase import Atoms

from piwsl.errors import UnphysicalError
from piwsl.export.opening import EXPORTED_NAMES, is_trained, model_sha256
from piwsl.md import run_directory as files
from piwsl.md.continuation import Continuation, find_continuation
from piwsl.md.job import Job
from piwsl.md.prepare import advice, minimized, with_hydrogen_mass
from piwsl.md.progress import Progress
from piwsl.md.protocol import MDProtocol
from piwsl.md.replicas.distributed import Spread, run_spread
from piwsl.md.replicas.run import run_replicas
from piwsl.md.restart import RunIdentity, structure_sha256
from piwsl.md.run_model import prepare_model
from piwsl.md.simulation import Simulation
from piwsl.md.structure import check_structure
from piwsl.md.summary import verdict
from piwsl.runs.files import writing
from piwsl.runs.lock import locked
from piwsl.runs.process import process_settings
from piwsl.runs.provenance import log_to_file
from piwsl.runs.summary import MDSummary


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
    spread: Spread | None = None,
) -> MDRun:
    """Run molecular dynamics and write everything to a directory; replicas to a directory each in it.

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
        spread: other processes for replicas; None: this one.

    Raises:
        UnphysicalError: stop rules ended the run, or some of its replicas; everything is written before.
        DataError: the start structure cannot be used.
        RunDirectoryError: ``output`` holds another run, or one that cannot be continued this way.
        PiwslError: other kinds for a model or an engine that cannot be used.
    """
    with process_settings(huge_pages=True):
        return _run(structure, model, protocol, output, name, restart, force, command, progress, spread)


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
    spread: Spread | None,
) -> MDRun:
    check_structure(structure)
    structure = with_hydrogen_mass(files.normalized(structure), protocol.hydrogen_mass)
    identity = RunIdentity(protocol, model_sha256(model), structure_sha256(structure))
    before = find_continuation(output, identity, spread is not None) if restart else None
    if before is None:
        files.check_free(output, force)
    elif (summary := MDSummary.read(output)).result == "completed" and before.step == protocol.steps:
        files.LOGGER.info(f"nothing to do: the run already has its {before.step} steps")
        return MDRun(output, summary)
    with tempfile.TemporaryDirectory() as scratch:
        chunk = None if spread is None else spread.chunk
        job, said = _job(structure, model, identity, output, before, Path(scratch), chunk)
        job = replace(job, name=name, command=command)
        numbers = list(before.states) if before else job.replicas
        simulation = Simulation(job, numbers if spread is None else numbers[:1], before)
        files.make(output)
        with locked(output):
            if before is None:
                files.clear(output)
            if job.exported.parent == Path(scratch):
                move(job.exported, output / job.exported.name)
                simulation.job = replace(job, exported=output / job.exported.name)
            with log_to_file(files.LOGGER, output / files.LOG):
                for level, line in [*said, *([(WARNING, simulation.warning)] if simulation.warning else [])]:
                    files.LOGGER.log(level, line)
                with writing(output / files.CONFIG):
                    protocol.save(output / files.CONFIG)
                return _carry_out(simulation, spread, progress)


def _job(
    structure: Atoms,
    model: Path,
    identity: RunIdentity,
    output: Path,
    before: Continuation | None,
    scratch: Path,
    chunk: int | None,
) -> tuple[Job, list[tuple[int, str]]]:
    """Everything decided, with new files in ``scratch``; and lines for the log with their levels."""
    protocol = identity.protocol
    if before is not None:
        identity = next(iter(before.states.values())).identity
        found = [output / name for name in EXPORTED_NAMES if (output / name).is_file()]
        exported = (
            found[0] if found and is_trained(model) else prepare_model(model, structure, protocol, scratch, chunk)
        )
        damaged = [(WARNING, f"{line}: going back to step {before.step}") for line in before.damaged]
        return Job(files.read_start(output), model, exported, identity, output), damaged
    exported = prepare_model(model, structure, protocol, scratch, chunk)
    lines = [(WARNING, line) for line in advice(structure, protocol)]
    if protocol.minimize:
        structure, said = minimized(structure, exported if protocol.replicas is None else model)
        structure = files.normalized(structure)
        lines.append((INFO, said))
    return Job(structure, model, exported, identity, output), lines


def _carry_out(simulation: Simulation, spread: Spread | None, progress: Callable[[Progress], None] | None) -> MDRun:
    job = simulation.job
    if spread is not None:
        return MDRun(job.output, run_spread(simulation, spread, progress))
    if job.protocol.replicas is not None:
        return MDRun(job.output, run_replicas(simulation, progress))
    simulation.open()
    simulation.run(progress)
    recorder = simulation.recorders[0]
    if recorder.violation is not None:
        files.LOGGER.error(f"stopped: {recorder.violation.message}")
        raise UnphysicalError(recorder.broken(recorder.violation))
    files.LOGGER.info(verdict(recorder.summary))
    return MDRun(job.output, recorder.summary)
