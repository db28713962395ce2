"""Interruption: SIGTERM, SIGHUP and Ctrl-C are recorded, and the run ends at the next block of steps."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interruption:
    """Whether an interruption was requested."""

    def __init__(self) -> None:
        self.requested = False

    def request(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: record it; a second Ctrl-C ends the process at once."""
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True


@contextmanager
def hangup_as_termination() -> Iterator[None]:
    """Treat SIGHUP, which a closed terminal sends, as SIGTERM within the block.

    In threads other than the main one, do nothing. A SIGHUP that is ignored, as `nohup` arranges, stays ignored.
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
    """Record SIGTERM, SIGHUP and SIGINT within the block instead of ending; only in the main thread."""
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
