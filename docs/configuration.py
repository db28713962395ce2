"""Write configuration.md, the reference of all configuration keys, from the types in the code.

    python docs/configuration.py

A test compares the page with the types.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from piwsl.md.protocol import MDProtocol
from piwsl.models import ModelConfig, registered_network, registered_networks
from piwsl.training.config import ScheduleConfig, TrainingConfig
from piwsl.training.data_config import LevelConfig

PAGE = Path(__file__).with_name("configuration.md")

INTRODUCTION = """\
# Configuration

This page lists every key of the configuration of [training](training.md) and of
[molecular dynamics](molecular_dynamics.md), with its type, default and meaning. A key that is not
set keeps its default; an unknown key is an error. `python docs/configuration.py` generates this
page from the types in the code.
"""

TRAINING = """\
## Training

`piwsl train --template` prints these keys as a file. A key of a section is written as `section.key`
on the command line (`-o loss.pitc=0.5`), and as a nested mapping in a file.
[Tuning](tuning.md#keys) describes the section `tune`.
"""

SCHEDULES = """\
### Schedules

A coefficient of the section `loss` is a number or a schedule with these keys
([details](method.md#when-the-terms-act)):
"""

LEVELS = """\
### Levels

A further [level of theory](levels.md) in `data.levels` is the name of its source, or a mapping with
these keys:
"""

DYNAMICS = """\
## Molecular dynamics

`piwsl md --template` prints these keys as a file for `--config`. The option on the command line has
the same name with hyphens: `trajectory_interval` is `--trajectory-interval`. In Python they are the
arguments of `MDProtocol`.
"""

HEADER = "| key | type | default | meaning |\n|---|---|---|---|\n"
# Types that a JSON schema describes by their storage rather than by what a user writes.
NAMED_TYPES = {
    "WallRanges": "ranges",
    "ScheduleConfig": "[schedule](#schedules)",
    "LevelConfig": "[level](#levels)",
    "TemperatureSchedule": "number, or a ramp such as `300:500`",
}
PLAIN_TYPES = {"integer": "integer", "number": "number", "string": "text", "boolean": "`true` or `false`"}


def page() -> str:
    """Return the text of the page."""
    parts = [INTRODUCTION, TRAINING]
    top_level = []
    for name, field in TrainingConfig.model_fields.items():
        if isinstance(field.default, BaseModel):
            section = type(field.default)
            parts.append(f"### {name}\n\n{sentence(field.description)}\n")
            parts.append(HEADER + rows(section, f"{name}."))
            if section is ModelConfig:
                parts += network_options()
        else:
            top_level.append(name)
    parts.append("### Keys outside sections\n")
    parts.append(HEADER + rows(TrainingConfig, names=top_level))
    parts += [SCHEDULES, HEADER + rows(ScheduleConfig), LEVELS, HEADER + rows(LevelConfig)]
    parts += [DYNAMICS, HEADER + rows(MDProtocol)]
    return "\n".join(parts)


def network_options() -> list[str]:
    """Return a heading and a table for each set of networks that have the same options."""
    tables: dict[str, list[str]] = {}
    for network in map(registered_network, registered_networks()):
        if network.energy.__module__.startswith("piwsl."):
            tables.setdefault(rows(network.options, "model."), []).append(f"`{network.name}`")
    return [f"Options of {', '.join(names)}:\n\n{HEADER}{table}" for table, names in tables.items()]


def rows(model: type[BaseModel], prefix: str = "", names: list[str] | None = None) -> str:
    """Return the lines of the table of a model, each of its fields or those in ``names``."""
    schema = model.model_json_schema()
    lines = []
    for name, field in model.model_fields.items():
        if names is None or name in names:
            kind = type_of(schema["properties"][name])
            default = "required" if field.is_required() else f"`{value_of(field.default)}`"
            lines.append(f"| `{prefix}{name}` | {kind} | {default} | {(field.description or '').rstrip('.')} |\n")
    return "".join(lines)


def type_of(schema: dict[str, Any]) -> str:
    """Return the type that a JSON schema describes, in words, with its limits."""
    if "$ref" in schema:
        return NAMED_TYPES[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        return " or ".join("empty" if part.get("type") == "null" else type_of(part) for part in schema["anyOf"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema["type"] == "array":
        return f"list of {type_of(schema['items'])}"
    if schema["type"] == "object":
        return f"mapping of text to {type_of(schema['additionalProperties'])}"
    if schema.get("format") == "path":
        return "path"
    return PLAIN_TYPES[schema["type"]] + limits(schema)


def limits(schema: dict[str, Any]) -> str:
    """Return the limits of a number in words, empty where there are none."""
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    parts = [f"{sign} {plain(schema[key])}" for key, sign in signs.items() if key in schema]
    if "multipleOf" in schema:
        parts.append(f"multiple of {schema['multipleOf']}")
    return f" {', '.join(parts)}" if parts else ""


def plain(number: float) -> str:
    """Return a number without an exponent or a trailing ``.0``."""
    return str(int(number)) if number == int(number) else str(number)


def value_of(value: Any) -> str:
    """Return a value as YAML spells it."""
    if value is None:
        return "null"
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def sentence(text: str | None) -> str:
    """Return a description as a sentence."""
    return f"{text[0].upper()}{text[1:].rstrip('.')}." if text else ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
