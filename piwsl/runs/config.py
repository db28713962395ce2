"""Configurations: YAML files and options, validated with a pydantic model that reports errors in one line."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, ValidationError
from pydantic.fields import FieldInfo

from piwsl.errors import ConfigError, reason_of, shortened

Model = TypeVar("Model", bound=BaseModel)

LARGEST_COUNT = 10**12  # steps, frames or validations; no job can have more
LARGEST_SEED = 2**31 - 1
Count = Annotated[int, Field(le=LARGEST_COUNT)]  # a number of things, whose lower limit the field states
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]

LARGEST_CONFIG = 2**20  # bytes
_MOST_VALUES, _DEEPEST, _MOST_DIGITS = 20_000, 50, 1000
_SHOWN = 60  # longest value or key in a message, characters


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file that contains a mapping with text keys at every level; an empty file gives an empty mapping.

    Raises:
        ConfigError: The file is missing, is not valid YAML, or does not contain such a mapping.
    """
    try:
        with path.open("rb") as stream:
            text = stream.read(LARGEST_CONFIG + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read ({reason_of(error)})") from None
    if len(text) > LARGEST_CONFIG:
        raise ConfigError(f"{path}: larger than {LARGEST_CONFIG // 1024} kB: not a configuration")
    content = _loaded(text, path)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected keys with values, not {_kind(content)}")
    _check_keys(content, path, "")
    return content


class _ConfigLoader(yaml.SafeLoader):
    """Safe loader that reports a key that occurs twice in a mapping, and limits merge keys and the length of integers.

    The loader of PyYAML expands merge keys (``<<``) before any value can be counted: a few lines with aliases of
    aliases would fill the memory.
    """

    _merged = 0  # pairs that merge keys have copied

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Replace the merge keys of a mapping by the pairs to which they refer."""
        for key, value in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                for member in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if isinstance(member, yaml.MappingNode):
                        self.flatten_mapping(member)
                        self._merged += len(member.value)
                    if self._merged > _MOST_VALUES:
                        raise yaml.constructor.ConstructorError(
                            None, None, f"merge keys add more than {_MOST_VALUES} values", key.start_mark
                        )
        super().flatten_mapping(node)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Return an integer."""
        if len(node.value) > _MOST_DIGITS:  # Python refuses to print longer ones, and so to name them in a message
            raise yaml.constructor.ConstructorError(
                None, None, f"a number of more than {_MOST_DIGITS} digits", node.start_mark
            )
        return int(super().construct_yaml_int(node))

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key {key.value!r} occurs twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_ConfigLoader.add_constructor("tag:yaml.org,2002:int", _ConfigLoader.construct_yaml_int)


def _loaded(text: bytes, path: Path) -> Any:
    """Parse YAML with limits on the number of values and levels.

    Raises:
        ConfigError: The text is not valid YAML, or exceeds a limit.
    """
    try:
        content = yaml.load(text.decode("utf-8-sig"), Loader=_ConfigLoader)
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = shortened(" ".join((error.problem or "unreadable").split()))
        raise ConfigError(f"{path}: not valid YAML: {problem}{line}") from None
    except RecursionError:
        raise ConfigError(f"{path}: not valid YAML: more than {_DEEPEST} levels") from None
    except Exception as error:  # constructors of dates, numbers and tags raise many types
        raise ConfigError(f"{path}: not valid YAML: {reason_of(error)}") from None
    if _values(content, _DEEPEST) > _MOST_VALUES:
        raise ConfigError(f"{path}: more than {_MOST_VALUES} values or {_DEEPEST} levels: not a configuration")
    return content


def _values(content: Any, levels: int, left: int = 0) -> int:
    """Count values, including each use of an alias; counting stops above the limit."""
    if levels < 0:
        return _MOST_VALUES + 1
    inner = [*content, *content.values()] if isinstance(content, dict) else content
    if not isinstance(inner, list | tuple | set):
        return left + 1
    count = left + 1
    for item in inner:
        count = _values(item, levels - 1, count)
        if count > _MOST_VALUES:
            break
    return count


def _check_keys(content: Any, path: Path, prefix: str) -> None:
    if isinstance(content, dict):
        for key, value in content.items():
            if not isinstance(key, str):
                where = f" in {prefix.removesuffix('.')}" if prefix else ""
                raise ConfigError(
                    f"{path}: the key {shortened(repr(key), _SHOWN)}{where} is not text: put the key in quotes"
                )
            _check_keys(value, path, f"{prefix}{key}.")
    elif isinstance(content, list):
        for item in content:
            _check_keys(item, path, prefix)
    elif isinstance(content, str) and "\0" in content:
        raise ConfigError(f"{path}: {prefix.removesuffix('.')} contains a NUL character: remove the character")


def _kind(content: Any) -> str:
    return "a list" if isinstance(content, list) else f"the value {shortened(repr(content), _SHOWN)}"


def with_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return nested values after applying overrides such as ``section.key=value``.

    Raises:
        ConfigError: An override has no equals sign.
    """
    result = dict(values)
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise ConfigError(f"override {override!r}: write section.key=value")
        nested: Any = _scalar(text)
        for name in reversed(key.split(".")):
            nested = {name: nested}
        result = merged(result, nested)
    return result


def merged(values: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested values merged with new values, which take precedence."""
    result = dict(values)
    for key, value in new.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def _scalar(text: str) -> Any:
    """Parse a value as YAML; numbers such as 1e-3, which YAML 1.1 treats as text, become numbers."""
    try:
        value = yaml.load(text, Loader=_ConfigLoader)
    except Exception:  # constructors of dates, numbers and tags raise many types
        return text
    if _values(value, _DEEPEST) > _MOST_VALUES:
        raise ConfigError(f"{shortened(repr(text), _SHOWN)}: too many values for an option")
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def validate(model: type[Model], values: Mapping[str, Any], where: str = "", section: str = "") -> Model:
    """Validate values with a pydantic model.

    Args:
        model: Class of the configuration.
        values: Nested values.
        where: Source of the values, such as a file name, at the beginning of messages.
        section: Name of the section that the model describes; empty for the whole configuration.

    Raises:
        ConfigError: A value is invalid. The one-line message names the key, the problem, and the most similar known
            key.
    """
    prefix = f"{where}: " if where else ""
    try:
        validated = model.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(prefix + _explain(model, error, values, f"{section}." if section else "")) from None
    if key := _truth_as_number(values, validated):
        raise ConfigError(f"{prefix}{section}{'.' if section else ''}{key} is true or false: give a number")
    return validated


def _truth_as_number(given: Any, validated: Any) -> str:
    """Return the key of a truth value that pydantic has converted to 0 or 1; empty if there is none."""
    if isinstance(given, Mapping):
        for key, value in given.items():
            found = validated.get(key) if isinstance(validated, Mapping) else getattr(validated, str(key), None)
            if isinstance(value, bool) and isinstance(found, int | float) and not isinstance(found, bool):
                return str(key)
            if below := _truth_as_number(value, found):
                return f"{key}.{below}"
    return ""


def load(
    model: type[Model], path: Path | None, overrides: Sequence[str] = (), base: Mapping[str, Any] | None = None
) -> Model:
    """Read a configuration file and apply overrides such as ``section.key=value``.

    Args:
        model: Class of the configuration.
        path: YAML file. With None, all keys have their defaults.
        overrides: Values of single keys, which take precedence over the file.
        base: Nested values by section and key. The file takes precedence over them.

    Raises:
        ConfigError: The file does not contain a YAML mapping, a key is unknown, or a value is out of range.
    """
    values = merged(base or {}, read_mapping(path) if path is not None else {})
    return validate(model, with_overrides(values, overrides), str(path) if path else "options")


def _explain(model: type[BaseModel], error: ValidationError, values: Mapping[str, Any], section: str) -> str:
    errors = error.errors()
    # A union causes an error for each branch; an unknown key in a branch is the most specific error.
    first = next((item for item in errors if item["type"] == "extra_forbidden"), errors[0])
    parts = [shortened(" ".join(part.split()), _SHOWN) for part in _key_parts(first["loc"], values)]
    key = section + ".".join(parts)
    if first["type"] == "extra_forbidden":
        return f"unknown key {key}: {_hint(model, parts, section)}"
    message = first["msg"].removeprefix("Value error, ")
    message = message.replace("Input should", "it must").replace("greater than or equal to", "at least")
    message = message.replace("less than or equal to", "at most")
    message = message[:1].lower() + message[1:]
    if first["type"] in ("missing", "value_error") and not isinstance(first["input"], str | int | float):
        return f"{key}: {message}" if key else message
    return f"{key} = {shortened(repr(first['input']), _SHOWN)}: {shortened(message)}"


def _key_parts(location: Sequence[int | str], values: Any) -> list[str]:
    """Return the keys in the location of a pydantic error, without the names of union branches."""
    parts = []
    for position, part in enumerate(location):
        if isinstance(values, Mapping):
            last = position == len(location) - 1
            if part not in values and not last:
                continue
            values = values.get(part)
        elif isinstance(values, list | tuple) and isinstance(part, int) and part < len(values):
            values = values[part]
        else:
            continue
        parts.append(str(part))
    return parts


def _hint(model: type[BaseModel], parts: list[str], section: str) -> str:
    """Return a suggestion for an unknown key."""
    siblings = _fields_of(model, parts[:-1])
    parent = "".join(f"{part}." for part in parts[:-1])
    american = _american(parts[-1])
    if american in siblings:
        return f"it is now {section}{parent}{american}"
    near = get_close_matches(parts[-1], siblings, n=1)
    if near:
        return f"did you mean {section}{parent}{near[0]}?"
    known = [key for key in _all_keys(model) if f"{key}." != parent]
    same_name = [key for key in known if key.rpartition(".")[2] == american]
    near = same_name or (get_close_matches(american, known, n=1) if not parent else [])
    return f"did you mean {section}{near[0]}?" if near else f"known keys are {', '.join(siblings)}"


def _american(name: str) -> str:
    """Return the American spelling of a key; earlier versions used British spelling."""
    spellings = {
        "neighbour": "neighbor",  # codespell:ignore
        "optimis": "optimiz",
        "minimis": "minimiz",
        "labell": "label",
    }
    for british, american in spellings.items():
        name = name.replace(british, american)
    return name


def _fields_of(model: type[BaseModel], parts: Sequence[str]) -> list[str]:
    """Return the field names of the section at a key."""
    annotation: Any = model
    for part in parts:
        for candidate in _alternatives(annotation):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel) and part in candidate.model_fields:
                annotation = candidate.model_fields[part].annotation
                break
            if get_origin(candidate) is dict:
                annotation = get_args(candidate)[1]
                break
    for candidate in _alternatives(annotation):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return list(candidate.model_fields)
    return list(model.model_fields)


def _alternatives(annotation: Any) -> list[Any]:
    """Return the member types of a union, or the type inside an annotation."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [inner for member in get_args(annotation) for inner in _alternatives(member)]
    return [annotation]


def _all_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _all_keys(field.annotation, f"{prefix}{name}.")


def described_fields(section: BaseModel) -> dict[str, tuple[Any, str]]:
    """Return the value and the description of each key of a section, with the allowed values of enumerated keys."""
    fields = type(section).model_fields
    return {key: (getattr(section, key), _described(field)) for key, field in fields.items()}


def commented_yaml(
    model: type[BaseModel], described: Callable[[BaseModel], Mapping[str, tuple[Any, str]]] = described_fields
) -> str:
    """Return the default values of a configuration as YAML, with a comment that describes each key.

    Args:
        model: Class of the configuration, whose fields are sections or single keys.
        described: Function that returns the value and the description of each key of a section.
    """
    lines: list[str] = []
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel):
            lines.append(f"\n# {field.description}\n{name}:")
            for key, (value, description) in described(field.default).items():
                lines.append(f"  {key}: {_yaml_value(value)}  # {description}")
        else:
            lines.append(f"\n{name}: {_yaml_value(field.default)}  # {_described(field)}")
    return "\n".join(lines).lstrip("\n") + "\n"


def _described(field: FieldInfo) -> str:
    choices = f" (one of {', '.join(get_args(field.annotation))})" if get_origin(field.annotation) is Literal else ""
    return f"{field.description or ''}{choices}"


def _yaml_value(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {part}' for key, part in value.items())}}}"
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def to_yaml(config: BaseModel) -> str:
    """Return a configuration as YAML."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
