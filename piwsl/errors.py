"""Errors that a user can cause. Each message is one line: what is wrong, where, and what to do."""

import errno
import os
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

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


class PiwslError(Exception):
    """Base class of the errors that the command line prints as one line (exit code 2)."""

    def __str__(self) -> str:
        return printable(super().__str__())


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
    """Convert an `OSError` that reaches a public function into a one-line error.

    Every function that users call has the decorator ``@system_errors()``.

    Raises:
        SystemFailureError: A system call failed.
    """
    try:
        yield
    except BrokenPipeError:  # the reader of the output has ended
        raise
    except OSError as error:
        raise system_failure(error) from error


def system_failure(error: OSError) -> SystemFailureError:
    """Convert an `OSError` into a one-line error that names the file."""
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes | os.PathLike) else ""
    advice = ": make room, then try again" if error.errno in FULL else ""
    return SystemFailureError(f"{name or 'the operating system'}: {reason_of(error)}{advice}")
