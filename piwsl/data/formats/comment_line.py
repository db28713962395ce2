"""The comment line of a frame in extended XYZ: names with values, in the syntax of ASE."""

import json
import re
from typing import Any

import numpy as np

from piwsl.data.charges import NAMES
from piwsl.data.names import label_of
from piwsl.errors import quoted
from piwsl.runs.untrusted import parse_json

# Other programs write these names in other letters: GPUMD in lower case, KLIFF with PBC.
_NAMES = {"lattice": "Lattice", "properties": "Properties", "pbc": "pbc"}
_OTHER_LETTERS = re.compile(r"\b(?!(?-i:Lattice|Properties|pbc)\b)(?:lattice|properties|pbc)\b", re.IGNORECASE)
TRUTH = {"T": True, "F": False, "true": True, "false": False, "True": True, "False": False}
TRUTH |= {"TRUE": True, "FALSE": False}
# A key, and its value after an equals sign. Both may contain quotes, brackets and escaped characters.
# An unclosed quote or bracket ends with the line, so that matching takes linear time.
_PART = (
    r"""(?:\\(?:.|\Z)|'[^']*(?:'|\Z)|"(?:\\(?:.|\Z)|[^"\\])*(?:"|\Z)|\{[^}]*(?:\}|\Z)|\[[^\]]*(?:\]|\Z)"""
    r"""|[^\s='"{\[\\])"""
)
_PAIR = re.compile(rf"({_PART}+)(?:\s*=\s*((?:{_PART}|(?<!\s)=)*))?", re.DOTALL)
_QUOTES = re.compile(
    r"""\\(.|\Z)|'([^']*)(?:'|\Z)|"((?:\\(?:.|\Z)|[^"\\])*)(?:"|\Z)|\{([^}]*)(?:\}|\Z)|\[([^\]]*)(?:\]|\Z)""", re.DOTALL
)


def with_names(comment: str) -> str:
    """Return a comment line with the names of the format in the letters that ASE reads.

    Raises:
        ValueError: A name occurs in two ways.
    """
    if _OTHER_LETTERS.search(comment) is None:
        return comment
    parts: list[str] = []
    found: dict[str, str] = {}
    end = 0
    for match in _PAIR.finditer(comment):
        name = _NAMES.get(match[1].lower()) if match[2] is not None else None
        if name is None:
            continue
        if found.setdefault(name, match[1]) != match[1]:
            raise ValueError(f"has {quoted(found[name])} and {quoted(match[1])}: keep one of them")
        parts += [comment[end : match.start(1)], name]
        end = match.end(1)
    return "".join([*parts, comment[end:]])


def parse_comment(comment: str) -> dict[str, Any]:
    """Parse the comment line of a frame into names and values, as ASE does.

    Raises:
        ValueError: A value that calls itself JSON is not, or a label, cell or charge has two values.
    """
    values: dict[str, Any] = {}
    texts: dict[str, str] = {}
    for match in _PAIR.finditer(comment):
        key = _QUOTES.sub(_unquoted, match[1])
        value = match[2]
        if value is not None and texts.setdefault(key, value) != value and _matters(key):
            raise ValueError(
                f"{quoted(key)} has two values, {quoted(texts[key])} and {quoted(value)}: keep one of them"
            )
        values[key] = True if value is None else _value(_QUOTES.sub(_unquoted, value))
    return values


def _matters(name: str) -> bool:
    """Return whether a name belongs to a label, the structure or the charge."""
    return label_of(name) is not None or name in (*_NAMES.values(), *NAMES)


def _unquoted(match: re.Match[str]) -> str:
    text = next(part for part in match.groups() if part is not None)
    return re.sub(r"\\(.)", r"\1", text) if match[3] is not None else text


def _value(text: str) -> Any:
    """Return a number, an array of numbers, truth values, JSON, or the text."""
    words = re.findall(r"[^\s,]+", text)
    for kind in (int, float):
        try:
            numbers = np.array([kind(word) for word in words])
        except (ValueError, OverflowError):
            continue
        if numbers.size and numbers.dtype.kind in "if":
            return numbers[0] if len(numbers) == 1 else numbers
    if words and all(word in TRUTH for word in words):
        truth = [TRUTH[word] for word in words]
        return truth[0] if len(truth) == 1 else truth
    if text.startswith("_JSON "):
        try:
            document = parse_json(text.removeprefix("_JSON "))
        except json.JSONDecodeError as error:
            raise ValueError(f"JSON: {error}") from None
        try:
            array = np.array(document)
        except ValueError:
            return document
        return array if array.dtype.kind in "ifb" else document
    return text
