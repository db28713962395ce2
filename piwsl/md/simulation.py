"""Simulation of the replicas of a job through equilibration and production."""

import logging
from collections.abc import Callable, Sequence

import numpy as np
from ase import Atoms
from ase.data import atomic_masses

from piwsl.export.exported_file import ExportedRecord, read_exported_info
from piwsl.md import run_directory as files
from piwsl.md.engines.base import ReplicaEngine, Snapshot, phase_seed
from piwsl.md.engines.make import Starts, make_engine
from piwsl.md.ensembles import conserves_momentum
from piwsl.md.job import Job
from piwsl.md.loop import Loop
from piwsl.md.progress import Progress, SpeedMeter
from piwsl.md.protocol import MDProtocol
from piwsl.md.recorder import Recorder
from piwsl.md.restart import Continuation, RestartState
from piwsl.md.stop.rule import Phase
from piwsl.md.stop.rules import StopRules, make_rules
from piwsl.md.stop.start import check_start
from piwsl.md.structure import thermal_velocities, without_overall_motion
from piwsl.runs.files import writing
from piwsl.runs.process_settings import choose_threads, keep_largest_blocks
from piwsl.runs.summary import MDSummary, ModelRecord, SystemRecord, provenance
from piwsl.structures.bonds import bonded_pairs
from piwsl.trajectories.topology import write_topology

LOGGER = logging.getLogger(__name__)
_BULKY = ("check", "sha256")  # entries of the model description that the summary omits


class Simulation:
    """Engine, stop rules and recorders for some replicas of a job. Nothing is written before `open` is called.

    Args:
        job: Description of the run.
        replicas: Numbers of the replicas to run, without replicas that an earlier session has stopped.
        before: State from which a run continues; None for a new run.

    Raises:
        EngineError: The engine cannot run the job.
        ConfigError: A stop rule does not fit the run.
    """

    def __init__(self, job: Job, replicas: Sequence[int], before: Continuation | None = None) -> None:
        self.job, self.before = job, before
        self.step = before.step if before else -job.protocol.equilibration
        self.recorders: dict[int, Recorder] = {}
        configure_process(job)
        self._build(starts(job.structure, job.protocol, replicas))
        self.warning = self._look_at_start()

    @property
    def violated(self) -> dict[int, Recorder]:
        """Recorders of the replicas that became unphysical."""
        return {number: recorder for number, recorder in self.recorders.items() if recorder.violation is not None}

    @property
    def completed(self) -> bool:
        """Whether all steps were completed."""
        return self.step == self.job.protocol.steps

    def open(self) -> None:
        """Prepare the directories and restore the engine if the run continues."""
        protocol = self.job.protocol
        kind = "" if self.engine.force == "ASE" else f"force {self.engine.force} ({self.engine.force_reason}), "
        LOGGER.info(f"engine {self.engine.name}, {kind}platform {self.engine.platform}")
        if self.before is not None:
            states = {number: state.engine for number, state in self.before.states.items()}
            seeds = {
                number: phase_seed(protocol.seed_of(number), self.step, protocol.equilibration) for number in states
            }
            exact = self.engine.restore(states, seeds)
            note = "" if exact else "; the thermostat draws new random numbers"
            LOGGER.info(f"continued from step {self.step} to {protocol.steps}{note}")
            return
        for number in self.engine.replicas:
            directory = self.job.directory(number)
            with writing(directory):
                directory.mkdir(exist_ok=True)
            if directory != self.job.output:
                files.clear(directory)
            files.write_structure(directory / files.START, self.job.structure)
            write_topology(directory / files.TOPOLOGY, self.job.structure, bonded_pairs(self.job.structure))

    def run(
        self,
        progress: Callable[[Progress], None] | None = None,
        on_checkpoint: Callable[[], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        """Run the remaining steps of equilibration and production; an interruption ends the run early.

        Args:
            progress: Progress callback, called a few times per second.
            on_checkpoint: Callback that is called after restart states were written.
            should_stop: Callback that is polled before each block of steps; return True to stop the run early.
        """
        protocol = self.job.protocol
        meter = SpeedMeter(self.step, protocol.steps, protocol.timestep)
        summaries = {number: self._summary(number) for number in self.engine.replicas}
        try:
            for last in [last for last in (0, protocol.steps) if last > self.step] or [protocol.steps]:
                if self.recorders:
                    self._next_phase()
                for number in self.engine.replicas:
                    self.recorders[number] = self._recorder(number, summaries[number])
                self.before = None
                loop = Loop(self.engine, self.recorders, protocol, progress, on_checkpoint, should_stop)
                self.step = loop.run(self.step, last, meter)
                if self.step < last or not self.engine.replicas:
                    break
        finally:
            for recorder in self.recorders.values():
                recorder.close()
        for number in self.engine.replicas:
            self.recorders[number].finish("completed" if self.completed else "interrupted")

    def _build(self, where: Starts) -> None:
        job = self.job
        self.engine = make_engine(job.exported, job.structure, job.protocol, where, self.step)
        highest = job.protocol.temperature.highest
        domain = ExportedRecord.model_validate(read_exported_info(job.exported)).domain
        freedom = self.engine.degrees_of_freedom
        phase = Phase(job.structure, self.engine.ensemble, freedom, highest, job.exported, domain)
        rules = make_rules(phase, job.protocol.stop, job.stop_rules, len(where))
        self._rules: dict[int, StopRules] = dict(zip(where, rules, strict=True))

    def _look_at_start(self) -> str | None:
        """Check the forces on the start structure, which is the same for all replicas."""
        return check_start(self.job.structure, self.engine.energies()[0].potential, self.engine.forces()[0])

    def _next_phase(self) -> None:
        """Start production from the final state of equilibration."""
        job, protocol = self.job, self.job.protocol
        where = dict(zip(self.engine.replicas, self.engine.snapshots(), strict=True))
        if conserves_momentum(protocol.ensemble, protocol.engine):
            where = {number: _at_rest(job.structure, snapshot) for number, snapshot in where.items()}
        for number in where:
            self.recorders[number].close()
        self._build(where)
        LOGGER.info(f"equilibrated for {protocol.equilibration} steps; continuing with {protocol.ensemble}")

    def _summary(self, number: int) -> MDSummary:
        state = self.before.states[number] if self.before else None
        summary = new_summary(self.job, self.engine, number, state)
        if state is not None:
            earlier = MDSummary.read(self.job.directory(number)).violations
            summary.violations = [violation for violation in earlier if violation.step <= state.step]
        return summary

    def _recorder(self, number: int, summary: MDSummary) -> Recorder:
        job, rules = self.job, self._rules[number]
        freedom = self.engine.degrees_of_freedom
        recorder = Recorder(job.directory(number), job.structure, job.identity, rules, summary, freedom, self.step)
        if self.before is not None:
            state = self.before.states[number]
            rules.restore(state.rules)
            recorder.kept = state
        return recorder


def configure_process(job: Job) -> None:
    """Configure threads and memory of this process for a run; call this function within `process_settings`."""
    if job.protocol.replicas is None:
        choose_threads(len(job.structure))
    if read_exported_info(job.exported)["format_of_program"] == "aotinductor":
        keep_largest_blocks()


def starts(structure: Atoms, protocol: MDProtocol, replicas: Sequence[int]) -> dict[int, Snapshot]:
    """Return the start snapshot of each replica, with velocities drawn from its seed."""
    snapshots = {}
    cell = np.array(structure.cell.array) if structure.pbc.any() else None
    for number in replicas:
        rng = np.random.default_rng(np.random.SeedSequence([protocol.seed_of(number), 0]))
        velocities = thermal_velocities(structure, protocol.temperature.start, rng)
        snapshots[number] = Snapshot(structure.positions.copy(), velocities, cell)
    return snapshots


def _at_rest(structure: Atoms, snapshot: Snapshot) -> Snapshot:
    """Return a snapshot with overall translation and rotation removed."""
    atoms = structure.copy()
    atoms.positions = snapshot.positions
    if snapshot.cell is not None:
        atoms.set_cell(snapshot.cell)
    return Snapshot(snapshot.positions, without_overall_motion(atoms, snapshot.velocities), snapshot.cell)


def _own_masses(structure: Atoms) -> list[float] | None:
    """Return the masses, amu; None if they equal the standard atomic masses."""
    masses = structure.get_masses()
    if np.allclose(masses, atomic_masses[structure.numbers], rtol=1e-6):
        return None
    return [float(mass) for mass in masses]


def new_summary(job: Job, engine: ReplicaEngine, replica: int | None, state: RestartState | None) -> MDSummary:
    """Return the initial summary of a run that starts or continues.

    Args:
        job: Description of the run.
        engine: Engine of the run.
        replica: Number of the replica; None for the summary of all replicas.
        state: State from which the run continues; None for a new run.
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
            masses=_own_masses(structure),
        ),
        model=ModelRecord(
            path=str(job.model.resolve()),
            sha256=job.identity.model_sha256,
            info={key: value for key, value in read_exported_info(job.exported).items() if key not in _BULKY},
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
        result="interrupted",  # remains if the process is killed
    )
    if state is not None:
        summary.started, summary.wall_seconds = state.started, state.wall_seconds
        summary.steps_done = summary.restarted_at_step = state.step
    return summary
