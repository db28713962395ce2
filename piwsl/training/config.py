"""The training configuration: typed, forbids unknown keys, and says the nearest known one."""

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from piwsl.errors import ConfigError
from piwsl.models.build import ModelConfig


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Section):
    """Which frames to learn from."""

    system: str | None = Field(None, description="bundled system (aspirin), instead of a file")
    file: Path | None = Field(None, description="labelled frames: npz, extended XYZ, or anything ASE reads")
    units: str | None = Field(None, description="units of the file, such as 'kcal/mol, angstrom', if it states none")
    train: int | None = Field(None, ge=1, description="training frames; empty: all that the others leave")
    validation: int | None = Field(
        None, ge=1, description="validation frames; empty: as many as for training, at most 1/10"
    )
    test: int = Field(
        0, ge=0, description="test frames taken from the file; drawn first, the same for every other size"
    )
    test_file: Path | None = Field(None, description="test frames in a file of their own")


class LossConfig(_Section):
    """Coefficients and forms of the loss terms."""

    energy: float = Field(1.0, ge=0, description="coefficient of the energy MAE [1/eV]")
    forces: float = Field(100.0, ge=0, description="coefficient of the force L2-MAE [A/eV]")
    pitc: float = Field(1.0, ge=0, description="coefficient of PITC, Taylor-expansion consistency [1/eV^2]; 0: off")
    pisc: float = Field(0.01, ge=0, description="coefficient of PISC, spatial consistency [1/eV^2]; 0: off")
    mixing: float = Field(0.5, ge=0, le=0.5, description="k of both: 0 first-order expansion, 0.5 trapezoid rule")
    displacement: float = Field(0.05, gt=0, le=0.5, description="length of the displacement of an atom [A]")
    direction: Literal["normal", "uniform"] = Field("normal", description="how its random direction is drawn")
    draw_length: bool = Field(False, description="draw the length from (0, displacement] for each structure")
    remove_translation: bool = Field(False, description="subtract the mean displacement of a structure")
    detach: Literal["none", "target", "energy"] = Field(
        "none", description="no gradient through: none, the Taylor target, or only its energy"
    )
    per_atom: bool = Field(False, description="energy mismatch per atom instead of per structure")
    cadence: int = Field(1, ge=1, description="PITC and PISC act every so many steps")
    warmup: int = Field(0, ge=0, description="step at which they begin")


class OptimiserConfig(_Section):
    """How the weights are moved."""

    steps: int = Field(20_000, ge=1, description="training steps in all")
    batch_size: int = Field(10, ge=1, description="structures in a step")
    learning_rate: float = Field(1e-3, gt=0, description="highest learning rate (AdamW)")
    weight_decay: float = Field(0.0, ge=0, description="weight decay (AdamW)")
    schedule: Literal["cosine", "plateau", "constant"] = Field("cosine", description="learning rate after warm-up")
    warmup: int = Field(100, ge=0, description="steps of linear warm-up")
    plateau_patience: int = Field(10, ge=1, description="validations without progress before plateau halves the rate")
    gradient_clip: float = Field(100.0, gt=0, description="largest norm of the gradient")
    ema_decay: float = Field(0.999, ge=0, lt=1, description="exponential moving average of the weights")
    validation_interval: int = Field(250, ge=1, description="steps between validations and checkpoints")
    patience: int | None = Field(
        None, ge=1, description="stop after so many validations without progress; empty: never"
    )


class TrainingConfig(_Section):
    """Everything that decides a training run."""

    data: DataConfig = Field(DataConfig(), description="which frames to learn from")
    model: ModelConfig = Field(ModelConfig(), description="which energy network, and how large")
    loss: LossConfig = Field(LossConfig(), description="coefficients and forms of the loss terms")
    optimiser: OptimiserConfig = Field(OptimiserConfig(), description="how the weights are moved")
    seed: int = Field(0, ge=0, description="one seed for the split, the weights, the order and the displacements")
    dtype: Literal["float32", "float64"] = Field("float32", description="float type of the network")
    threads: int | None = Field(None, ge=1, description="processor threads; empty: all")


def load_config(path: Path | None, overrides: Sequence[str] = (), base: dict[str, Any] | None = None) -> TrainingConfig:
    """Read a YAML file and apply ``section.key=value`` overrides.

    Raises:
        ConfigError: the file is no YAML mapping, a key is unknown, or a value is out of range.
    """
    values: dict[str, Any] = dict(base or {})
    if path is not None:
        if not path.is_file():
            raise ConfigError(f"{path}: no such file")
        try:
            loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
        if not isinstance(loaded, dict | None):
            raise ConfigError(f"{path}: expected sections such as data, model, loss; see `piwsl train --template`")
        _merge(values, loaded or {})
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise ConfigError(f"override {override!r}: write section.key=value")
        nested: Any = _scalar(text)
        for name in reversed(key.split(".")):
            nested = {name: nested}
        _merge(values, nested)
    return validated(values, str(path) if path else "options")


def validated(values: dict[str, Any], where: str) -> TrainingConfig:
    """Check a mapping against the configuration.

    Raises:
        ConfigError: one line naming the key, what is wrong, and the nearest known key.
    """
    try:
        return TrainingConfig(**values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(key, list(_keys(TrainingConfig)), n=1, cutoff=0.4)
            hint = f": did you mean {near[0]}?" if near else ": see `piwsl train --template`"
            raise ConfigError(f"{where}: unknown key {key}{hint}") from None
        raise ConfigError(f"{where}: {key} = {first['input']!r}: {first['msg'].lower()}") from None


def with_absolute_paths(config: TrainingConfig) -> TrainingConfig:
    """The same configuration, valid from any working directory."""
    files = {name: getattr(config.data, name) for name in ("file", "test_file")}
    absolute = {name: path.resolve() for name, path in files.items() if path is not None}
    return config.model_copy(update={"data": config.data.model_copy(update=absolute)})


def _scalar(text: str) -> Any:
    """A value as YAML reads it, and numbers such as 1e-3, which YAML 1.1 takes for text."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _merge(values: dict[str, Any], new: dict[str, Any]) -> None:
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            merged = dict(values[key])
            _merge(merged, value)
            values[key] = merged
        else:
            values[key] = value


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys(field.annotation, f"{prefix}{name}.")


def dump(config: TrainingConfig) -> str:
    """The configuration as YAML."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def template() -> str:
    """A configuration of all defaults, each key with its meaning."""
    lines: list[str] = []
    for name, field in TrainingConfig.model_fields.items():
        value = field.default
        if isinstance(value, BaseModel):
            lines.append(f"\n# {field.description}\n{name}:")
            for key, inner in type(value).model_fields.items():
                lines.append(f"  {key}: {_yaml_value(getattr(value, key))}  # {inner.description}")
        else:
            lines.append(f"\n{name}: {_yaml_value(value)}  # {field.description}")
    return "\n".join(lines).lstrip("\n") + "\n"


def _yaml_value(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
