"""Dynamics of a model within a learning job: replicas at a temperature, their frames, and their survival."""

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms
from ase.io import iread

from piwsl.analysis.quantities.energy_drift import FEWEST_ROWS, energy_drift
from piwsl.data.frames import Frame
from piwsl.errors import RunDirectoryError, UnphysicalError
from piwsl.export.loading import EXPORTED_NAMES, is_own_code
from piwsl.learning.directory import SurvivalRecord
from piwsl.learning.settings import LearnSettings
from piwsl.md.progress import reporting_progress
from piwsl.md.protocol import MDProtocol
from piwsl.md.replicas.distributed import DistributedReplicas, distributed_replicas
from piwsl.md.run import MDRun, run_protocol
from piwsl.md.run_directory import MD_RUN, THERMO
from piwsl.md.run_model import prepare_model
from piwsl.runs.directory import RunDirectory
from piwsl.runs.files import sha256
from piwsl.runs.untrusted import reading
from piwsl.trajectories.thermo import Thermo
from piwsl.units import PICOSECOND

LOGGER = logging.getLogger(__name__)


def replica_protocol(
    settings: LearnSettings,
    temperature: float,
    picoseconds: float,
    replicas: int,
    frame_interval: float,
    seed: int,
    ensemble: str = "nvt-langevin",
) -> MDProtocol:
    """Return the protocol of replicas of a learning job.

    Args:
        settings: Settings of the job, for the time step.
        temperature: Temperature of the thermostat, or of the initial velocities at constant energy, K.
        picoseconds: Length of each replica, ps.
        replicas: Number of replicas.
        frame_interval: Time between frames, fs.
        seed: Seed of the first replica.
        ensemble: Statistical ensemble.
    """
    interval = max(1, round(frame_interval / settings.timestep))
    return MDProtocol.of(
        ensemble=ensemble,
        temperature=temperature,
        timestep=settings.timestep,
        steps=settings.steps(picoseconds),
        replicas=replicas,
        trajectory_interval=interval,
        report_interval=interval,
        trajectory_format="extxyz",
        seed=seed,
    )


def replicas_of(
    structure: Atoms,
    model: Path,
    protocol: MDProtocol,
    output: Path,
    name: str,
    scheduler: str | None = None,
    progress: bool | None = None,
) -> MDRun:
    """Run replicas of a trained file, or continue them after an interruption.

    Several runs of a stage, whose directories are in the same directory, share an exported file, because an export is
    compiled and verified.

    Args:
        structure: Start structure of all replicas.
        model: Trained file.
        protocol: Protocol of the run.
        output: Run directory.
        name: Name of the system, stored in the summary of the run.
        scheduler: Dask scheduler whose workers run the replicas; None: this process.
        progress: Show a progress bar; None shows a bar in interactive sessions.
    """
    if (ended := _ended(output)) is not None:
        return ended
    with distributed_replicas(scheduler, None, len(structure), protocol) as distributed:
        exported = _exported_for(model, structure, protocol, output.parent, distributed)
        return run_dynamics(structure, exported, protocol, output, name, progress, distributed)


def _exported_for(
    model: Path, structure: Atoms, protocol: MDProtocol, folder: Path, distributed: DistributedReplicas | None
) -> Path:
    """Return the exported file of a trained file, which is made at the first call for these arguments."""
    target = folder / f"exported-{protocol.replicas}"
    made = next((target / name for name in EXPORTED_NAMES if (target / name).is_file()), None)
    if made is not None and is_own_code(made, sha256(made)):
        return made
    target.mkdir(parents=True, exist_ok=True)
    return prepare_model(model, structure, protocol, target, distributed.chunk if distributed else None)


def run_dynamics(
    structure: Atoms,
    model: Path,
    protocol: MDProtocol,
    output: Path,
    name: str,
    progress: bool | None = None,
    distributed: DistributedReplicas | None = None,
) -> MDRun:
    """Run replicas, or continue them after an interruption. Replicas that become unphysical end early.

    Args:
        structure: Start structure of all replicas.
        model: Exported file.
        protocol: Protocol of the run.
        output: Run directory.
        name: Name of the system, stored in the summary of the run.
        progress: Show a progress bar; None shows a bar in interactive sessions.
        distributed: Processes that run the replicas; None: this process.

    Raises:
        PiwslError: The model or the structure cannot be used.
        KeyboardInterrupt: A signal interrupted the run. Its replicas must not count as broken.
    """
    directory = RunDirectory(output, MD_RUN)
    continues = directory.holds_job and directory.can_continue

    def start(restart: bool) -> MDRun:
        with reporting_progress(progress) as report:
            return run_protocol(
                structure,
                model,
                protocol,
                output,
                name,
                restart=restart,
                force=not restart,
                progress=report,
                distributed=distributed,
            )

    try:
        try:
            run = start(continues)
        except RunDirectoryError as error:
            if not continues:
                raise
            # All replicas were stopped before the kill, or ran elsewhere. The user cannot mend a run within a job.
            LOGGER.warning(f"{output}: run again from its start, because it cannot be continued ({error})")
            run = start(False)
    except UnphysicalError:
        run = MDRun.read(output)
    if run.result == "interrupted":
        raise KeyboardInterrupt
    return run


def _ended(output: Path) -> MDRun | None:
    """Return a run that has come to its end already, with or without unphysical replicas."""
    if not (output / "summary.json").is_file():
        return None
    run = MDRun.read(output)
    return run if run.summary.ended and run.result != "interrupted" else None


def survival_of(run: MDRun) -> SurvivalRecord:
    """Return the survival of the replicas of a run."""
    summary = run.summary
    timestep = summary.timestep_fs / PICOSECOND
    replicas = summary.replicas or []
    reasons = Counter(replica.stop.rule for replica in replicas if replica.stop is not None)
    return SurvivalRecord(
        temperature=float(str(summary.temperature_K).partition(":")[0]),
        picoseconds=summary.steps_requested * timestep,
        times=[max(0, replica.steps_done) * timestep for replica in replicas],
        survived=sum(replica.result == "completed" for replica in replicas),
        reasons=dict(reasons),
        steps_per_second=summary.speed.steps_per_second,
    )


@dataclass(frozen=True)
class Harvest:
    """Frames of a run.

    Attributes:
        replicas: Physical frames of each replica.
        endings: The last physical frame of each replica that became unphysical.
    """

    replicas: list[list[Frame]]
    endings: list[Frame]

    @property
    def frames(self) -> list[Frame]:
        """Frames of all replicas."""
        return [frame for frames in self.replicas for frame in frames]


# Frames before the violation that are not used, because the structure is already damaged.
_DAMAGED = 2


def harvest(run: MDRun, charge: Atoms) -> Harvest:
    """Read the frames of replicas, except for those close to a violation of a stop rule.

    Args:
        run: Run with replicas.
        charge: Structure whose stated charge and spin the frames have.
    """
    made = Harvest([], [])
    for replica in run.summary.replicas or []:
        path = run.directory / replica.directory / "trajectory.extxyz"
        if not path.is_file():
            continue
        with reading(path):
            own = [_frame(atoms, charge) for atoms in iread(path, index=":", format="extxyz")]
        if replica.stop is not None:
            own = own[:-_DAMAGED]
            made.endings.extend(own[-1:])
        made.replicas.append(own)
    return made


def _frame(atoms: Atoms, charge: Atoms) -> Frame:
    bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info=dict(charge.info))
    return Frame.from_atoms(bare)


def drift_per_10_ps(run: MDRun, n_atoms: int) -> float | None:
    """Return the largest drift of the total energy among the replicas of a run at constant energy, meV/atom/10 ps.

    None if a replica ended early.
    """
    if run.result != "completed" or not run.stable:
        return None
    drifts = []
    for replica in run.summary.replicas or []:
        thermo, _ = Thermo.read(run.directory / replica.directory / THERMO)
        if thermo is not None and len(thermo.times) >= FEWEST_ROWS:
            drifts.append(abs(energy_drift(thermo.times, thermo.total, n_atoms).per_10_ps.value))
    return max(drifts, default=None)
