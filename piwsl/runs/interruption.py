"""Interruption by SIGTERM, SIGHUP and Ctrl-C.

A run records the signal and ends after the current block of steps (`polite_interruption`). Elsewhere, a signal ends the
command by an exception, so that no temporary files remain (`signals_as_exceptions`, `uninterrupted`).
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_NAMES = ("SIGHUP", "SIGTERM", "SIGINT")  # Windows has no SIGHUP
_NUMBERS = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]


class SignalInterrupt(KeyboardInterrupt):
    """A signal ends the command.

    If a plain KeyboardInterrupt passes through code that `exec` runs, as during many imports, the interpreter ends
    itself by SIGINT instead of returning the exit code.
    """


class Interruption:
    """Record of whether an interruption was requested."""

    def __init__(self) -> None:
        self.requested = False

    def request(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal by recording the request; a second Ctrl-C ends the process immediately."""
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True


@contextmanager
def signals_as_exceptions() -> Iterator[Interruption]:
    """Raise SignalInterrupt within the block on SIGTERM, SIGHUP and SIGINT; main thread only.

    An ignored signal stays ignored, such as SIGHUP under `nohup`.

    Yields:
        Record of whether a signal arrived. A library may have replaced the exception by another one.
    """
    interruption = Interruption()

    def interrupt(number: int, frame: FrameType | None) -> None:
        interruption.requested = True
        raise SignalInterrupt

    with _handled_by(interrupt):
        yield interruption


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay SIGTERM, SIGHUP and SIGINT until the end of the block, which must be short; main thread only."""
    arrived: list[int] = []
    try:
        with _handled_by(lambda number, frame: arrived.append(number)):
            yield
    finally:
        if arrived:
            signal.raise_signal(arrived[0])


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Install a handler within the block for the signals that are not ignored; main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _NUMBERS}
    # None means a handler that was not installed by Python, which cannot be restored.
    saved: dict[int, signal._HANDLER] = {
        number: former for number, former in before.items() if former not in (signal.SIG_IGN, None)
    }
    for number in saved:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, former in saved.items():
            signal.signal(number, former)


@contextmanager
def hangup_as_termination() -> Iterator[None]:
    """Treat SIGHUP, which a closing terminal sends, as SIGTERM within the block.

    The block has no effect outside the main thread. If SIGHUP is ignored, for instance under `nohup`, it stays ignored.
    """
    hangup = getattr(signal, "SIGHUP", None)  # not on Windows
    in_main = threading.current_thread() is threading.main_thread()
    if hangup is None or not in_main or signal.getsignal(hangup) == signal.SIG_IGN:
        yield
        return
    saved = signal.signal(hangup, lambda number, frame: signal.raise_signal(signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(hangup, saved)


@contextmanager
def default_termination() -> Iterator[None]:
    """Let SIGTERM end the process at once within the block; main thread only.

    A process that waits for another process in gloo or NCCL never runs a handler in Python.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    saved = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, saved)


@contextmanager
def polite_interruption() -> Iterator[Interruption]:
    """Record SIGTERM, SIGHUP and SIGINT within the block instead of ending the process; main thread only."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    saved = {number: signal.signal(number, interruption.request) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with hangup_as_termination():
            yield interruption
    finally:
        for number, handler in saved.items():
            signal.signal(number, handler)
