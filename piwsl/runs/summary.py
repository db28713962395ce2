"""Typed summaries: JSON files in which long jobs record their inputs, times, outputs and results.

Each kind of job has one pydantic model, derived from `RunSummary`. Only these models write and read the files. Keys
from later versions are ignored, and keys that an earlier version did not write have defaults.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from piwsl._version import __version__
from piwsl.errors import RunDirectoryError, shortened
from piwsl.runs.files import read_json_object, write_text, writing
from piwsl.runs.json_text import json_text
from piwsl.runs.provenance import command_line, versions

if TYPE_CHECKING:
    from typing_extensions import Self

SUMMARY_FILE = "summary.json"

_Count = Annotated[int, Field(ge=0, lt=2**63)]
_Element = Annotated[int, Field(ge=1, le=118)]
_Step = Annotated[int, Field(gt=-(2**63), lt=2**63)]  # negative during equilibration
Result = Literal["completed", "interrupted", "stopped"]


def now() -> str:
    """Return the current time in ISO format, UTC."""
    return iso(datetime.now(timezone.utc))


def iso(time: datetime) -> str:
    """Return a time in ISO format, in whole seconds."""
    return time.isoformat(timespec="seconds")


def provenance(packages: Sequence[str], command: str = "") -> dict[str, Any]:
    """Return the entries of a new summary that record how the job was started.

    Args:
        packages: Names of the packages whose versions are recorded.
        command: Command line; if empty, the command line of this process.
    """
    return {
        "piwsl_version": __version__,
        "versions": versions(packages),
        "command": command or command_line(),
        "started": now(),
    }


class RunSummary(BaseModel):
    """Base class of the summaries of long jobs.

    Attributes:
        piwsl_version: Version that wrote the file.
        versions: Versions of Python and of relevant packages, by name; None if a package is not installed.
        command: Command line; empty in an interactive session.
        started: ISO time of the start, UTC.
        finished: ISO time of the end, UTC; None while the job runs, or if the job was killed.
        wall_seconds: Total duration of all sessions, s.
        outputs: File names by purpose, relative to the directory.
        result: ``interrupted`` until the job ends.
    """

    # Reject NaN, which the json module accepts, and conversions such as "1" to 1.
    model_config = ConfigDict(extra="ignore", protected_namespaces=(), allow_inf_nan=False, strict=True)

    file_name: ClassVar[str] = SUMMARY_FILE
    job: ClassVar[str] = "a run"  # name in messages, with its article

    piwsl_version: str = ""
    versions: dict[str, str | None] = Field(default_factory=dict)
    command: str = ""
    started: str = ""
    finished: str | None = None
    wall_seconds: float = 0.0
    outputs: dict[str, str] = Field(default_factory=dict)
    result: Result

    def write(self, directory: Path) -> None:
        """Write the summary of a directory atomically.

        Raises:
            RunDirectoryError: The file cannot be written.
        """
        path = directory / self.file_name
        with writing(path):
            write_text(path, json_text(self.model_dump(mode="json"), indent=1) + "\n")

    @classmethod
    def read(cls, directory: Path) -> "Self":
        """Read the summary of a directory.

        Raises:
            RunDirectoryError: The summary is missing or damaged, or belongs to another kind of job.
        """
        path = directory / cls.file_name
        if not directory.is_dir():
            raise RunDirectoryError(f"{directory}: no such directory")
        if not path.is_file():
            raise RunDirectoryError(f"{directory}: holds no {cls.file_name}: it is not the directory of {cls.job}")
        return cls._checked(read_json_object(path), path)

    @classmethod
    def _checked(cls, content: dict[str, Any], path: Path) -> "Self":
        try:
            return cls.model_validate_json(json_text(content))
        except ValidationError as error:
            missing = [str(item["loc"][0]) for item in error.errors() if item["type"] == "missing"]
            if missing:
                raise RunDirectoryError(
                    f"{path}: not the summary of {cls.job}: missing {', '.join(dict.fromkeys(missing))}"
                ) from None
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise RunDirectoryError(f"{path}: damaged: {shortened(key)}: {shortened(first['msg'].lower())}") from None


class SystemRecord(BaseModel):
    """Simulated system: name, chemical formula, atomic numbers in order, and nonstandard masses."""

    name: str
    formula: str = ""
    species: list[_Element | str] = Field(default_factory=list)  # earlier versions wrote element symbols
    masses: list[float] | None = None  # amu; None for standard masses


class ModelRecord(BaseModel):
    """Potential of a run: path given by the user, hash of the file, and description in the exported file."""

    path: str = ""
    sha256: str = ""
    info: dict[str, Any] = Field(default_factory=dict)


class SpeedRecord(BaseModel):
    """Speed of the last session; the values are None before the first steps."""

    steps_per_second: float | None = None
    ns_per_day: float | None = None


class ViolationRecord(BaseModel):
    """Record of a violated stop rule.

    Attributes:
        rule: Name of the rule.
        step: Step number within the run.
        message: Description in one line.
        value: Measured value; None if the value is not finite.
        limit: Limit of the rule.
        unit: Unit of the value and the limit.
        atoms: Index (from 0) and element of the atoms involved.
        frame: File with the unphysical frame if the run continued after the violation.
        advisory: Whether the rule only records violations and never stops a run, as ``extrapolation`` does by default.
    """

    rule: str
    step: _Count
    message: str = ""
    value: float | None = None
    limit: float | None = None
    unit: str = ""
    atoms: list[dict[str, Any]] = Field(default_factory=list)
    frame: str | None = None
    advisory: bool = False


def recorded_violations(violations: Iterable[ViolationRecord], in_replicas: bool = False) -> str:
    """Return the end of a sentence about the rules that were violated in a run that continued."""
    first: dict[str, int] = {}
    for violation in violations:
        first[violation.rule] = min(violation.step, first.get(violation.rule, violation.step))
    if not first:
        return "no stop rule violated"
    rules = ", ".join(f"{rule} (first at step {step})" for rule, step in first.items())
    where = f"{SUMMARY_FILE} of the replicas" if in_replicas else SUMMARY_FILE
    return f"violated and recorded in {where}: {rules}"


class ReplicaRecord(BaseModel):
    """State of one replica in the summary of all replicas."""

    directory: str
    seed: int
    result: Result
    steps_done: _Step
    stop: ViolationRecord | None = None


class MDSummary(RunSummary):
    """Summary of a molecular dynamics run, of one of its replicas, or of all replicas together.

    Attributes:
        system: Simulated system.
        model: Potential of the run.
        engine: Engine that integrates the equations of motion.
        force: Kind of force that calls the potential, such as ``TorchForce``.
        force_reason: Reason for the choice of this kind.
        platform: Device or OpenMM platform.
        ensemble: Name of the ensemble, such as ``nve``.
        temperature_K: Temperature of thermostat and initial velocities, K; text such as ``300:500`` for a ramp.
        pressure_bar: Pressure of the barostat, bar; None without a barostat.
        timestep_fs: Time step, fs.
        equilibration_steps: Number of steps before step 0.
        steps_requested: Number of steps in the protocol.
        steps_done: Number of completed steps; for replicas, the smallest number among the active replicas.
        trajectory_interval: Number of steps between frames.
        seed: Seed of the initial velocities and the thermostat.
        restarted_at_step: Step at which the last session started; None in the first session.
        speed: Speed of the last session.
        stop: Violation that ended the run.
        violations: Violations after which the run continued.
        replica: Number of a replica; None for a single run and for the summary of all replicas.
        replicas: State of each replica; None for a single run and for one replica.
    """

    job: ClassVar[str] = "a molecular dynamics run"

    system: SystemRecord
    model: ModelRecord = Field(default_factory=ModelRecord)
    engine: str = ""
    force: str = ""
    force_reason: str = ""
    platform: str = ""
    ensemble: str
    temperature_K: float | str
    pressure_bar: float | None = None
    timestep_fs: float = Field(gt=0)
    equilibration_steps: _Count = 0
    steps_requested: _Count
    steps_done: _Step
    trajectory_interval: _Count
    seed: int | None = None
    restarted_at_step: int | None = None
    speed: SpeedRecord = Field(default_factory=SpeedRecord)
    stop: ViolationRecord | None = None
    violations: list[ViolationRecord] = Field(default_factory=list)
    replica: int | None = None
    replicas: list[ReplicaRecord] | None = None

    @property
    def ended(self) -> bool:
        """Whether the run has ended and has recorded its result."""
        return self.finished is not None
