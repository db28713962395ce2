"""Interruption: SIGTERM and Ctrl-C are recorded, and the run ends at the next block of steps."""

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
def polite_interruption() -> Iterator[Interruption]:
    """Record SIGTERM and SIGINT within the block instead of ending; in threads other than the main one, do nothing."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    saved = {number: signal.signal(number, interruption.request) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield interruption
    finally:
        for number, handler in saved.items():
            signal.signal(number, handler)
