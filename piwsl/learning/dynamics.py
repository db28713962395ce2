"""Dynamics of a model within a learning job: replicas at a temperature, their frames, and their survival."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.io import iread

from piwsl.analysis.quantities.energy_drift import FEWEST_ROWS, energy_drift
from piwsl.data.frames import Frame
from piwsl.errors import UnphysicalError
from piwsl.export.loading import EXPORTED_NAMES, is_own_code
from piwsl.learning.directory import SurvivalRecord
from piwsl.md.run import MDRun, run_md
from piwsl.md.run_directory import MD_RUN, THERMO
from piwsl.md.run_model import copies_per_call, prepare_replica_model
from piwsl.runs.directory import RunDirectory
from piwsl.runs.files import sha256
from piwsl.runs.process_settings import replica_threads
from piwsl.trajectories.thermo import Thermo
from piwsl.units import PICOSECOND


@dataclass(frozen=True)
class Dynamics:
    """Settings of replicas.

    Attributes:
        temperature: Temperature of the thermostat, or of the initial velocities at constant energy, K.
        steps: Steps of each replica.
        timestep: Time step, fs.
        replicas: Number of replicas.
        interval: Steps between frames.
        seed: Seed of the first replica.
        ensemble: Statistical ensemble.
    """

    temperature: float
    steps: int
    timestep: float
    replicas: int
    interval: int
    seed: int
    ensemble: str = "nvt-langevin"

    @property
    def work(self) -> int:
        """Steps of all replicas."""
        return self.steps * self.replicas

    @property
    def picoseconds(self) -> float:
        """Length of each replica, ps."""
        return self.steps * self.timestep / PICOSECOND


def exported_for(model: Path, structure: Atoms, dynamics: Dynamics, folder: Path) -> Path:
    """Return the exported file for replicas of a trained file, which is made at the first call for these arguments.

    Several runs share the file, because an export is compiled and verified.

    Args:
        model: Trained file.
        structure: Start structure.
        dynamics: Settings of the first run.
        folder: Directory of the stage that uses the model.
    """
    target = folder / f"exported-{dynamics.replicas}"
    made = next((target / name for name in EXPORTED_NAMES if (target / name).is_file()), None)
    if made is not None and is_own_code(made, sha256(made)):
        return made
    target.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    copies = copies_per_call(len(structure), dynamics.replicas, replica_threads(device), device)
    return prepare_replica_model(model, structure, target, copies, dynamics.work * len(structure))


def run_dynamics(
    structure: Atoms, model: Path, dynamics: Dynamics, output: Path, name: str, progress: bool | None = None
) -> MDRun:
    """Run replicas, or continue them after an interruption. Replicas that become unphysical end early.

    Args:
        structure: Start structure of all replicas.
        model: Trained or exported file.
        dynamics: Settings of the replicas.
        output: Run directory.
        name: Name of the system, stored in the summary of the run.
        progress: Show a progress bar; None shows a bar in interactive sessions.

    Raises:
        PiwslError: The model or the structure cannot be used.
    """
    directory = RunDirectory(output, MD_RUN)
    continues = directory.holds_job and directory.can_continue
    options: dict[str, Any] = {
        "temperature": dynamics.temperature,
        "steps": dynamics.steps,
        "timestep": dynamics.timestep,
        "replicas": dynamics.replicas,
        "trajectory_interval": dynamics.interval,
        "report_interval": dynamics.interval,
        "trajectory_format": "extxyz",
        "seed": dynamics.seed,
        "ensemble": dynamics.ensemble,
    }
    if continues and (ended := _ended(output)) is not None:
        return ended
    try:
        return run_md(
            structure, model, output=output, restart=continues, force=not continues, progress=progress, **options
        )
    except UnphysicalError:
        return MDRun.read(output)


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
    """Frames of a run: all physical frames, and the last of them before each replica became unphysical."""

    frames: list[Frame]
    endings: list[Frame]


# Frames before the violation that are not used, because the structure is already damaged.
_DAMAGED = 2


def harvest(run: MDRun, charge: Atoms) -> Harvest:
    """Read the frames of replicas, except for those close to a violation of a stop rule.

    Args:
        run: Run with replicas.
        charge: Structure whose stated charge and spin the frames have.
    """
    frames: list[Frame] = []
    endings: list[Frame] = []
    for replica in run.summary.replicas or []:
        path = run.directory / replica.directory / "trajectory.extxyz"
        if not path.is_file():
            continue
        own = [_frame(atoms, charge) for atoms in iread(path, index=":", format="extxyz")]
        if replica.stop is not None:
            own = own[:-_DAMAGED] if len(own) > _DAMAGED else []
            endings += own[-1:]
        frames += own
    return Harvest(frames, endings)


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
