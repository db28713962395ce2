"""Errors that a user can cause. Each carries one line: what is wrong, where, and what to do."""

import unicodedata

_LONGEST = 200  # characters of a text whose lines are joined


def reason_of(error: BaseException) -> str:
    """Describe an exception of another library in one line, to be quoted in a message of piwsl.

    Returns:
        The text of the operating system for an `OSError` that has one, else the lines of a short text joined, or the
        first line of a long one, else the name of the type.
    """
    if isinstance(error, OSError) and error.strerror:
        return " ".join(error.strerror.split())
    if isinstance(error, KeyError) and len(error.args) == 1:  # str() would put quotes around a message
        text = str(error.args[0])
        return " ".join(text.split()) if " " in text else f"no entry {text!r}"
    joined = " ".join(str(error).split())
    if len(joined) <= _LONGEST:
        return joined or type(error).__name__
    return next(line.strip() for line in str(error).splitlines() if line.strip())


def printable(text: str) -> str:
    r"""Return a text that a terminal shows as it is: names in files may contain control sequences.

    Control and direction characters become escapes such as ``\x1b``; line breaks and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(
        repr(character)[1:-1] if unicodedata.category(character) in _UNSAFE and character not in "\n\t" else character
        for character in text
    )


_UNSAFE = ("Cc", "Cf", "Cs")  # control characters, direction marks, surrogates of names that are not UTF-8


class PiwslError(Exception):
    """Base of every error that the command line prints as one line (exit code 2)."""

    def __str__(self) -> str:
        return printable(super().__str__())


class DataError(PiwslError):
    """A data file, a structure or a set of labels cannot be used."""


class ConfigError(PiwslError):
    """An option or a configuration key is unknown or out of range."""


class ModelFileError(PiwslError):
    """A trained or exported model file is missing, damaged, or not a file of piwsl."""


class UnregisteredNetworkError(ModelFileError):
    """A trained file names a network that no imported module has registered."""


class ElementError(PiwslError):
    """A structure contains an element that the model does not support."""


class ExportError(PiwslError):
    """An exported form disagrees with the eager model, or cannot be created."""


class RunDirectoryError(PiwslError):
    """A run directory contains another run, cannot be written, or cannot be resumed."""


class EngineError(PiwslError):
    """A molecular dynamics engine cannot run the requested simulation."""


class MissingDependencyError(PiwslError):
    """An optional library is not installed; the message gives the install line."""

    def __init__(self, library: str, purpose: str, extra: str) -> None:
        super().__init__(f"{purpose} needs {library}, which is not installed: pip install 'piwsl[{extra}]'")


class UnphysicalError(PiwslError):
    """A molecular dynamics run became unphysical and was stopped (exit code 3)."""
