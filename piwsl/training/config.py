"""The training configuration: typed, forbids unknown keys, and says the nearest known one."""

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from piwsl.errors import ConfigError
from piwsl.training.sections import TrainingConfig


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
    if isinstance(value, tuple):
        return f"[{', '.join(value)}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
