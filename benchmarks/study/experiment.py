"""Experiments: YAML files that describe which runs are compared."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from piwsl.errors import ConfigError
from piwsl.runs.config import merged
from piwsl.training.config import TrainingConfig

FOLDER = Path(__file__).parent / "experiments"
Overrides = dict[str, Any]


class Section(BaseModel):
    """Base class of the parts of an experiment. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StudyData(Section):
    """Data of an experiment: the test frames are the same for all runs, and no run trains or selects on them."""

    file: str = Field(description="file in the folder of the data")
    units: str | None = Field(None, description="units of the file, if it states none")
    test: int = Field(1000, ge=1, description="number of test frames")
    start: str | None = Field(None, description="trained file in the folder of the data, to fine-tune")
    get: str = Field(description="where a user finds the file")


class Dynamics(Section):
    """Replicas of molecular dynamics after training."""

    ensemble: str = "nvt-langevin"
    temperature: float = 500.0
    replicas: int = 8
    picoseconds: float = 10.0


class Experiment(Section):
    """Runs that are compared: each variant in each case with each seed.

    Attributes:
        question: What the experiment answers.
        data: Data.
        common: Training configuration of all runs.
        cases: Additional configuration by case, such as a number of frames.
        variants: Additional configuration by variant.
        baseline: Variant to which the others are compared.
        equal: ``steps``: all runs have the steps of their configuration; ``time``: the steps of each variant take the
            time that those of the baseline take, by the costs of their steps, measured in turns.
        seeds: Seeds of the choice of frames, the weights and the order.
        dynamics: Dynamics after training; None for none.
        small: Configuration that replaces values for a test of the experiment.
    """

    question: str
    data: StudyData
    common: Overrides = {}
    cases: dict[str, Overrides] = {"": {}}
    variants: dict[str, Overrides]
    baseline: str
    equal: Literal["steps", "time"] = "time"
    seeds: list[int] = [0, 1, 2]
    dynamics: Dynamics | None = None
    small: Overrides = {}

    @model_validator(mode="after")
    def _check(self) -> "Experiment":
        if self.baseline not in self.variants:
            raise ConfigError(f"baseline: {self.baseline} is not a variant: choose from {', '.join(self.variants)}")
        for case in self.cases:
            for variant in self.variants:
                self.config(case, variant)
        return self

    def config(self, case: str, variant: str, small: bool = False, **more: Any) -> TrainingConfig:
        """Return the training configuration of a variant in a case.

        Raises:
            ConfigError: A key is unknown, or a value is out of range.
        """
        values: Overrides = {}
        for part in (self.common, self.cases[case], self.variants[variant], self.small if small else {}, more):
            values = merged(values, part)
        try:
            return TrainingConfig.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ConfigError(f"case {case or '-'}, variant {variant}: {where}: {first['msg']}") from None


def load_experiment(name: str) -> Experiment:
    """Read an experiment by name, or a YAML file.

    Raises:
        ConfigError: There is no such experiment, or a key is unknown.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.yaml")))
        raise ConfigError(f"{name}: no such experiment: choose from {known}, or pass a YAML file")
    try:
        return Experiment.model_validate(yaml.safe_load(path.read_text()))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: {where}: {first['msg']}") from None


@dataclass(frozen=True)
class Run:
    """One run of an experiment.

    Attributes:
        case: Name of the case.
        variant: Name of the variant.
        seed: Seed.
        small: Whether the run is a short test.
    """

    case: str
    variant: str
    seed: int
    small: bool = False

    @property
    def label(self) -> str:
        """Name for messages."""
        return ", ".join([*([self.case] if self.case else []), self.variant, f"seed {self.seed}"])


def runs_of(experiment: Experiment, seeds: list[int] | None, variants: list[str], small: bool) -> Iterator[Run]:
    """Yield the runs of an experiment: seed by seed, so that an interrupted study has complete comparisons."""
    for seed in seeds or (experiment.seeds[:1] if small else experiment.seeds):
        for case in experiment.cases:
            for variant in experiment.variants:
                if not variants or variant in variants or variant == experiment.baseline:
                    yield Run(case, variant, seed, small)


def digest(*parts: Any) -> str:
    """Return a short hash of what determines a result."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
