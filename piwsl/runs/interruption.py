"""Interruption of runs: SIGTERM, SIGHUP and Ctrl-C are recorded, and the run ends after the current block of steps."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


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
