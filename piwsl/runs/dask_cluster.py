"""Executor that runs tasks on a Dask cluster."""

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import islice
from typing import Any

from piwsl.errors import ConfigError, MissingDependencyError, reason_of
from piwsl.runs.executors import POLL, Outcome, Task
from piwsl.runs.process_settings import variables_restored

_ANSWER = 60.0  # s to wait for a result after the scheduler has announced it


@contextmanager
def local_cluster(workers: int) -> Iterator["DaskCluster"]:
    """Start a Dask cluster on this machine for the duration of the block, with one thread per worker process.

    Scheduler and workers run any code that they receive. They accept only connections with the certificate of this
    cluster. The certificate exists only in the memory of its processes, so other users of the machine cannot connect.
    There are no pages about the cluster.

    Raises:
        MissingDependencyError: Dask, or the library that creates the certificate, is not installed.
    """
    try:
        from dask import config
        from distributed import LocalCluster
        from distributed.security import Security
    except ImportError as error:
        raise MissingDependencyError("dask.distributed", "a Dask cluster", "dask") from error
    if find_spec("cryptography") is None:
        raise MissingDependencyError("cryptography", "a Dask cluster that only this run can use", "dask")
    security = Security.temporary()
    # The pages of Dask, with names, messages and logs, would be open to all users of the machine.
    pages: dict[str, list[str]] = {f"distributed.{part}.http.routes": [] for part in ("scheduler", "worker")}
    with variables_restored(_variables_of_workers()), config.set(pages):
        # Ctrl-C in a terminal reaches all child processes; this process decides which of them end.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            cluster = LocalCluster(
                workers,
                threads_per_worker=1,
                dashboard_address="127.0.0.1:0",
                scheduler_kwargs={"dashboard": False},
                silence_logs=logging.CRITICAL,
                protocol="tls",
                security=security,
            )
        finally:
            signal.signal(signal.SIGINT, before)
        with cluster:
            yield DaskCluster(cluster.scheduler_address, security=security)


def _variables_of_workers() -> list[str]:
    """Return the names of environment variables that Dask changes in this process when it starts workers."""
    from dask import config

    return ["PYTHONHASHSEED", "__DASK_PARENT_PID", *config.get("distributed.nanny.pre-spawn-environ", {})]


@dataclass(frozen=True)
class DaskCluster:
    """Workers of a Dask scheduler. The workers need the same version of piwsl and the same calculators.

    If a worker dies, its task moves to another worker. A task that kills several workers is abandoned (see the Dask
    setting ``distributed.scheduler.allowed-failures``).

    A scheduler is trusted: the scheduler, its workers, and everybody who can connect to the scheduler can run code as
    the user of this process and of the workers. A scheduler at ``tls://`` uses the certificates in the Dask
    configuration.

    Attributes:
        address: Address of the scheduler, such as ``tcp://10.0.0.1:8786``.
        patience: Time to wait for the scheduler and for a worker, s.
        security: Certificates; None: certificates in the Dask configuration.
    """

    address: str
    patience: float = 60.0
    security: Any = field(default=None, repr=False)

    def check(self) -> None:
        """Check that the scheduler answers.

        Raises:
            ConfigError: The scheduler does not answer.
        """
        self._client().close(timeout=5)

    def run(
        self,
        function: Callable[..., Any],
        tasks: Iterable[tuple[Any, ...]],
        waiting: Callable[[], None] | None = None,
    ) -> Iterator[Outcome]:
        """See `Executor.run`.

        Raises:
            ConfigError: The scheduler does not answer or has no workers.
            MissingDependencyError: Dask is not installed.
        """
        client = self._client()
        try:
            killed = yield from self._work(client, function, enumerate(tasks), waiting)
            for task in killed:  # another task may have killed the worker: run this task again, alone
                if (yield from self._work(client, function, iter([task]), waiting)):
                    yield Outcome(task[0], died="the workers that computed it died")
        finally:
            client.close(timeout=5)

    def _work(
        self,
        client: Any,
        function: Callable[..., Any],
        queue: Iterator[Task],
        waiting: Callable[[], None] | None,
    ) -> Generator[Outcome, None, list[Task]]:
        """Run all tasks in the queue, yield their outcomes, and return the tasks whose workers died."""
        from distributed.scheduler import KilledWorker

        running: dict[Any, Task] = {}
        killed: list[Task] = []
        while True:
            for task in islice(queue, max(0, 2 * self._threads(client) - len(running))):
                try:
                    running[client.submit(function, *task[1], pure=False)] = task
                except OSError:
                    raise self._lost() from None
            if not running:
                return killed
            for future in self._ready(running):
                task = running.pop(future)
                value, error = self._came_out(future)
                if isinstance(error, KilledWorker):
                    killed.append(task)
                elif error is not None:
                    raise error
                else:
                    yield Outcome(task[0], value)
            if waiting:
                waiting()

    def _came_out(self, future: Any) -> tuple[Any, BaseException | None]:
        """Return the value and the exception of a finished future."""
        try:
            if future.status == "error":
                return None, future.exception(timeout=_ANSWER)
            return future.result(timeout=_ANSWER), None
        except (asyncio.CancelledError, CancelledError, OSError, TimeoutError):
            raise self._lost() from None

    def _ready(self, running: dict[Any, Task]) -> list[Any]:
        """Wait for up to `POLL` seconds until a future is finished, and return all finished futures."""
        for _ in range(int(POLL / 0.02)):
            done = [future for future in running if future.done()]
            if done:
                return done
            time.sleep(0.02)
        return []

    def _client(self) -> Any:
        try:
            from distributed import Client
        except ImportError as error:
            raise MissingDependencyError("dask.distributed", "a Dask cluster", "dask") from error
        try:
            patience = min(self.patience, 10.0)
            return Client(self.address, timeout=patience, set_as_default=False, security=self.security)
        except (
            OSError,
            TimeoutError,
            ValueError,
            TypeError,
            AssertionError,
            RuntimeError,
        ) as error:  # including TLS errors
            raise ConfigError(
                f"no Dask scheduler at {self.address} ({reason_of(error)}): start one, or correct the address"
            ) from None

    def _threads(self, client: Any) -> int:
        """Wait for a worker and return the total number of threads of all workers."""
        deadline = time.monotonic() + self.patience
        while True:
            if client.status != "running":
                raise self._lost()  # unfinished tasks are lost with the connection
            try:
                threads = sum(client.nthreads().values())
            except (asyncio.CancelledError, CancelledError, OSError, TimeoutError, AttributeError):
                raise self._lost() from None
            if threads:
                return int(threads)
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"the Dask scheduler at {self.address} has had no workers for {self.patience:g} s: start workers "
                    f"(dask worker {self.address}) and run the job again; finished results are kept"
                )
            time.sleep(0.1)

    def _lost(self) -> ConfigError:
        return ConfigError(
            f"lost connection to the Dask scheduler at {self.address}: run the job again; finished results are kept"
        )
