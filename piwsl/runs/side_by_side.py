"""Run a few long tasks side by side, each in a process with one thread, and end all of them together.

`piwsl.runs.executors` is for many tasks whose results are returned.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for_any
from typing import Any

from piwsl.errors import PiwslError
from piwsl.runs.executors import end_with_parent
from piwsl.runs.process_settings import environment_variable

POLL = 0.5  # s between two polls


def run_side_by_side(
    function: Callable[..., None],
    tasks: Sequence[tuple[Any, ...]],
    workers: int,
    waiting: Callable[[], None] | None = None,
) -> None:
    """Call ``function(*task)`` for every task, in at most ``workers`` processes at a time.

    If a task fails, or if this process is interrupted, the other processes are terminated.

    Args:
        function: Function that other processes can import by name.
        tasks: Arguments of each call.
        workers: Largest number of simultaneous processes.
        waiting: Function called about twice a second.

    Raises:
        Exception: A task raised this exception.
        KeyboardInterrupt: A signal interrupted a task.
        PiwslError: The process of a task died.
    """
    context = get_context("spawn")
    queue = list(tasks)
    running: dict[Any, Any] = {}  # processes by connection
    try:
        while queue or running:
            while queue and len(running) < workers:
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=_call, args=(function, queue.pop(0), sender))
                # The processes inherit the variable.
                with environment_variable("OMP_NUM_THREADS", "1"):
                    process.start()
                sender.close()
                running[receiver] = process
            ready = wait_for_any(list(running), timeout=POLL)
            for receiver in [connection for connection in running if connection in ready]:
                error = _outcome(receiver)
                running.pop(receiver).join()
                if error is not None:
                    raise error
            if waiting:
                waiting()
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.join()


def _outcome(receiver: Any) -> BaseException | None:
    try:
        outcome: BaseException | None = receiver.recv()
    except EOFError:
        return PiwslError("a process died (out of memory, or a crash): run again with fewer workers")
    return outcome


def _call(function: Callable[..., None], task: tuple[Any, ...], sender: Connection) -> None:
    end_with_parent()
    try:
        function(*task)
    except (Exception, KeyboardInterrupt) as error:  # passed on to the parent, which may have ended
        with suppress(OSError):
            sender.send(error)
    else:
        sender.send(None)
