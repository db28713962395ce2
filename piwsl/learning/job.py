"""A learning job: its stages in order, each of which is skipped if it was finished before an interruption."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ase import Atoms

from piwsl.analysis import Reference
from piwsl.data.frames import Frame, FrameSet
from piwsl.data.read import read_frames
from piwsl.data.systems import BUNDLED_LEVEL
from piwsl.data.write import write_frames
from piwsl.errors import DataError
from piwsl.export.export import export_model
from piwsl.export.trained_file import load_trained
from piwsl.learning.choose import choose
from piwsl.learning.committee import predict_frames
from piwsl.learning.directory import (
    CHOSEN_FILE,
    EXPORTED_FILE,
    LABELED_FILE,
    SET_ASIDE_FILE,
    STUDENT_FILE,
    STUDENT_LABELS_FOLDER,
    TEACHER_FILE,
    LearnSummary,
    RoundRecord,
    StudentRecord,
)
from piwsl.learning.dynamics import harvest
from piwsl.learning.exploration import Explored, explore, warn_of_breaking
from piwsl.learning.fidelity import fidelity
from piwsl.learning.first_structures import first_structures
from piwsl.learning.labels import Labeled, checked_labels, existing_labels, is_labeled, label_round
from piwsl.learning.report import write_report
from piwsl.learning.settings import FILE_METHOD, LearnSettings
from piwsl.learning.start_model import StartModel
from piwsl.learning.student import STUDENT_FRAMES_FILE, save_copy, teacher_frames, train_student
from piwsl.learning.student_labels import judge_student, label_dynamics
from piwsl.learning.teacher import Teachers, errors_on, train_teachers
from piwsl.learning.verdict import errors_text, milli, verdict_of
from piwsl.learning.verify import reference_for, verify_student
from piwsl.runs.summary import now

LOGGER = logging.getLogger(__name__)

# Stages after the rounds, for the seeds of their dynamics.
_STAGE_OF_TEACHERS, _STAGE_OF_STUDENTS = 500, 600


@dataclass
class LearningJob:
    """Stages of a learning job.

    Attributes:
        structure: Start structure.
        name: Name of the system.
        settings: Settings of the job.
        start: Model to fine-tune.
        output: Directory of the job.
        summary: Summary, which is rewritten after each stage.
        progress: Show progress bars; None shows them in interactive sessions.
    """

    structure: Atoms
    name: str
    settings: LearnSettings
    start: StartModel
    output: Path
    summary: LearnSummary
    progress: bool | None = None
    _labeled: list[Frame] = field(default_factory=list)
    _set_aside: list[Frame] = field(default_factory=list)
    _pool: list[Frame] = field(default_factory=list)
    # Replicas of the last student, if all of them survived.
    _own_dynamics: list[list[Frame]] = field(default_factory=list)
    _began: float = field(default_factory=time.perf_counter)
    _earlier: float = 0.0  # duration of earlier sessions, s

    def run(self) -> None:
        """Run all stages that are not finished.

        Raises:
            LabelsMissingError: The user must label structures first.
            PiwslError: A stage failed.
        """
        self._earlier = self.summary.wall_seconds
        frame = Frame.from_atoms(self.structure)
        self._labeled += existing_labels(self.settings.labels, frame)
        if self._labeled:
            LOGGER.info(f"labels    {len(self._labeled)} exist already, in {self.settings.labels.file}")
        first = self._first_label(frame)
        models: list[Path] = [self.start.path] if self.start.path else []
        teachers: Teachers | None = None
        for number in range(1, self.settings.rounds + 1):
            teachers = self._round(number, models, first if number == 1 else None)
            models = teachers.models
            self._save()
        assert teachers is not None
        save_copy(teachers.models[0], self.output / TEACHER_FILE, self._level, self._foundation)
        reference_frames = self._teacher_dynamics(teachers)
        self._save()
        self._student(teachers, reference_frames)
        self._student_labels(teachers)
        self.summary.result, self.summary.finished = "completed", now()
        self.summary.verdict = verdict_of(self.summary)
        self._save()
        LOGGER.info(self.summary.verdict)

    @property
    def _level(self) -> str | None:
        method = self.settings.method
        if method is None or method == FILE_METHOD:
            return None
        return BUNDLED_LEVEL if method.lower() == BUNDLED_LEVEL.lower() else method

    @property
    def _foundation(self) -> object:
        return None if self.start.path is None else load_trained(self.start.path).training.get("foundation")

    def _save(self) -> None:
        self.summary.wall_seconds = round(self._earlier + time.perf_counter() - self._began, 1)
        write_report(self.summary, self.settings, self.output)
        self.summary.write(self.output)  # last, because a complete job does nothing more

    def _first_label(self, frame: Frame) -> Labeled | None:
        """Label the start structure, so that a method that fails is noticed before anything else is computed.

        Raises:
            DataError: The method failed.
        """
        if self.settings.labels.method == FILE_METHOD or not self.settings.labels.budget:
            return None
        LOGGER.info(f"labels    the start structure, with {self.settings.labels.method}")
        labeled = label_round([frame], self.settings.labels, self.output / "round-00", self.progress)
        if not labeled[0].has_energy:
            reason = labeled.notes[0].removeprefix("structure 0: ")
            raise DataError(
                f"{self.settings.labels.method} fails on the start structure: {reason}: check the method and the "
                "structure"
            )
        return checked_labels(labeled, None, self.settings.labels.energies_only)

    def _round(self, number: int, models: list[Path], first: Labeled | None) -> Teachers:
        """Run a round: explore, choose, label, train."""
        began = time.perf_counter()
        folder = self.output / f"round-{number:02d}"
        folder.mkdir(exist_ok=True)
        record = RoundRecord(number=number)
        count = self.settings.labels_of(number) - (first.bought if first else 0)
        candidates = self._candidates(number, models, count, record)
        labeled = first or Labeled([])
        if count > 0:
            labeled = _joined(labeled, self._label(number, models, candidates, count, folder, record))
        record.chosen = labeled.bought
        record.failed = labeled.reasons
        for reason in labeled.reasons:
            LOGGER.warning(f"no label: {reason}")
        if labeled.frames and models:
            record.new_force_mae = errors_on(models, FrameSet(labeled.frames)).force_mae
        self._labeled += labeled.frames
        self._set_aside += labeled.set_aside
        if number > len(self.summary.rounds):  # otherwise, the files contain labels of later rounds
            write_frames(FrameSet(self._labeled), self.output / LABELED_FILE, force=True)
            if self._set_aside:
                write_frames(FrameSet(self._set_aside), self.output / SET_ASIDE_FILE, force=True)
        record.labels = len(self._labeled)
        minutes = self.settings.teacher_minutes(number)
        how = (
            "fitted by least squares to" if self.settings.labels.energies_only else f"{minutes:.3g} min of training on"
        )
        LOGGER.info(f"teachers  round {number}: {how} {record.labels} labels")
        teachers = train_teachers(self._labeled, self.settings, self.start.path, minutes, folder, self.progress)
        errors = errors_on(teachers.models, teachers.held_back)
        record.energy_mae, record.force_mae = errors.energy_mae, errors.force_mae
        record.seconds = round(time.perf_counter() - began, 1)
        if number > len(self.summary.rounds):
            self.summary.rounds.append(record)
        own = self.summary.student_labels
        self.summary.labels = sum(entry.chosen for entry in self.summary.rounds) + (own.bought if own else 0)
        self.summary.held_back = len(teachers.held_back)
        LOGGER.info(f"teachers  round {number}: {errors_text(record)} on {len(teachers.held_back)} held-back labels")
        return teachers

    def _candidates(self, number: int, models: list[Path], count: int, record: RoundRecord) -> list[Frame]:
        """Return structures that could be labeled."""
        if not models:
            return first_structures(self.structure, max(count, 1), self.settings.temperature, self.settings.seed)
        explored = self._explore(models[0], self.output / f"round-{number:02d}", number)
        warn_of_breaking(explored, self.settings.temperature)
        record.exploration = [one.survival for one in explored]
        candidates = [frame for one in explored for frame in one.harvest.frames]
        self._pool += candidates
        record.candidates = len(candidates)
        return candidates

    def _explore(self, model: Path, folder: Path, stage: int) -> list[Explored]:
        return explore(self.structure, self.name, model, self.settings, stage, folder, self.progress)

    def _label(
        self,
        number: int,
        models: list[Path],
        candidates: Sequence[Frame],
        count: int,
        folder: Path,
        record: RoundRecord,
    ) -> Labeled:
        """Choose structures of a round and label them."""
        path = folder / CHOSEN_FILE
        if not path.is_file():
            if number == 1 and self.settings.labels.method == FILE_METHOD:
                candidates = [Frame.from_atoms(self.structure), *candidates]
            if models:
                known = [frame.without_labels() for frame in self._labeled]
                chosen = choose(candidates, known, models, count)
                record.largest_spread = chosen.spread
                frames = chosen.frames
            else:
                frames = list(candidates[:count])
            if not frames:
                raise DataError(
                    "the dynamics gave no physical structure to label: lower the temperature, or choose another start "
                    "model"
                )
            write_frames(FrameSet(frames), path)
        frames = list(read_frames(path))  # with the digits of the file, so that an interrupted job resumes
        LOGGER.info(f"labels    round {number}: {len(frames)} structures, with {self.settings.labels.method}")
        labeled = label_round(frames, self.settings.labels, folder, self.progress)
        predicted = predict_frames(models, FrameSet(frames)).energies if models else None
        return checked_labels(labeled, predicted, self.settings.labels.energies_only)

    def _teacher_dynamics(self, teachers: Teachers) -> list[list[Frame]]:
        """Run dynamics of the final teacher, and return the frames of each replica at the target temperature."""
        folder = self.output / "teacher_dynamics"
        folder.mkdir(exist_ok=True)
        explored = self._explore(teachers.models[0], folder, _STAGE_OF_TEACHERS)
        warn_of_breaking(explored, self.settings.temperature)
        self._pool += [frame for one in explored for frame in one.harvest.frames]
        at_target = (one for one in explored if one.survival.temperature == self.settings.temperature)
        return next((one.harvest.replicas for one in at_target), [])

    def _student(self, teachers: Teachers, reference_frames: list[list[Frame]]) -> None:
        """Train and verify students until one is stable and faithful, and export the last."""
        reference = reference_for(self.settings, self.structure, self.name, reference_frames)
        always: list[Frame] = [frame.without_labels() for frame in self._labeled]
        before: Path | None = None
        for number in range(1, self.settings.student.attempts + 1):
            began = time.perf_counter()
            record = StudentRecord(number=number, largest_own_force_mae=self.summary.rounds[-1].force_mae)
            before = self._train_student(record, teachers, always, before)
            save_copy(before, self.output / STUDENT_FILE, self._level, self._foundation)
            always += self._examine_student(record, before, teachers, reference)
            record.seconds = round(time.perf_counter() - began, 1)
            if number > len(self.summary.students):
                self.summary.students.append(record)
            self._save()
            if record.verified:
                break
        export_model(
            self.output / STUDENT_FILE,
            self.output / EXPORTED_FILE,
            target="openmm",
            structure=self.structure,
            force=True,
        )
        self.summary.outputs |= {
            "student": STUDENT_FILE,
            "teacher": TEACHER_FILE,
            "exported": EXPORTED_FILE,
            "labels": LABELED_FILE,
        }

    def _student_labels(self, teachers: Teachers) -> None:
        """Label frames of the dynamics of a stable student, and record its errors on them."""
        labels, bought = self.settings.labels, sum(entry.chosen for entry in self.summary.rounds)
        count = min(self.settings.student_labels, labels.budget - bought)
        if count <= 0 or not self._own_dynamics:
            return
        LOGGER.info(f"labels    {count} structures of the student's dynamics, with {labels.method}")
        labeled = label_dynamics(self._own_dynamics, count, labels, self.output / STUDENT_LABELS_FOLDER, self.progress)
        record = judge_student(self.output / STUDENT_FILE, labeled, teachers.held_back, labels.energies_only)
        for reason in record.failed:
            LOGGER.warning(f"no label: {reason}")
        usable = [frame for frame in labeled if is_labeled(frame, labels.energies_only)]
        write_frames(FrameSet([*self._labeled, *usable]), self.output / LABELED_FILE, force=True)
        self.summary.labels = bought + record.bought
        self.summary.student_labels = record
        LOGGER.info(f"student   {errors_text(record)} on {record.labels} labels in its own dynamics")

    def _student_folder(self, number: int) -> Path:
        folder = self.output / f"student-{number:02d}"
        folder.mkdir(exist_ok=True)
        return folder

    def _train_student(
        self, record: StudentRecord, teachers: Teachers, always: list[Frame], before: Path | None
    ) -> Path:
        """Train the student of an attempt, record its errors, and return its trained file."""
        folder, number = self._student_folder(record.number), record.number
        data = folder / STUDENT_FRAMES_FILE
        if data.is_file():
            frames = read_frames(data)
        else:
            frames = teacher_frames(
                self._pool,
                always,
                teachers.held_back,
                teachers.models,
                self.settings.student.frames,
                self.settings.seed + number,
            )
        minutes = self.settings.student_minutes(number)
        record.frames = len(frames)
        LOGGER.info(f"student   attempt {number}: training on {len(frames)} frames for {minutes:.3g} min")
        result = train_student(frames, self.settings, minutes, before, folder, self.progress)
        record.teacher_force_mae = result.validation.force_mae
        errors = errors_on([result.model], teachers.held_back)
        record.energy_mae, record.force_mae = errors.energy_mae, errors.force_mae
        LOGGER.info(f"student   attempt {number}: {errors_text(record)} on the held-back labels")
        return result.model

    def _examine_student(
        self, record: StudentRecord, model: Path, teachers: Teachers, reference: Path | Reference | None
    ) -> list[Frame]:
        """Run dynamics of a student and record the results.

        The long verification is left out if the student breaks or is not faithful in short dynamics, and there are
        further attempts.

        Returns:
            Frames for the next attempt: the last ones of replicas that broke, and those where the student differs most
            from the teachers.
        """
        folder, number = self._student_folder(record.number), record.number
        self._own_dynamics = []
        explored = self._explore(model, folder, _STAGE_OF_STUDENTS + number)
        found = [frame for one in explored for frame in one.harvest.endings]
        self._pool += [frame for one in explored for frame in one.harvest.frames]
        cool = [one for one in explored if one.survival.temperature <= self.settings.temperature]
        broken = next((one.survival for one in cool if not one.survival.complete), None)
        if broken is None:
            found += self._compare(record, model, teachers, [frame for one in cool for frame in one.harvest.frames])
        if number < self.settings.student.attempts and (broken is not None or not record.faithful):
            record.survival = broken or cool[-1].survival
            LOGGER.info(f"student   attempt {number}: not verified further")
            return found
        checked = verify_student(self.structure, model, self.settings, self.name, reference, folder, self.progress)
        record.survival, record.drift, record.agreement = checked.survival, checked.drift, checked.agreement
        if (folder / "analysis" / "report.html").is_file():
            record.analysis = f"{folder.name}/analysis/report.html"
        harvested = harvest(checked.run, self.structure)
        self._pool += harvested.frames[:: max(1, len(harvested.frames) // 500)]
        LOGGER.info(f"student   attempt {number}: {checked.survival.text()}")
        if checked.survival.complete:
            self._own_dynamics = harvested.replicas
            found += self._compare(record, model, teachers, harvested.frames)
        return found + harvested.endings

    def _compare(self, record: StudentRecord, model: Path, teachers: Teachers, frames: Sequence[Frame]) -> list[Frame]:
        """Record the difference from the teachers in the dynamics of a student, and return the worst frames."""
        compared = fidelity(model, teachers.models, frames)
        if compared is None:
            return []
        record.own_force_mae, record.own_force_mae_by_atom = compared.force_mae, compared.by_atom
        LOGGER.info(
            f"student   attempt {record.number}: forces differ from those of the teachers by "
            f"{milli(compared.force_mae)} meV/A in its own dynamics"
            + ("" if record.faithful else f", more than these from the labels ({milli(record.largest_own_force_mae)})")
        )
        return compared.worst


def _joined(first: Labeled, second: Labeled) -> Labeled:
    return Labeled(
        [*first.frames, *second.frames],
        [*first.set_aside, *second.set_aside],
        [*first.reasons, *second.reasons],
        first.bought + second.bought,
    )
