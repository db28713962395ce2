"""Executors that run tasks in parallel: local processes here, a Dask cluster in `piwsl.runs.dask_cluster`."""

import os
import signal
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for_any
from threading import Thread
from typing import Any, Protocol, TypeAlias

from piwsl.runs.process_settings import environment_variable

Task: TypeAlias = tuple[int, tuple[Any, ...]]  # position in the list of tasks, arguments of the function
POLL = 0.5  # s between two polls


@dataclass(frozen=True)
class Outcome:
    """Outcome of a task.

    Attributes:
        index: Position in the list of tasks.
        value: Return value of the function.
        died: Reason why the process of the task died; None if the task completed.
    """

    index: int
    value: Any = None
    died: str | None = None


class Executor(Protocol):
    """Interface of an executor, which calls a function for many arguments in parallel."""

    def run(
        self,
        function: Callable[..., Any],
        tasks: Iterable[tuple[Any, ...]],
        waiting: Callable[[], None] | None = None,
    ) -> Iterator[Outcome]:
        """Call ``function(*task)`` for every task and yield the outcomes in the order of completion.

        Args:
            function: Function that other processes can import by name.
            tasks: Arguments of each call, read as needed.
            waiting: Function called about twice a second while no outcome is ready.

        Raises:
            Exception: The function raised this exception. Tasks that have not started may be skipped.
        """


@dataclass(frozen=True)
class LocalProcesses:
    """Executor that uses processes on this machine, with one thread each.

    Attributes:
        workers: Number of processes.
    """

    workers: int = 1

    def run(
        self,
        function: Callable[..., Any],
        tasks: Iterable[tuple[Any, ...]],
        waiting: Callable[[], None] | None = None,
    ) -> Iterator[Outcome]:
        """See `Executor.run`. A task whose process dies is run again, alone.

        After an interruption or an error, the processes end at once, because a task may take hours.
        """
        queue = iter(enumerate(tasks))
        while lost := (yield from self._until_a_process_dies(function, queue, waiting, self.workers)):
            suspects = iter(lost)  # run these tasks one at a time to find the task that kills its process
            while guilty := (yield from self._until_a_process_dies(function, suspects, waiting, workers=0)):
                yield Outcome(guilty[0][0], died="the process died (out of memory, or a crash)")

    def _until_a_process_dies(
        self,
        function: Callable[..., Any],
        queue: Iterator[Task],
        waiting: Callable[[], None] | None,
        workers: int,
    ) -> Generator[Outcome, None, list[Task]]:
        """Run tasks from the queue until a process dies, and yield their outcomes.

        Each worker has one running task and one waiting task. With ``workers=0``, a single process gets one task at a
        time.

        Returns:
            The tasks that were running or waiting when a process died; empty if the queue is finished.
        """
        running: dict[Future[Any], Task] = {}
        context = get_context("spawn")
        ended, end = context.Pipe(duplex=False)
        pool = ProcessPoolExecutor(max(1, workers), context, initializer=end_with_parent, initargs=(ended,))
        try:
            while True:
                fresh = list(islice(queue, max(1, 2 * workers) - len(running)))
                lost = [task for task in fresh if not _submit(pool, function, task, running)]
                if not running and not lost:
                    return []
                done, _ = wait(running, timeout=None if lost else POLL, return_when=FIRST_COMPLETED)
                if waiting:
                    waiting()
                if lost or any(isinstance(future.exception(), BrokenProcessPool) for future in done):
                    done, _ = wait(running)
                for future in done:
                    task = running.pop(future)
                    if isinstance(future.exception(), BrokenProcessPool):
                        lost.append(task)
                    else:
                        yield Outcome(task[0], future.result())
                if lost:
                    return lost
        except BaseException:
            end.close()  # ends the processes
            raise
        finally:
            pool.shutdown(cancel_futures=True)
            end.close()
            ended.close()


def end_with_parent(ended: Connection | None = None) -> None:
    """End this process when its parent ends, so that a killed job leaves no processes behind.

    Ctrl-C in a terminal, which all processes receive, is left to the parent.

    Args:
        ended: Connection whose other end the parent closes to end this process; None if it uses a signal.
    """
    parent = parent_process()
    assert parent is not None
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        wait_for_any([parent.sentinel] if ended is None else [parent.sentinel, ended])
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _submit(
    pool: ProcessPoolExecutor, function: Callable[..., Any], task: Task, running: dict[Future[Any], Task]
) -> bool:
    # Processes started here inherit the variable; a single molecule does not benefit from a second thread.
    with environment_variable("OMP_NUM_THREADS", "1"):
        try:
            running[pool.submit(function, *task[1])] = task
        except BrokenProcessPool:
            return False
    return True
