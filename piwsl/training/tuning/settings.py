"""Section `tune` of a configuration file: ranges of the settings, metric, and options of the search."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from piwsl.errors import ConfigError
from piwsl.runs.config import Count, read_mapping, validate, with_overrides
from piwsl.training.config import TrainingConfig
from piwsl.training.data_config import Section

Scalar = bool | int | float | str | None
# A trial must not change the data or the errors by which it is compared.
_DATA = "data"
_NO_SECTION = object()
_SUPERVISED = ("loss.energy", "loss.forces", "loss.stress")


class RangeConfig(Section):
    """Range of a setting: an interval or a list of choices."""

    low: int | float | None = Field(None, description="smallest value")
    high: int | float | None = Field(None, description="largest value")
    log: bool = Field(False, description="search the logarithm")
    step: int | float | None = Field(None, gt=0, description="grid of the interval, counted from low")
    choices: tuple[Scalar, ...] | None = Field(None, min_length=1, description="a list instead of an interval")

    @model_validator(mode="after")
    def _one_of_both(self) -> "RangeConfig":
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.log or self.step is not None:
                raise ValueError("set either low and high, or choices")
            return self
        if self.low is None or self.high is None:
            raise ValueError("set low and high, or choices")
        if not self.low < self.high:
            raise ValueError(f"low {self.low} must be less than high {self.high}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log requires low above 0 and no step")
        return self

    @property
    def ends(self) -> tuple[Scalar, ...]:
        """Both limits of the interval, or all choices."""
        return self.choices if self.choices is not None else (self.low, self.high)

    def is_integer(self, current: object) -> bool:
        """Return whether the range consists of integers, given the current value of the setting."""
        whole = all(isinstance(value, int) for value in (self.low, self.high, self.step) if value is not None)
        return whole and not isinstance(current, float) and not isinstance(current, Mapping)


class TuneConfig(Section):
    """Section `tune`: metric, ranges, and options of the search."""

    trials: int = Field(30, ge=1, le=10**6, description="number of trials, summed over all workers")
    metric: Literal["force_mae", "energy_mae", "loss"] = Field("force_mae", description="validation error to minimize")
    ranges: dict[str, RangeConfig] = Field(min_length=1, description="search range of each setting")
    storage: str | None = Field(None, description="database URL or journal file of the study; empty: in the output")
    study: str = Field("piwsl", min_length=1, description="name of the study in its storage")
    random_trials: Count = Field(
        8, ge=1, description="random trials before the sampler and the pruner use earlier results"
    )
    prune: bool = Field(True, description="stop trials that are worse than the median of the others")
    prune_after: Count = Field(3, ge=0, description="validations before a trial may be stopped")

    @field_validator("metric", mode="before")
    @classmethod
    def _without_purpose(cls, value: object) -> object:
        return value.removeprefix("validation/") if isinstance(value, str) else value


def load_settings(path: Path, overrides: Sequence[str] = ()) -> tuple[TrainingConfig, TuneConfig | None]:
    """Read a training configuration that may contain a section `tune`.

    Args:
        path: YAML file.
        overrides: Values such as ``section.key=value`` for the training configuration.

    Returns:
        The training configuration and the section `tune`, which is None if the file does not contain it.

    Raises:
        ConfigError: A key is unknown or a value is invalid. The message suggests the closest known key.
    """
    content = read_mapping(path)
    section = content.pop("tune", None) if "tune" in content else _NO_SECTION
    config = validate(TrainingConfig, with_overrides(content, overrides), str(path))
    return config, None if section is _NO_SECTION else tune_config(section, path)


def tune_config(section: object, path: Path) -> TuneConfig:
    """Return a section `tune` after validation.

    Raises:
        ConfigError: A key is unknown or a value is invalid. The message suggests the closest known key.
    """
    if not isinstance(section, dict):
        raise ConfigError(f"{path}: tune: expected a mapping with keys such as trials, metric and ranges")
    return validate(TuneConfig, section, str(path), "tune")


def with_settings(config: TrainingConfig, settings: Mapping[str, Scalar]) -> TrainingConfig:
    """Return the configuration with some keys, such as ``loss.pitc``, set.

    Raises:
        ConfigError: A key is unknown or a value is out of range.
    """
    values = config.model_dump(mode="json")
    for key, value in settings.items():
        *sections, name = key.split(".")
        inner = values
        for section in sections:
            if not isinstance(inner.get(section), dict):
                inner[section] = {}
            inner = inner[section]
        inner[name] = value
    return validate(TrainingConfig, values, "tune.ranges")


def present(config: TrainingConfig, key: str) -> Any:
    """Return the value of a key such as ``loss.pitc``, or None if the key does not exist."""
    value: Any = config.model_dump(mode="json")
    for name in key.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def extremes(config: TrainingConfig, settings: TuneConfig) -> list[TrainingConfig]:
    """Return one configuration for each limit of each range, for checks before the first trial.

    Raises:
        ConfigError: A key is unknown, a value is out of range, or a range would change the metric or the data that
            trials are compared on.
    """
    for key in settings.ranges:
        if key.split(".")[0] == _DATA or key == "seed":
            raise ConfigError(
                f"tune.ranges: {key} changes the validation frames on which trials are compared: remove this range"
            )
        if settings.metric == "loss" and key.startswith(_SUPERVISED):
            raise ConfigError(
                f"tune.ranges: {key} rescales the validation loss: set tune.metric to force_mae or energy_mae"
            )
    return [with_settings(config, {key: end}) for key, chosen in settings.ranges.items() for end in chosen.ends]
