"""The directory of a learning job: names of its files, and the summary that records finished stages."""

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from piwsl.errors import RunDirectoryError
from piwsl.learning.settings import LearnSettings
from piwsl.runs.config import to_yaml
from piwsl.runs.directory import DirectoryKind
from piwsl.runs.files import write_text
from piwsl.runs.summary import SUMMARY_FILE, RunSummary

CONFIG_FILE = "config.yaml"
LOG_FILE = "learn.log"
REPORT_FILE = "report.html"
START_FILE = "start.extxyz"
GIVEN_FILE = "given.extxyz"
LABELED_FILE = "labeled.extxyz"
SET_ASIDE_FILE = "set_aside.extxyz"
START_MODEL_FILE = "start_model.pt"
TEACHER_FILE = "teacher.pt"
STUDENT_FILE = "student.pt"
EXPORTED_FILE = "student_openmm.pt"
CHOSEN_FILE = "chosen.extxyz"
STUDENT_LABELS_FOLDER = "student_labels"
TO_LABEL_FILE = "to_label.extxyz"
USER_LABELS_FILE = "labeled.extxyz"

LEARNING = DirectoryKind(
    job="a learning job",
    marks=(CONFIG_FILE,),
    own=(
        *(LOG_FILE, REPORT_FILE, START_FILE, GIVEN_FILE, LABELED_FILE, SET_ASIDE_FILE, SUMMARY_FILE),
        *(TEACHER_FILE, STUDENT_FILE, EXPORTED_FILE, START_MODEL_FILE, "round-*", "student-*", "teacher_dynamics*"),
        STUDENT_LABELS_FOLDER,
        CONFIG_FILE,  # last, because it marks the directory as that of a job
    ),
    log=LOG_FILE,
    early=(START_MODEL_FILE,),
)

Number = Annotated[int, Field(ge=0)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class SurvivalRecord(_Record):
    """Survival of replicas.

    Attributes:
        temperature: Temperature, K.
        picoseconds: Requested length of each replica, ps.
        times: Time of each replica until it became unphysical or ended, ps.
        survived: Number of replicas that became unphysical at no time.
        reasons: Violated stop rules, with the number of replicas.
        steps_per_second: Steps of all replicas per second of wall time; None if unknown.
    """

    temperature: float
    picoseconds: float
    times: list[float]
    survived: Number
    reasons: dict[str, int] = Field(default_factory=dict)
    steps_per_second: float | None = None

    @property
    def complete(self) -> bool:
        """Whether all replicas survived."""
        return self.survived == len(self.times)

    def text(self) -> str:
        """Describe the survival in a few words."""
        whole = f"{self.survived} of {len(self.times)} replicas intact"
        return f"{whole} after {self.picoseconds:g} ps at {self.temperature:g} K"


class RoundRecord(_Record):
    """Results of a round.

    Attributes:
        number: Number of the round, from 1.
        candidates: Number of frames of the dynamics that could be labeled.
        chosen: Number of structures that were labeled, including failures.
        labels: Number of all usable labels after the round.
        failed: Reasons why structures have no label, or a label that was set aside.
        largest_spread: Median over the chosen structures of the largest spread of a force among the teachers,
            eV/angstrom; None if it was not measured.
        exploration: Survival in the dynamics that made the candidates.
        energy_mae: Error of the teachers on the held-back labels, eV; None if not measured.
        force_mae: Likewise, eV/angstrom.
        new_force_mae: Error of the previous model on the new labels, before it learned from them, eV/angstrom.
        seconds: Wall time of the round, s.
    """

    number: Number
    candidates: Number = 0
    chosen: Number = 0
    labels: Number = 0
    failed: list[str] = Field(default_factory=list)
    largest_spread: float | None = None
    exploration: list[SurvivalRecord] = Field(default_factory=list)
    energy_mae: float | None = None
    force_mae: float | None = None
    new_force_mae: float | None = None
    seconds: float = 0.0


class StudentRecord(_Record):
    """Results of an attempt to train a student.

    Attributes:
        number: Number of the attempt, from 1.
        frames: Number of frames that the teachers labeled.
        energy_mae: Error on the held-back labels of the reference method, eV; None without them.
        force_mae: Likewise, eV/angstrom.
        teacher_force_mae: Difference from the teachers on frames that were not trained on, eV/angstrom.
        own_force_mae: Difference from the teachers on frames of its own dynamics at the target temperature,
            eV/angstrom; None if a replica broke.
        own_force_mae_by_atom: Likewise for each atom, or for each element of a large structure.
        largest_own_force_mae: Largest difference of an accurate student: the force error of the teachers on the
            held-back labels, eV/angstrom; None if it was not measured.
        survival: Survival of replicas at the target temperature.
        drift: Largest drift of the energy at constant energy, meV/atom/10 ps; None if a replica ended early.
        agreement: Verdict of the comparison with the reference.
        analysis: Report of this comparison, relative to the directory.
        seconds: Wall time of the attempt, s.
    """

    number: Number
    frames: Number = 0
    energy_mae: float | None = None
    force_mae: float | None = None
    teacher_force_mae: float | None = None
    own_force_mae: float | None = None
    own_force_mae_by_atom: dict[str, float] = Field(default_factory=dict)
    largest_own_force_mae: float | None = None
    survival: SurvivalRecord | None = None
    drift: float | None = None
    agreement: str | None = None
    analysis: str | None = None
    seconds: float = 0.0

    @property
    def stable(self) -> bool:
        """Whether all replicas of the student survived."""
        return self.survival is not None and self.survival.complete

    @property
    def faithful(self) -> bool:
        """Whether the student differs less from the teachers than these from the labels, as far as it was measured."""
        if self.own_force_mae is None or self.largest_own_force_mae is None:
            return True
        return self.own_force_mae <= self.largest_own_force_mae

    @property
    def verified(self) -> bool:
        """Whether the student is stable and faithful."""
        return self.stable and self.faithful


class StudentLabelsRecord(_Record):
    """Errors of the student on labels of the reference method in its own dynamics.

    Attributes:
        bought: Number of structures that were labeled, including failures.
        labels: Number of usable labels.
        failed: Reasons why structures have no label.
        energy_mae: Error of the student, eV.
        force_mae: Likewise, eV/angstrom; None for labels without forces.
        force_mae_by_atom: Likewise for each atom, or for each element of a large structure.
        exceeds: Whether the error of the forces, or of the energies if labels have no forces, is clearly larger than
            on the held-back labels.
    """

    bought: Number = 0
    labels: Number = 0
    failed: list[str] = Field(default_factory=list)
    energy_mae: float | None = None
    force_mae: float | None = None
    force_mae_by_atom: dict[str, float] = Field(default_factory=dict)
    exceeds: bool = False


class LearnSummary(RunSummary):
    """Summary of a learning job, rewritten after each stage.

    Attributes:
        name: Name of the system.
        formula: Chemical formula.
        method: Reference method.
        start: Model that was fine-tuned, and why.
        license: License of the weights of this model; None if it was not trained by others.
        budget: Largest number of labels.
        labels: Number of labels that were computed, including those that failed.
        held_back: Number of labels that no model was trained on.
        rounds: Results of each round.
        students: Results of each attempt to train a student.
        student_labels: Errors of the last student on labels in its own dynamics; None if it has none.
        waiting_for: File with structures that the user must label; None if the job is not waiting.
        verdict: One sentence about the result; empty while the job runs.
    """

    job: ClassVar[str] = "a learning job"

    name: str
    formula: str = ""
    method: str = ""
    start: str = ""
    license: str | None = None
    budget: Number = 0
    labels: Number = 0
    held_back: Number = 0
    rounds: list[RoundRecord] = Field(default_factory=list)
    students: list[StudentRecord] = Field(default_factory=list)
    student_labels: StudentLabelsRecord | None = None
    waiting_for: str | None = None
    verdict: str = ""

    @property
    def verified(self) -> bool:
        """Whether the last student is stable and faithful, and as accurate in its own dynamics as elsewhere."""
        last = self.students[-1] if self.students else None
        own = self.student_labels
        return last is not None and last.verified and (own is None or (own.labels > 0 and not own.exceeds))

    @property
    def labels_used(self) -> int:
        """Number of labels that were computed, or that existed already if none was to be computed."""
        return self.labels if self.budget or not self.rounds else self.rounds[-1].labels


def store_settings(settings: LearnSettings, output: Path) -> None:
    """Write the settings of a new job."""
    write_text(output / CONFIG_FILE, to_yaml(settings))


def check_same_settings(settings: LearnSettings, stored: LearnSettings, output: Path) -> None:
    """Raise an error if a job is continued with other settings.

    The number of workers and the schedulers may change.

    Raises:
        RunDirectoryError: A setting differs; the message names it.
    """
    mine, theirs = _flat(settings.model_dump(mode="json")), _flat(stored.model_dump(mode="json"))
    free = ("labels.workers", "labels.scheduler", "replicas_scheduler")
    keys = [key for key in {**theirs, **mine} if key not in free and mine.get(key) != theirs.get(key)]
    if keys:
        text = ", ".join(f"{key}: {theirs.get(key)} -> {mine.get(key)}" for key in keys[:3])
        raise RunDirectoryError(
            f"{output}: holds a learning job with other settings ({text}): choose another output=DIRECTORY, where "
            f"labels={output / LABELED_FILE} reuses its labels, or replace it with force=True"
        )


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
