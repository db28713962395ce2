"""A run of molecular dynamics, from what the caller names to a directory that explains itself."""

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from logging import INFO, WARNING
from os import PathLike
from pathlib import Path
from shutil import move
from typing import Any

from ase import Atoms
from matplotlib.figure import Figure

from piwsl.data.systems import Structure
from piwsl.errors import ConfigError, UnphysicalError
from piwsl.export.loading import EXPORTED_NAMES, is_trained, model_sha256
from piwsl.md import run_directory as files
from piwsl.md.continuation import Continuation, find_continuation
from piwsl.md.inputs import md_inputs
from piwsl.md.job import Job
from piwsl.md.prepare import advice, minimized, with_hydrogen_mass
from piwsl.md.progress import Progress, reporting_progress
from piwsl.md.protocol import MDProtocol
from piwsl.md.replicas.distributed import Spread, run_spread, spread_over
from piwsl.md.replicas.run import run_replicas
from piwsl.md.restart import RunIdentity, structure_sha256
from piwsl.md.run_model import prepare_model
from piwsl.md.simulation import Simulation
from piwsl.md.stop.rules import OwnRule, check_picklable
from piwsl.md.summary import verdict
from piwsl.md.thermo_figure import thermo_figure
from piwsl.runs import notebook
from piwsl.runs.files import writing
from piwsl.runs.lock import locked
from piwsl.runs.process import process_settings
from piwsl.runs.provenance import log_to_file
from piwsl.runs.summary import MDSummary
from piwsl.structures.files import check_structure
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
        """Whether all steps were made; False where the run was interrupted."""
        return self.summary.result == "completed"

    @property
    def result(self) -> str:
        """Outcome: ``completed``, ``interrupted`` or ``stopped``."""
        return self.summary.result

    @property
    def steps(self) -> int:
        """Number of steps; of replicas, the smallest number of those that remain."""
        return self.summary.steps_done

    @property
    def stable(self) -> bool:
        """Whether no stop rule was violated, in any replica."""
        stops = [self.summary.stop, *(replica.stop for replica in self.summary.replicas or ())]
        return not self.summary.violations and not any(stops)

    @classmethod
    def read(cls, directory: str | PathLike[str]) -> "MDRun":
        """Return the run in a directory, such as that of a run which stop rules ended with an error.

        Raises:
            RunDirectoryError: the directory contains no run.
        """
        return cls(Path(directory), MDSummary.read(Path(directory)))

    def plot(self) -> Figure:
        """Draw energies and temperature against time; of replicas, those of each."""
        return thermo_figure(self._thermo_files())

    def _thermo_files(self) -> list[Path]:
        names = [replica.directory for replica in self.summary.replicas or ()] or ["."]
        return [path for path in (self.directory / name / files.THERMO for name in names) if path.is_file()]

    def __repr__(self) -> str:
        return f"MDRun({str(self.directory)!r}, {self.result}, {self.steps} steps)"

    def _repr_html_(self) -> str:
        summary = self.summary
        violations = [*summary.violations, *([summary.stop] if summary.stop else [])]
        speed = summary.speed.ns_per_day
        pairs = [
            ("directory", self.directory),
            ("system", f"{summary.system.name}, {summary.system.formula}"),
            ("result", f"{self.result} after {self.steps} of {summary.steps_requested} steps"),
            ("length", f"{self.steps * summary.timestep_fs / PICOSECOND:g} ps"),
            ("ensemble", f"{summary.ensemble}, {summary.temperature_K} K"),
            ("engine", ", ".join(filter(None, (summary.engine, summary.force, summary.platform)))),
            ("speed", "" if speed is None else f"{speed:.2f} ns/day"),
        ]
        replicas = [(one.directory, one.result, one.steps_done) for one in summary.replicas or ()]
        return notebook.block(
            notebook.facts(pairs),
            notebook.table(replicas, ("replica", "result", "steps")) if replicas else "",
            notebook.lines(f"violated: {violation.message}" for violation in violations),
            notebook.picture(self.plot(), "energies and temperature by time") if self._thermo_files() else "",
        )


def run_protocol(
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
    stop_rules: Sequence[OwnRule] = (),
) -> MDRun:
    """Run molecular dynamics with complete inputs and write everything to a directory.

    Replicas have a directory each within it. Lines about the run are logged and written to ``md.log``.

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
        stop_rules: stop rules of your own, beside those of ``protocol.stop``: objects with ``name`` and ``check`` (see
            `piwsl.md.StopRule`), of which every replica gets a copy, or classes or functions that make one from the
            start structure. A restart needs them again.

    Raises:
        UnphysicalError: stop rules ended the run, or some of its replicas; everything is written before.
        DataError: the start structure cannot be used.
        RunDirectoryError: ``output`` holds another run, or one that cannot be continued this way.
        PiwslError: other kinds for a model or an engine that cannot be used.
    """
    with process_settings(huge_pages=True):
        return _run(structure, model, protocol, output, name, restart, force, command, progress, spread, stop_rules)


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
    stop_rules: Sequence[OwnRule],
) -> MDRun:
    check_structure(structure)
    if spread is not None:
        check_picklable(stop_rules)
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
        job = replace(job, name=name, command=command, stop_rules=tuple(stop_rules))
        numbers = list(before.states) if before else job.replicas
        simulation = Simulation(job, numbers if spread is None else numbers[:1], before)
        files.make(output)
        with locked(output):
            if before is None:
                files.clear(output)
            if job.exported.parent == Path(scratch):
                move(job.exported, output / job.exported.name)
                simulation.job = replace(job, exported=output / job.exported.name)
            with log_to_file(logging.getLogger("piwsl"), output / files.LOG):
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


def run_md(
    structure: Structure | None = None,
    model: str | PathLike[str] | None = None,
    *,
    system: str | None = None,
    config: Mapping[str, Any] | str | PathLike[str] | None = None,
    protocol: MDProtocol | str | None = None,
    output: str | PathLike[str] | None = None,
    restart: bool = False,
    force: bool = False,
    progress: Callable[[Progress], None] | bool | None = None,
    stop_rules: Sequence[OwnRule] = (),
    scheduler: str | None = None,
    dask_workers: int | None = None,
    **options: Any,
) -> MDRun:
    """Run molecular dynamics with an exported or trained potential.

    A run stops when its structure becomes unphysical. Ctrl-C writes a restart state first.

    Args:
        structure: start structure: ASE structure, frame, file in a format of ASE, or name of a bundled system.
        model: exported potential, or a trained file, which is exported for the structure; None: the model of the
            bundled system.
        system: bundled system, or a molecule of rMD17, with which the structure is compared.
        config: YAML file or mapping with options, and with ``system``, ``structure``, ``model`` and ``output``.
        protocol: `MDProtocol`, or the name of a published one (``fu2023``, ``piwsl2025``).
        output: run directory; default: ``runs/md-NAME``, named after the system or the structure.
        restart: continue the run in ``output``; ``steps`` is the total number of steps.
        force: replace another run in ``output``.
        progress: called a few times a second; True or False shows or hides a bar; None shows one in notebooks and in
            interactive sessions.
        stop_rules: stop rules of your own, beside those of the option ``stop``: objects with ``name`` and ``check``
            (see `piwsl.md.StopRule`), or functions that make one from the start structure. A restart needs them again.
        scheduler: address of a Dask scheduler whose workers move replicas.
        dask_workers: number of Dask workers on this machine that move replicas.
        **options: fields of `MDProtocol`, such as ``steps``, ``temperature`` (K), ``timestep`` (fs) and ``ensemble``.
            They take precedence over ``config``, and ``config`` over ``protocol``.

    Raises:
        UnphysicalError: stop rules ended the run, or some of its replicas; everything is written before.
        ConfigError: something is missing, or an option is unknown or out of range.
        DataError: the start structure cannot be used.
        RunDirectoryError: the directory contains another run, or one that cannot be continued this way.
        ModelFileError: the model file is missing, damaged or not a file of piwsl.
        ElementError: the model was not made for an element of the structure.
    """
    if restart and force:
        raise ConfigError("restart=True continues a run and force=True replaces it: give one of them")
    inputs = md_inputs(
        structure,
        model,
        system=system,
        config=config,
        protocol=protocol,
        output=output,
        restart=restart,
        options=options,
    )
    LOGGER.info(f"{inputs.name}: {inputs.protocol.summary()} -> {inputs.output}")
    try:
        with (
            spread_over(scheduler, dask_workers, len(inputs.structure), inputs.protocol) as spread,
            reporting_progress(progress) as report,
        ):
            run = run_protocol(
                inputs.structure,
                inputs.model,
                inputs.protocol,
                inputs.output,
                name=inputs.name,
                restart=restart,
                force=force,
                progress=report,
                spread=spread,
                stop_rules=stop_rules,
            )
    except UnphysicalError:
        LOGGER.info(f"results: {inputs.output}")
        raise
    LOGGER.info(f"results: {run.directory}")
    return run
