"""Errors that a user can cause. Each carries one line: what is wrong, where, and what to do."""

_LONGEST = 200  # characters of a text whose lines are joined, and of a quoted one


def reason_of(error: BaseException) -> str:
    """Describe an exception of another library in one line, to be quoted in a message of piwsl.

    Returns:
        The text of the operating system for an `OSError` that has one, else the lines of a short text joined, or the
        first line of a long one, else the name of the type.
    """
    if isinstance(error, OSError) and error.strerror:
        return _shortened(error.strerror)
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, KeyError) and len(error.args) == 1:  # str() would put quotes around a message
        text = str(error.args[0])
        return _shortened(text) if " " in text else f"no entry {quoted(text)}"
    joined = " ".join(str(error).split())
    if len(joined) <= _LONGEST:
        return _shortened(joined) or type(error).__name__
    return _shortened(next(line for line in str(error).splitlines() if line.strip()))


def quoted(value: object, longest: int = 60) -> str:
    """Return a value from a file for a message: in quotes, shortened, without control characters."""
    text = value if isinstance(value, str) else " ".join(repr(value).split())
    return repr(text if len(text) <= longest else f"{text[:longest]}...")


def _shortened(text: str) -> str:
    joined = " ".join(text.split())
    printable = "".join(character if character.isprintable() else "?" for character in joined[: _LONGEST + 1])
    return printable if len(printable) <= _LONGEST else f"{printable[:_LONGEST]}..."


class PiwslError(Exception):
    """Base of every error that the command line prints as one line (exit code 2)."""


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
