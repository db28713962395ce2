"""Learn a potential from few labels: the function behind `piwsl learn`, its plan, and its result."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import write

from piwsl.data.charges import charge_of
from piwsl.data.frames import FrameSet
from piwsl.data.read import read_frames
from piwsl.data.structure_file import load_structure
from piwsl.data.systems import Structure, structure_name
from piwsl.errors import ConfigError, RunDirectoryError, public
from piwsl.learning.directory import (
    CONFIG_FILE,
    EXPORTED_FILE,
    GIVEN_FILE,
    LABELED_FILE,
    LEARNING,
    REPORT_FILE,
    START_FILE,
    STUDENT_FILE,
    TEACHER_FILE,
    LearnSummary,
    check_same_settings,
    store_settings,
)
from piwsl.learning.inputs import (
    check_budget,
    check_inputs_remain,
    check_method,
    check_reference,
    given_settings,
    given_structure,
)
from piwsl.learning.job import LearningJob
from piwsl.learning.labels import LabelsMissingError
from piwsl.learning.report import write_report
from piwsl.learning.settings import NO_START, LearnSettings, load_learn_settings
from piwsl.learning.start_model import StartModel, choose_start
from piwsl.learning.teacher import teacher_training
from piwsl.md.structure import minimized
from piwsl.runs import notebook
from piwsl.runs.directory import RunDirectory
from piwsl.runs.files import atomic_path, writing
from piwsl.runs.process_settings import process_settings
from piwsl.runs.scratch import scratch_directory
from piwsl.runs.summary import SUMMARY_FILE, provenance
from piwsl.structures.bonds import bonded_pairs

LOGGER = logging.getLogger(__name__)
_PROGRAMS = ("torch", "numpy", "ase", "tblite", "pyscf")


@dataclass(frozen=True)
class LearnResult:
    """Result of a learning job.

    Attributes:
        directory: Directory of the job.
        summary: Content of ``summary.json``.
    """

    directory: Path
    summary: LearnSummary

    @property
    def student(self) -> Path:
        """Trained file of the fast model."""
        return self.directory / STUDENT_FILE

    @property
    def teacher(self) -> Path:
        """Trained file of the accurate model."""
        return self.directory / TEACHER_FILE

    @property
    def exported(self) -> Path:
        """The student, exported for OpenMM."""
        return self.directory / EXPORTED_FILE

    @property
    def report(self) -> Path:
        """Report page."""
        return self.directory / REPORT_FILE

    @property
    def waiting_for(self) -> Path | None:
        """File with structures that the user must label before the job continues; None if it is complete."""
        return None if self.summary.waiting_for is None else self.directory / self.summary.waiting_for

    @property
    def verified(self) -> bool:
        """Whether all replicas of the student survived, and its errors in its own dynamics are as small as expected."""
        return self.summary.verified

    @property
    def labeled(self) -> FrameSet:
        """All labeled frames."""
        return read_frames(self.directory / LABELED_FILE)

    @classmethod
    def read(cls, directory: str | PathLike[str]) -> "LearnResult":
        """Read the result of a job from its directory.

        Raises:
            RunDirectoryError: The directory contains no learning job.
        """
        return cls(Path(directory), LearnSummary.read(Path(directory)))

    def __repr__(self) -> str:
        state = self.summary.verdict or ("waiting for labels" if self.summary.waiting_for else "not finished")
        return f"LearnResult({str(self.directory)!r}; {state})"

    def _repr_html_(self) -> str:
        rows = [
            (record.number, record.labels, *_milli(record.energy_mae, record.force_mae))
            for record in self.summary.rounds
        ]
        return notebook.block(
            notebook.facts(
                [
                    ("result", self.summary.verdict or "not finished"),
                    ("student", self.student),
                    ("teacher", self.teacher),
                    ("exported", self.exported),
                    ("report", self.report),
                ]
            ),
            notebook.table(rows, ("round", "labels", "energy MAE [meV]", "force MAE [meV/A]")),
        )


def _milli(*values: float | None) -> list[str]:
    return ["" if value is None else f"{1e3 * value:.1f}" for value in values]


@public
def learn(
    structure: Structure | None = None,
    *,
    method: str | None = None,
    budget: int | None = None,
    system: str | None = None,
    smiles: str | None = None,
    labels: str | PathLike[str] | None = None,
    init_from: str | PathLike[str] | None = None,
    output: str | PathLike[str] | None = None,
    config: Mapping[str, Any] | str | PathLike[str] | LearnSettings | None = None,
    options: Mapping[str, Any] | None = None,
    force: bool = False,
    progress: bool | None = None,
) -> LearnResult:
    """Learn a fast potential for a structure from few labels, and verify that its dynamics is stable.

    The job fine-tunes accurate models (teachers) on labels that it chooses in their own dynamics, trains a fast model
    (the student) on frames that the teachers label, and runs replicas of the student. Repeat the call to continue an
    interrupted job; no structure is labeled twice.

    Args:
        structure: ASE structure, frame, file that ASE can read, or name of a bundled system. Its ``info`` may state the
            charge and the spin. The default is the frame of ``labels`` with the lowest energy.
        method: Reference method, as in `piwsl.label`; ``file`` writes the structures to label and returns. Shorthand
            for ``labels.method``.
        budget: Largest number of labels to compute. Shorthand for ``labels.budget``.
        system: Bundled system whose structure is used.
        smiles: SMILES of a molecule, from which RDKit makes the structure.
        labels: Labeled frames that exist already. Shorthand for ``labels.file``.
        init_from: Trained file to fine-tune, ``auto`` or ``scratch``. Shorthand for ``teacher.init_from``.
        output: Directory of the job. The default is ``runs/learn-NAME``, named after the structure.
        config: `LearnSettings`, YAML file, or mapping of sections such as ``{"verify": {"replicas": 8}}``.
        options: Values by key, such as ``{"verify.picoseconds": 10}``. They take precedence over the configuration.
        force: Replace another job in ``output``.
        progress: Show progress bars; None shows them in interactive sessions.

    Returns:
        The result. If the method is ``file``, ``waiting_for`` names the file with the structures to label.

    Raises:
        ConfigError: A setting is unknown or out of range, or the budget is too small for a first model.
        DataError: The structure cannot be used, the method fails on it, or a stage has too few usable frames.
        RunDirectoryError: The directory contains another job.
        ElementError: The model to fine-tune was not trained on an element of the structure.
    """
    given = {"labels.method": method, "labels.budget": budget, "labels.file": labels, "teacher.init_from": init_from}
    settings = given_settings(config, given, options)
    atoms = given_structure(structure, system, smiles, settings)
    name = structure_name(structure, system) or atoms.get_chemical_formula("hill")
    path = Path(output) if output is not None else Path("runs") / f"learn-{name}"
    directory = RunDirectory(path, LEARNING)
    _check_directory(directory, settings, force)
    if force:
        check_inputs_remain(settings, path)
    check_budget(settings)
    check_method(settings)
    check_reference(settings)
    with process_settings():
        directory.create()
        with directory.lock():
            _check_directory(directory, settings, force)  # another process may have used it in the meantime
            if force and directory.holds_job:
                directory.clear()
            return _run(atoms, name, settings, path, directory, progress)


def _check_directory(directory: RunDirectory, settings: LearnSettings, force: bool) -> None:
    """Raise an error if a directory contains another job or unrelated files.

    Raises:
        RunDirectoryError: The directory cannot be used.
    """
    if directory.holds_job and not force:
        check_same_settings(settings, load_learn_settings(directory.path / CONFIG_FILE), directory.path)
    else:
        directory.check_free(force)


def _run(
    atoms: Atoms, name: str, settings: LearnSettings, path: Path, directory: RunDirectory, progress: bool | None
) -> LearnResult:
    with directory.log():
        start = _start(settings, atoms, path)
        if not (path / START_FILE).is_file():
            given = atoms
            if start.path is not None:
                atoms, text = minimized(atoms, start.path)
                LOGGER.info(f"start     {text}")
            store_settings(settings, path)  # from here on, the directory holds a job
            _store(given, path / GIVEN_FILE)
            _store(atoms, path / START_FILE)
        elif not _is_same(atoms, load_structure(path / GIVEN_FILE)):
            raise RunDirectoryError(f"{path}: holds the job of another structure: choose another output=DIRECTORY")
        atoms = load_structure(path / START_FILE)
        store_settings(settings, path)  # those that may change have new values
        if (done := _completed(path)) is not None:
            LOGGER.info(f"nothing to do: the job has ended ({done.verdict})")
            return LearnResult(path, done)
        summary = _summary(path, name, atoms, settings, start.text, start.license)
        LOGGER.info(f"start     {start.text}")
        if start.license is not None:
            LOGGER.info(f"license   of the start model, which holds for all results: {start.license}")
        job = LearningJob(atoms, name, settings, start, path, summary, progress)
        try:
            job.run()
        except LabelsMissingError as missing:
            summary.waiting_for = str(missing.structures.relative_to(path))
            write_report(summary, settings, path)
            summary.write(path)
            LOGGER.info(
                f"waiting   label the structures in {missing.structures} with "
                f"{'energies' if settings.labels.energies_only else 'energies and forces'}, write them in the same "
                f"order to {missing.expected}, and repeat the command (without force=True)"
            )
        except KeyboardInterrupt:
            LOGGER.warning(f"interrupted: repeat the command (without force=True) to continue {path}")
            raise
        return LearnResult(path, summary)


def _completed(path: Path) -> LearnSummary | None:
    summary = LearnSummary.read(path) if (path / SUMMARY_FILE).is_file() else None
    return summary if summary is not None and summary.result == "completed" else None


def _store(atoms: Atoms, path: Path) -> None:
    with writing(path), atomic_path(path) as temporary:
        write(temporary, atoms, format="extxyz")


def _is_same(atoms: Atoms, other: Atoms) -> bool:
    """Whether two structures are the same molecule or crystal, with the same charge, in any conformation."""
    same_cell = np.array_equal(atoms.pbc, other.pbc) and np.allclose(atoms.cell, other.cell, atol=1e-3)
    if list(atoms.numbers) != list(other.numbers) or not same_cell or charge_of(atoms) != charge_of(other):
        return False
    return bool(atoms.pbc.any()) or np.array_equal(bonded_pairs(atoms), bonded_pairs(other))


def _summary(
    path: Path, name: str, atoms: Atoms, settings: LearnSettings, start: str, license: str | None
) -> LearnSummary:
    """Return the summary of an interrupted job, or a new one."""
    if (path / SUMMARY_FILE).is_file():
        summary = LearnSummary.read(path)
        summary.result, summary.finished, summary.waiting_for = "interrupted", None, None
        return summary
    return LearnSummary(
        **provenance(_PROGRAMS),
        name=name,
        formula=atoms.get_chemical_formula("hill"),
        method=settings.method or f"labels in {settings.labels.file}",
        start=start,
        license=license,
        budget=settings.labels.budget,
        result="interrupted",
    )


def _start(settings: LearnSettings, atoms: Atoms, folder: Path) -> StartModel:
    """Choose the model to fine-tune.

    Raises:
        ConfigError: There is none, but energies alone cannot train one. See also `choose_start`.
    """
    start = choose_start(settings.teacher.init_from, atoms, folder)
    if settings.labels.energies_only and start.path is None:
        raise ConfigError(f"labels.energies_only needs a model to fine-tune, but {start.text}: {NO_START}")
    teacher_training(settings, start.path, bool(atoms.pbc.any()))  # report mistakes before any label is computed
    return start


def plan_learning(
    structure: Structure | None = None,
    *,
    system: str | None = None,
    smiles: str | None = None,
    config: Mapping[str, Any] | str | PathLike[str] | LearnSettings | None = None,
    options: Mapping[str, Any] | None = None,
) -> list[str]:
    """Describe what `learn` would do, one line for each stage, without computing anything.

    Raises:
        ConfigError: A setting is unknown or out of range, or the budget is too small for a first model.
        DataError: The structure cannot be used.
    """
    settings = given_settings(config, {}, options)
    atoms = given_structure(structure, system, smiles, settings)
    check_budget(settings)
    check_method(settings)
    check_reference(settings)
    with scratch_directory("learn") as folder:
        start = _start(settings, atoms, folder)
    explore, verify = settings.explore, settings.verify
    temperatures = ", ".join(f"{factor * settings.temperature:g}" for factor in explore.temperature_factors)
    explored = explore.replicas * explore.picoseconds * len(explore.temperature_factors)
    members = settings.teacher_members(start.path is not None)
    rounds = range(1, settings.rounds + 1)
    labels = " + ".join(str(settings.labels_of(number)) for number in rounds)
    if settings.student_labels:
        labels += f" in rounds, {settings.student_labels} in the dynamics of the student"
    minutes = ", ".join(f"{settings.teacher_minutes(number):.3g}" for number in rounds)
    total = verify.replicas * verify.picoseconds
    stated = charge_of(atoms)
    return [
        f"system     {atoms.get_chemical_formula('hill')}, {len(atoms)} atoms, "
        + (f"{stated}, " if any(stated.info().values()) else "")
        + f"at {settings.temperature:g} K",
        f"start      {start.text}",
        *([f"license    of the start model: {start.license}"] if start.license else []),
        f"labels     those in {settings.labels.file}"
        if settings.method is None
        else f"labels     {settings.labels.budget} ({labels}) with {settings.method}"
        + (f", besides those in {settings.labels.file}" if settings.labels.file else ""),
        f"dynamics   {explored:g} ps of the teacher in each round and at the end, at {temperatures} K",
        "teachers   a model, fitted by least squares to energies without forces"
        if settings.labels.energies_only
        else f"teachers   {members} models, trained for {minutes} min in rounds 1 to {settings.rounds}",
        f"student    up to {settings.student.frames} frames of the teachers, trained for "
        f"{settings.student_minutes(1):.3g} min, and up to {settings.student.attempts} attempts",
        f"verified   {verify.replicas} replicas of {verify.picoseconds:g} ps ({total:g} ps in all), and "
        f"{verify.constant_energy:g} ps at constant energy",
    ]
