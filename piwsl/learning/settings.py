"""Settings of a learning job, with a type and a description for each key. Unknown keys are errors."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from piwsl.errors import ConfigError
from piwsl.runs.config import commented_yaml, load
from piwsl.training.config import load_config
from piwsl.training.data_config import Section

FILE_METHOD = "file"  # structures are written to a file, and the user provides their labels
AUTOMATIC, SCRATCH = "auto", "scratch"
FEWEST_LABELS = 10  # of a first model
NO_START = "set teacher.init_from to a trained file, or label forces as well"


class LabelSettings(Section):
    """Section `labels`: the reference method, and how many structures it may label."""

    method: str = Field(
        "gfn2-xtb",
        description="reference method, as for `piwsl data label`, or file: write the structures to label, and stop",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="calculator options by name")
    budget: int = Field(100, ge=0, le=100_000, description="largest number of labels to compute")
    rounds: int = Field(3, ge=1, le=100, description="rounds of labeling, training and exploration")
    first_share: float = Field(0.5, gt=0, le=1, description="fraction of the budget that the first round uses")
    student_share: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="fraction of the budget for frames of the student's dynamics, which measure its errors there",
    )
    file: Path | None = Field(None, description="labeled frames that exist already; they do not count in the budget")
    units: str | None = Field(None, description="units of this file, if it states none")
    energies_only: bool = Field(
        False, description="use only the energies of labels, for methods without forces; needs a model to fine-tune"
    )
    workers: int = Field(1, ge=1, le=1024, description="processes that compute labels on this machine")
    scheduler: str | None = Field(None, description="Dask scheduler whose workers compute the labels; empty: none")


class TeacherSettings(Section):
    """Section `teacher`: the accurate models, trained on the labels."""

    init_from: str = Field(
        AUTOMATIC,
        description="model to fine-tune: a trained file, auto (SO3LR where its elements fit), or scratch (none)",
    )
    members: int | None = Field(
        None, ge=1, le=16, description="models of the ensemble; empty: 2 with a model to fine-tune, 3 from scratch"
    )
    training: dict[str, Any] = Field(
        default_factory=dict, description="sections of a training configuration, such as {optimizer: {batch_size: 4}}"
    )


class ExploreSettings(Section):
    """Section `explore`: the dynamics in which structures to label are found."""

    temperature_factors: tuple[Annotated[float, Field(gt=0, le=100)], ...] = Field(
        (1.0, 1.4, 2.0), min_length=1, description="temperatures of the dynamics, as multiples of the target"
    )
    replicas: int = Field(4, ge=1, le=10_000, description="replicas at each temperature")
    picoseconds: float = Field(1.5, gt=0, le=1e6, description="length of each replica [ps]")
    frame_interval: float = Field(20.0, gt=0, description="time between candidate frames [fs]")


class StudentSettings(Section):
    """Section `student`: the fast model, trained on labels of the teachers."""

    attempts: int = Field(
        3, ge=1, le=20, description="trainings; frames of an unstable or inaccurate student are added before the next"
    )
    frames: int = Field(4000, ge=20, le=10**7, description="largest number of frames that the teachers label")
    training: dict[str, Any] = Field(
        default_factory=dict, description="sections of a training configuration, such as {model: {channels: 128}}"
    )


class VerifySettings(Section):
    """Section `verify`: the dynamics that the student must survive."""

    replicas: int = Field(32, ge=1, le=10_000, description="replicas at the target temperature")
    picoseconds: float = Field(50.0, gt=0, le=1e6, description="length of each replica [ps]")
    constant_energy: float = Field(10.0, gt=0, le=1e6, description="length of the run at constant energy [ps]")
    reference: Path | None = Field(
        None, description="reference trajectory; empty: the bundled reference where it fits, or dynamics of the teacher"
    )


class LearnSettings(Section):
    """Complete settings of a learning job."""

    labels: LabelSettings = Field(LabelSettings(), description="reference method and budget")
    teacher: TeacherSettings = Field(TeacherSettings(), description="accurate models, trained on the labels")
    explore: ExploreSettings = Field(ExploreSettings(), description="search for structures to label")
    student: StudentSettings = Field(StudentSettings(), description="fast model, trained on labels of the teachers")
    verify: VerifySettings = Field(VerifySettings(), description="dynamics that the student must survive")
    temperature: float = Field(500.0, gt=0, le=1e5, description="target temperature [K]")
    timestep: float = Field(0.5, gt=0, le=5, description="time step of all dynamics [fs]")
    minutes: float = Field(
        90.0, gt=0, description="time for training [min]: half of it for the teachers, half for the student"
    )
    replicas_scheduler: str | None = Field(
        None, description="Dask scheduler whose workers run the replicas of all dynamics; empty: this process"
    )
    seed: int = Field(0, ge=0, lt=2**31 - 1000, description="seed of all random choices")

    @model_validator(mode="after")
    def _check_together(self) -> "LearnSettings":
        if self.labels.budget == 0 and self.labels.file is None:
            raise ConfigError("labels.budget is 0 and no labels exist: set labels.budget, or labels.file")
        if self.labels.scheduler is not None and self.labels.workers > 1:
            raise ConfigError("labels.workers has no effect with labels.scheduler: set only one of them")
        if self.labels.energies_only:
            if self.teacher.init_from == SCRATCH:
                raise ConfigError(f"labels.energies_only needs a model to fine-tune: {NO_START}")
            if (self.teacher.members or 1) > 1:
                raise ConfigError(
                    "teacher.members has no effect with labels.energies_only: its fit has a single result"
                )
        for name, training in (("teacher", self.teacher.training), ("student", self.student.training)):
            if "data" in training:
                raise ConfigError(f"{name}.training.data: the job chooses the frames: remove this section")
            model = training.get("model")
            if name == "teacher" and isinstance(model, dict) and "network" not in model:
                # The options depend on the network of the start model, and are checked when it is known.
                training = {key: value for key, value in training.items() if key != "model"}
            try:
                load_config(None, base=training)
            except ConfigError as error:
                raise ConfigError(f"{name}.training: {str(error).removeprefix('options: ')}") from None
        return self

    def steps(self, picoseconds: float) -> int:
        """Return the number of steps of a dynamics."""
        return max(1, round(1000.0 * picoseconds / self.timestep))

    @property
    def method(self) -> str | None:
        """Reference method that computes labels; None if all labels exist already."""
        return self.labels.method if self.labels.budget else None

    @property
    def rounds(self) -> int:
        """Number of rounds; 1 if the first uses the whole budget, or without labels to compute."""
        return self.labels.rounds if self._first_labels < self.labels.budget else 1

    @property
    def student_labels(self) -> int:
        """Number of labels in the dynamics of the student. They leave enough labels for a first model."""
        budget = self.labels.budget
        first = self._first_labels if self.rounds > 1 else FEWEST_LABELS if self.labels.file is None else 0
        return max(0, min(round(self.labels.student_share * budget), budget - first))

    @property
    def _first_labels(self) -> int:
        return max(1, round(self.labels.first_share * self.labels.budget))

    def labels_of(self, number: int) -> int:
        """Return how many labels a round computes; rounds are counted from 1."""
        budget, rounds, first = self.labels.budget - self.student_labels, self.rounds, self._first_labels
        if rounds == 1:
            return budget
        if number == 1:
            return first
        begin = first + (budget - first) * (number - 2) // (rounds - 1)
        return first + (budget - first) * (number - 1) // (rounds - 1) - begin

    def teacher_members(self, fine_tuned: bool) -> int:
        """Return the number of teachers, which are fine-tuned or start from random weights."""
        return self.teacher.members or (1 if self.labels.energies_only else 2 if fine_tuned else 3)

    def teacher_minutes(self, number: int) -> float:
        """Return the time for training the teachers of a round; the last round has as much as all others together."""
        total = 0.5 * self.minutes
        if self.rounds == 1:
            return total
        return 0.5 * total if number == self.rounds else 0.5 * total / (self.rounds - 1)

    def student_minutes(self, attempt: int) -> float:
        """Return the time for training the student in an attempt; later attempts continue and need half.

        Teachers that are fitted to energies need no time for training, so that all of it is left for the student.
        """
        total = (1.0 if self.labels.energies_only else 0.5) * self.minutes
        if self.student.attempts == 1:
            return total
        return total * (0.6 if attempt == 1 else 0.4 / (self.student.attempts - 1))


def load_learn_settings(
    path: Path | None, overrides: Sequence[str] = (), base: Mapping[str, Any] | None = None
) -> LearnSettings:
    """Read settings of a learning job from a file, see `piwsl.runs.config.load`.

    Raises:
        ConfigError: The file does not contain a YAML mapping, a key is unknown, or a value is out of range.
    """
    return load(LearnSettings, path, overrides, base)


def template() -> str:
    """Return the default settings as YAML, with a comment that describes each key."""
    return commented_yaml(LearnSettings)
