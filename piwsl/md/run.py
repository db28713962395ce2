"""Molecular dynamics runs, from the arguments of the caller to a complete run directory."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from logging import INFO, WARNING
from os import PathLike
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING, Any

from ase import Atoms

from piwsl.data.systems import Structure
from piwsl.errors import ConfigError, RunDirectoryError, UnphysicalError, public
from piwsl.export.loading import EXPORTED_NAMES, is_own_code, model_sha256
from piwsl.md import run_directory as files
from piwsl.md.inputs import md_inputs
from piwsl.md.job import Job, RunIdentity, structure_sha256
from piwsl.md.progress import Progress, reporting_progress
from piwsl.md.protocol import MDProtocol
from piwsl.md.replicas.distributed import DistributedReplicas, distributed_replicas, run_distributed
from piwsl.md.replicas.run import run_replicas
from piwsl.md.restart import Continuation, find_continuation
from piwsl.md.run_directory import MD_RUN
from piwsl.md.run_model import domain_warnings, prepare_model, trained_source
from piwsl.md.simulation import Simulation
from piwsl.md.stop.rules import OwnRule, check_picklable
from piwsl.md.structure import advice, minimized, normalized, prepared
from piwsl.runs import notebook
from piwsl.runs.directory import RunDirectory
from piwsl.runs.files import atomic_path, sha256, writing
from piwsl.runs.process_settings import process_settings
from piwsl.runs.scratch import scratch_directory
from piwsl.runs.summary import MDSummary, recorded_violations
from piwsl.structures.files import check_structure
from piwsl.units import PICOSECOND

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class MDRun:
    """Result of a molecular dynamics run.

    Attributes:
        directory: Run directory.
        summary: Content of ``summary.json``.
    """

    directory: Path
    summary: MDSummary

    @property
    def completed(self) -> bool:
        """Whether all steps were completed; False if the run was interrupted or stopped."""
        return self.summary.result == "completed"

    @property
    def result(self) -> str:
        """Outcome: ``completed``, ``interrupted`` or ``stopped``."""
        return self.summary.result

    @property
    def steps(self) -> int:
        """Number of completed steps; for replicas, the smallest number among the remaining replicas."""
        return self.summary.steps_done

    @property
    def stable(self) -> bool:
        """Whether no stop rule was violated, in any replica."""
        stops = [self.summary.stop, *(replica.stop for replica in self.summary.replicas or ())]
        return all(violation.advisory for violation in self.summary.violations) and not any(stops)

    @classmethod
    def read(cls, directory: str | PathLike[str]) -> "MDRun":
        """Read a run from its directory, for instance after a stop rule has ended the run with an error.

        Raises:
            RunDirectoryError: The directory contains no run.
        """
        return cls(Path(directory), MDSummary.read(Path(directory)))

    def plot(self) -> "Figure":
        """Plot energies and temperature against time, for each replica."""
        from piwsl.md.thermo_figure import thermo_figure  # matplotlib

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
        replicas = [(record.directory, record.result, record.steps_done) for record in summary.replicas or ()]
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
    distributed: DistributedReplicas | None = None,
    stop_rules: Sequence[OwnRule] = (),
    strict: bool = False,
) -> MDRun:
    """Run molecular dynamics with resolved inputs and write all output to a directory.

    Each replica has a subdirectory. Log messages are also written to ``md.log``.

    Args:
        structure: Start structure.
        model: Exported potential of either target, or a trained file, which is exported to ``output``.
        protocol: Protocol of the run.
        output: Run directory.
        name: Name of the system, stored in the summary.
        restart: Continue the run in ``output`` to ``protocol.steps`` steps in total.
        force: Replace another run in ``output``.
        command: Command line, stored in the summary.
        progress: Progress callback, called a few times per second.
        distributed: Processes that run the replicas; None: this process.
        stop_rules: Custom stop rules, in addition to ``protocol.stop``. Each rule is an object with ``name`` and
            ``check`` (see `piwsl.md.StopRule`), which is copied for every replica, or a class or function that
            creates a rule from the start structure. Pass the same rules to a restart.
        strict: Refuse a start structure outside the training data instead of logging a warning.

    Raises:
        UnphysicalError: Stop rules ended the run or some of its replicas; all output is written first.
        DataError: The start structure cannot be used.
        RunDirectoryError: ``output`` contains another run, or a run that cannot be continued with these inputs.
        PiwslError: The model or the engine cannot be used.
    """
    with process_settings(huge_pages=True):
        return _run(
            structure, model, protocol, output, name, restart, force, command, progress, distributed, stop_rules, strict
        )


_NO_VELOCITIES = "the velocities of the structure are not used: new ones are drawn at {:g} K with seed {}"


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
    stop_rules: Sequence[OwnRule],
    strict: bool,
) -> MDRun:
    check_structure(structure)
    if distributed is not None:
        check_picklable(stop_rules)
    moves = bool(structure.get_momenta().any())
    structure = prepared(structure, protocol)
    identity = RunIdentity(protocol, model_sha256(model), structure_sha256(structure))
    directory = RunDirectory(output, MD_RUN)
    before = find_continuation(output, identity, distributed is not None) if restart else None
    if before is None:
        directory.check_free(force)
    elif (summary := MDSummary.read(output)).result == "completed" and before.step == protocol.steps:
        LOGGER.info(f"nothing to do: the run has already completed its {before.step} steps")
        return MDRun(output, summary)
    with scratch_directory("md") as scratch:
        chunk = None if distributed is None else distributed.chunk
        job, lines = _job(structure, model, identity, output, before, scratch, chunk)
        if before is None:
            lines += [(WARNING, line) for line in domain_warnings(job.exported, structure, model, strict)]
            if moves:
                lines.append((WARNING, _NO_VELOCITIES.format(protocol.temperature.start, protocol.seed)))
        job = replace(job, name=name, command=command, stop_rules=tuple(stop_rules))
        numbers = list(before.states) if before else job.replicas
        simulation = Simulation(job, numbers if distributed is None else numbers[:1], before)
        if simulation.warning:
            lines.append((WARNING, simulation.warning))
        directory.create()
        with directory.lock():
            if before is None:
                directory.check_free(force)  # another process may have used the directory in the meantime
                files.clear(output)
            elif find_continuation(output, identity, distributed is not None).step != before.step:
                raise RunDirectoryError(
                    f"{output}: another process continued this run in the meantime: repeat the command"
                )
            kept = output / job.exported.name if job.exported.parent == Path(scratch) else job.exported
            if kept != job.exported:  # the simulation keeps using its file; later runs use the copy
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
    """Complete the description of a run, with new files in ``scratch``.

    Returns:
        The job, and the lines to log with their levels.
    """
    protocol = identity.protocol
    if before is not None:
        # The directory may come from an untrusted source: use its exported file only if this user made the file.
        made = (output / name for name in EXPORTED_NAMES if (output / name).is_file())
        exported = next((file for file in made if is_own_code(file, sha256(file))), None)
        if exported is None or trained_source(model) is None:
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
    """Run a simulation in this process."""
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
        text += f", {recorded_violations(summary.violations)}"
    speed = summary.speed
    return f"{text}; {speed.steps_per_second or 0.0:.0f} steps/s, {speed.ns_per_day or 0.0:.2f} ns/day"


@public
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
    strict: bool = False,
    scheduler: str | None = None,
    dask_workers: int | None = None,
    **options: Any,
) -> MDRun:
    """Run molecular dynamics with an exported or trained potential.

    The run stops if the structure becomes unphysical. Ctrl-C writes a restart state before the run ends.

    Args:
        structure: Start structure: an ASE structure, a frame, a file that ASE can read, or the name of a bundled
            system.
        model: Exported potential, or a trained file, which is exported for the structure. None selects the model of the
            bundled system.
        system: Name of a bundled system, or of an rMD17 molecule that the structure must match.
        config: YAML file or mapping with options, and with ``system``, ``structure``, ``model`` and ``output``.
        protocol: `MDProtocol`, or the name of a published protocol (``fu2023``, ``piwsl2025``).
        output: Run directory. The default is ``runs/md-NAME``, named after the system or the structure.
        restart: Continue the run in ``output``; ``steps`` is the total number of steps.
        force: Replace another run in ``output``.
        progress: Callback that is called a few times per second. True or False shows or hides a progress bar; None
            shows a bar in notebooks and in interactive sessions.
        stop_rules: Custom stop rules, in addition to the option ``stop``: objects with ``name`` and ``check`` (see
            `piwsl.md.StopRule`), or functions that create such an object from the start structure. Pass the same
            rules to a restart.
        strict: Refuse a start structure outside the training data instead of logging a warning.
        scheduler: Address of a Dask scheduler whose workers run the replicas.
        dask_workers: Number of Dask workers to start on this machine for the replicas.
        **options: Fields of `MDProtocol`, such as ``steps``, ``temperature`` (K), ``timestep`` (fs) and ``ensemble``.
            They take precedence over ``config``, and ``config`` over ``protocol``.

    Raises:
        UnphysicalError: Stop rules ended the run or some of its replicas; all output is written first.
        ConfigError: A required argument is missing, or an option is unknown or out of range.
        DataError: The start structure cannot be used.
        RunDirectoryError: The directory contains another run, or a run that cannot be continued with these arguments.
        ModelFileError: The model file is missing or damaged, or was not written by piwsl.
        ElementError: The structure contains an element that the model does not support.
    """
    if restart and force:
        raise ConfigError("restart=True continues a run and force=True replaces it: give only one of them")
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
            distributed_replicas(scheduler, dask_workers, len(inputs.structure), inputs.protocol) as distributed,
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
                distributed=distributed,
                stop_rules=stop_rules,
                strict=strict,
            )
    except UnphysicalError:
        LOGGER.info(f"results: {inputs.output}")
        raise
    LOGGER.info(f"results: {run.directory}")
    return run
