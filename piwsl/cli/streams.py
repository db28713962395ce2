"""The standard streams of a command."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress


@contextmanager
def usable_streams() -> Iterator[None]:
    """Make the standard streams usable within the block.

    - A closed stream becomes the null device. Otherwise, the next opened file would get its number, and messages of
      libraries would be written to this file.
    - Characters of the output that the encoding does not contain are replaced by escapes.
    """
    with ExitStack() as stack:
        if not _is_open(0) or not _is_open(1) or not _is_open(2):
            _occupy()
        if sys.stdout is None:
            null = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(redirect_stdout(null))
        if sys.stderr is None:
            null = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(redirect_stderr(null))
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
                stream.reconfigure(errors="backslashreplace")
        yield


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _occupy() -> None:
    """Open the null device until the numbers of the standard streams are in use."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)


def discard_output() -> None:
    """Write what the streams still contain to the null device, so that the interpreter reports no error at its end."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
            continue
        with suppress(OSError, ValueError):
            os.dup2(null, stream.fileno())
    os.close(null)
