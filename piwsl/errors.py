"""Errors that a user can cause. Each message is one line: what is wrong, where, and what to do."""

import errno
import inspect
import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin

_P = ParamSpec("_P")
_R = TypeVar("_R")

_LONGEST = 200  # characters; longer texts are reduced to their first line and shortened
FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


def reason_of(error: BaseException) -> str:
    """Describe an exception from another library in one line, for use in an error message.

    Returns:
        The system's message for an `OSError`; for other exceptions, the joined lines of a short message, the first line
        of a long message, or the name of the type if there is no message.
    """
    if isinstance(error, OSError) and error.strerror:
        return shortened(printable(error.strerror))
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, KeyError) and len(error.args) == 1:  # str() would put quotes around a message
        text = str(error.args[0])
        return shortened(printable(text)) if " " in text else f"no entry {quoted(text)}"
    joined = " ".join(str(error).split())
    if len(joined) <= _LONGEST:
        return shortened(printable(joined)) or type(error).__name__
    return shortened(printable(next(line.strip() for line in str(error).splitlines() if line.strip())))


# Messages of PyTorch, and of the loader of shared libraries, which is an ImportError.
_NO_MEMORY = ("can't allocate memory", "cannot allocate memory", "failed to map segment", "std::bad_alloc")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception of Python or of a library means that the process has no memory left."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(part in text for part in _NO_MEMORY)


def quoted(value: object, longest: int = 60) -> str:
    """Return a value from a file in quotes, shortened and without control characters, for use in a message."""
    text = value if isinstance(value, str) else " ".join(repr(value).split())
    return repr(shortened(text, longest))


def shortened(text: str, longest: int = _LONGEST) -> str:
    """Shorten a text to at most ``longest`` characters; an ellipsis replaces the end."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def printable(text: str) -> str:
    r"""Escape the characters of a text that would change the state of a terminal.

    Control and direction characters become escapes such as ``\x1b``; line breaks and tabs are kept.
    """
    if text.isprintable():
        return text
    return "".join(
        repr(character)[1:-1] if unicodedata.category(character) in _UNSAFE and character not in "\n\t" else character
        for character in text
    )


_UNSAFE = ("Cc", "Cf", "Cs")  # control characters, direction marks, surrogates from names that are not UTF-8


def not_a_file(path: str | os.PathLike[str]) -> str:
    """Describe a path that is no regular file, for use in an error message."""
    if os.path.isdir(path):
        reason = "a directory, not a file"
    elif os.path.exists(path):  # reading a pipe or a device might never end
        reason = "not a regular file"
    elif os.path.islink(path):
        reason = f"a link to {os.readlink(path)}, which does not exist"
    else:
        reason = "no such file"
    return f"{os.fspath(path) or repr('')}: {reason}"


class PiwslError(Exception):
    """Base class of the errors that the command line prints as one line (exit code 2)."""

    def __str__(self) -> str:
        # Values in messages, such as arrays, may have several lines.
        return re.sub(r"\s*\n\s*", " ", printable(super().__str__()))


class DataError(PiwslError):
    """A data file, a structure or a set of labels cannot be used."""


class ConfigError(PiwslError):
    """An option or a configuration key is unknown or out of range."""


class ModelFileError(PiwslError):
    """A trained or exported model file is missing, damaged, or was not written by piwsl."""


class UnregisteredNetworkError(ModelFileError):
    """A trained file names a network that no imported module has registered."""


class ElementError(PiwslError):
    """A structure contains an element that the model does not support."""


class ExportError(PiwslError):
    """An exported form disagrees with the eager model, or cannot be created."""


class RunDirectoryError(PiwslError):
    """A run directory contains another run, cannot be written, or cannot be resumed."""


class SystemFailureError(PiwslError):
    """A system call failed and no other error explains the failure, such as writing to a full disk."""


class EngineError(PiwslError):
    """A molecular dynamics engine cannot run the requested simulation."""


class MissingDependencyError(PiwslError):
    """An optional library is not installed; the message gives the install line."""

    def __init__(self, library: str, purpose: str, extra: str) -> None:
        super().__init__(f"{purpose} needs {library}, which is not installed: pip install 'piwsl[{extra}]'")


class UnphysicalError(PiwslError):
    """A molecular dynamics run became unphysical and was stopped (exit code 3)."""


@contextmanager
def system_errors() -> Iterator[None]:
    """Convert an `OSError` within the block into a one-line error.

    Raises:
        SystemFailureError: A system call failed.
    """
    try:
        yield
    except BrokenPipeError:  # the reader of the output has ended
        raise
    except OSError as error:
        raise system_failure(error) from error


def public(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Convert errors about system calls and types of arguments into one-line errors; decorator of public functions.

    Arguments are compared with their annotations only after a call has failed, so that whatever works is accepted.
    """

    @wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            with system_errors():
                return function(*args, **kwargs)
        except (TypeError, AttributeError) as error:
            text = _wrong_argument(function, args, kwargs)
            if text is None:
                raise
            raise ConfigError(text) from error

    return call


def _wrong_argument(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """Describe the first argument whose type contradicts its annotation; None if there is none."""
    try:
        signature = inspect.signature(function, eval_str=True)
    except NameError:  # a name that is imported for type checkers only
        signature = inspect.signature(function)
    try:
        given = signature.bind(*args, **kwargs).arguments
    except TypeError:  # an argument is missing, which the error of Python names
        return None
    for name, value in given.items():
        annotation = signature.parameters[name].annotation
        if not _fits(value, annotation):
            expected = re.sub(r"\b(\w+\.)+", "", inspect.formatannotation(annotation))
            return f"{name} is {quoted(value)}, of type {type(value).__name__}: pass {expected}"
    return None


def _fits(value: Any, annotation: Any) -> bool:
    """Return whether a value may have an annotated type. Unknown kinds of annotations fit."""
    kind, options = get_origin(annotation) or annotation, get_args(annotation)
    if kind in (Union, UnionType):
        return any(_fits(value, option) for option in options)
    if kind in (None, NoneType):
        return value is None
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real)
    if not isinstance(kind, type) or kind is inspect.Parameter.empty:
        return True
    if kind is Sequence:
        items = hasattr(value, "__len__") and not isinstance(value, str | bytes)
        return items and all(_fits(item, options[0]) for item in value if options)
    try:
        return isinstance(value, kind)
    except TypeError:  # a protocol that cannot be checked
        return True


def system_failure(error: OSError) -> SystemFailureError:
    """Convert an `OSError` into a one-line error that names the file."""
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes | os.PathLike) else ""
    advice = ": make room, then try again" if error.errno in FULL else ""
    return SystemFailureError(f"{name or 'the operating system'}: {reason_of(error)}{advice}")
