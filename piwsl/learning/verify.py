"""Verification of a student: survival of replicas, conservation of energy, and agreement with a reference."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from piwsl.analysis import Reference, analyze
from piwsl.analysis.reference import bundled_reference
from piwsl.data.frames import Frame
from piwsl.data.systems import BUNDLED_LEVEL, SYSTEMS
from piwsl.errors import PiwslError
from piwsl.learning.directory import SurvivalRecord
from piwsl.learning.dynamics import drift_per_10_ps, replica_protocol, replicas_of, survival_of
from piwsl.learning.settings import LearnSettings
from piwsl.md.run import MDRun

_FRAME_INTERVAL = 50.0  # fs, between frames of the verification
_BUNDLED_TEMPERATURE = 500.0  # K, of the bundled reference
_EQUILIBRATION = 0.2  # fraction of the dynamics of the teachers that is no reference
_OFFSET = 100_000  # difference between the seeds of exploration and verification


@dataclass(frozen=True)
class Checked:
    """Results of the verification of a student.

    Attributes:
        run: Run of the replicas.
        survival: Survival of the replicas.
        drift: Largest drift of the energy at constant energy, meV/atom/10 ps; None if a replica ended early.
        agreement: Verdict of the comparison with the reference; None if none could be made.
    """

    run: MDRun
    survival: SurvivalRecord
    drift: float | None
    agreement: str | None


def verify_student(
    structure: Atoms,
    model: Path,
    settings: LearnSettings,
    name: str,
    reference: Path | Reference | None,
    folder: Path,
    progress: bool | None = None,
) -> Checked:
    """Run replicas of a student, or continue after an interruption, and compare them with a reference.

    Args:
        structure: Start structure.
        model: Trained file of the student.
        settings: Settings of the job.
        name: Name of the system.
        reference: Reference trajectory; None for no comparison.
        folder: Directory of the attempt.
        progress: Show progress bars.
    """

    def run_of(folder_name: str, picoseconds: float, replicas: int, seed: int, ensemble: str) -> MDRun:
        protocol = replica_protocol(
            settings, settings.temperature, picoseconds, replicas, _FRAME_INTERVAL, settings.seed + seed, ensemble
        )
        output = folder / folder_name
        return replicas_of(structure, model, protocol, output, name, settings.replicas_scheduler, progress)

    verify = settings.verify
    run = run_of("replicas", verify.picoseconds, verify.replicas, _OFFSET, "nvt-langevin")
    survival = survival_of(run)
    if not survival.survived:
        return Checked(run, survival, None, None)
    constant = run_of("constant_energy", verify.constant_energy, min(4, verify.replicas), 2 * _OFFSET, "nve")
    drift = drift_per_10_ps(constant, len(structure))
    agreement = None
    if reference is not None:
        try:
            analysis = analyze(
                run.directory, reference=reference, output=folder / "analysis", progress=progress or False
            )
            agreement = analysis.verdict
        except PiwslError as error:
            agreement = f"not compared: {error}"
    return Checked(run, survival, drift, agreement)


def reference_for(
    settings: LearnSettings, structure: Atoms, name: str, teacher_frames: list[list[Frame]]
) -> Path | Reference | None:
    """Return the reference of the verification.

    Args:
        settings: Settings of the job.
        structure: Start structure.
        name: Name of the system.
        teacher_frames: Frames of each replica of the teachers at the target temperature.
    """
    if settings.verify.reference is not None:
        return settings.verify.reference
    bundled = name in SYSTEMS and list(SYSTEMS[name].structure.numbers) == list(structure.numbers)
    bundled = bundled and (settings.method or "").lower() == BUNDLED_LEVEL.lower()
    if bundled and settings.temperature == _BUNDLED_TEMPERATURE:
        return bundled_reference(name)
    kept = [frame for frames in teacher_frames for frame in frames[int(_EQUILIBRATION * len(frames)) :]]
    if not kept or any(kept[0].pbc):
        return None
    return Reference.of_frames(
        "dynamics of the teacher", kept[0].species, np.stack([frame.positions for frame in kept])
    )
