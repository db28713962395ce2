"""Read binary files in a child process: a crash of a library, or an endless loop, is an error of one line.

The C code of readers trusts the files that it reads. Damaged files make it abort, run without end, or use all memory.
One child process serves all readers of a process and is started at the first use. It runs generator functions of
piwsl and returns their arrays.
"""

import atexit
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import RLock
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from piwsl import errors
from piwsl.errors import DataError, PiwslError, reason_of

Arrays = Mapping[str, NDArray[Any]]
CPU_SECONDS = 5.0  # of one answer at least
BYTES_PER_SECOND = 4e6  # slower reading of a file is taken for an endless loop
WAITING = 4  # times its CPU time that an answer may take, on a busy machine or a slow disk


def read_apart(function: Callable[..., Iterator[Arrays]], path: Path, *arguments: str | int | None) -> Iterator[Arrays]:
    """Yield what a generator function yields, from a child process.

    Args:
        function: Generator function of a module of piwsl. It takes the path as text, and the arguments.
        path: The file, which exists.
        arguments: Further ones.

    Raises:
        DataError: The file cannot be read, or its reader crashed or did not come to an end.
        MissingDependencyError: A library is not installed.
    """
    server = _Server.running()
    seconds = CPU_SECONDS + path.stat().st_size / BYTES_PER_SECOND
    number = server.open(f"{function.__module__}:{function.__qualname__}", [str(path), *arguments])
    try:
        while (arrays := server.next(number, seconds, path)) is not None:
            yield arrays
    finally:
        server.close(number)


class _Server:
    """The child process, as its parent sees it."""

    _current: "_Server | None" = None

    def __init__(self) -> None:
        paths = json.dumps([path for path in sys.path if path])
        code = f"import sys; sys.path[:] = {paths}; from {__name__} import serve; serve()"
        # A session of its own: Ctrl-C ends the parent, which closes the input of the child.
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._owner = os.getpid()
        self._lock = RLock()
        self._numbers = 0

    @classmethod
    def running(cls) -> "_Server":
        """Return the child of this process; a new one after a crash."""
        server = cls._current
        if server is None or server._owner != os.getpid() or server._process.poll() is not None:
            server = cls._current = cls()
            atexit.register(server.end)
        return server

    def open(self, function: str, arguments: list[Any]) -> int:
        """Prepare a generator and return its number; nothing is read yet."""
        with self._lock:
            self._numbers += 1
            with contextlib.suppress(OSError):  # reported by the first `next`
                self._send({"open": self._numbers, "function": function, "arguments": arguments})
            return self._numbers

    def next(self, number: int, seconds: float, path: Path) -> Arrays | None:
        """Return what a generator yields next; None at its end."""
        with self._lock:
            try:
                self._send({"next": number, "seconds": seconds})
                answer = self._receive()
            except (OSError, EOFError, ValueError):
                raise DataError(f"{path}: damaged: {self._fate(seconds)}") from None
            except BaseException:  # Ctrl-C: a part of the answer is still to come
                self._process.kill()
                raise
        if isinstance(answer, tuple):
            kind, message = answer
            error = getattr(errors, kind, DataError)
            if error is errors.MissingDependencyError:  # its constructor takes no message
                missing: PiwslError = error.__new__(error, message)
                missing.args = (message,)
                raise missing
            raise error(message if kind else f"{path}: {message}")
        return answer

    def close(self, number: int) -> None:
        """Forget a generator."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._send({"close": number})

    def end(self) -> None:
        """End the child."""
        if self._owner != os.getpid():
            return
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                assert stream is not None
                stream.close()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _send(self, request: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()

    def _receive(self) -> Arrays | tuple[str, str] | None:
        stream = self._process.stdout
        assert stream is not None
        line = stream.readline()
        if not line:
            raise EOFError
        answer = json.loads(line)
        if "error" in answer:
            return str(answer["kind"]), str(answer["error"])
        if answer["arrays"] is None:
            return None
        return {name: _read_array(stream, dtype, shape) for name, dtype, shape in answer["arrays"]}

    def _fate(self, seconds: float) -> str:
        """Return how the child ended, in words."""
        self.end()
        code = self._process.returncode
        if hasattr(signal, "SIGPROF") and code in (-signal.SIGPROF, -signal.SIGALRM):
            return f"reading it did not come to an end within {seconds:.0f} s"
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"its reader crashed ({name})"


def _read_array(stream: Any, dtype: str, shape: list[int]) -> NDArray[Any]:
    array = np.empty(shape, np.dtype(dtype))
    view = _bytes_of(array)
    done = 0
    while done < len(view):
        count = stream.readinto(view[done:])
        if not count:
            raise EOFError
        done += count
    return array


def _bytes_of(array: NDArray[Any]) -> memoryview:
    """Return the memory of a contiguous array."""
    return memoryview(array.reshape(-1).view(np.uint8)) if array.size else memoryview(b"")  # type: ignore[arg-type]


def serve() -> None:
    """Answer the requests of the parent until it closes the input."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # libraries that print must not disturb the answers
    generators: dict[int, Iterator[Arrays]] = {}
    for line in requests:
        request = json.loads(line)
        if "open" in request:
            generators[request["open"]] = _generator(request["function"], request["arguments"])
        elif "close" in request:
            generators.pop(request["close"], None)
        else:
            _limit_time(request["seconds"])
            _answer(generators[request["next"]], answers)
            _limit_time(0)


def _generator(function: str, arguments: list[Any]) -> Iterator[Arrays]:
    module, name = function.split(":")
    yield from getattr(importlib.import_module(module), name)(*arguments)


def _answer(generator: Iterator[Arrays], answers: BinaryIO) -> None:
    try:
        values = next(generator, None)
        arrays = None if values is None else {name: np.ascontiguousarray(array) for name, array in values.items()}
        head = None if arrays is None else [(name, array.dtype.str, array.shape) for name, array in arrays.items()]
        text = json.dumps({"arrays": head})
    except PiwslError as error:
        arrays, text = None, json.dumps({"error": str(error), "kind": type(error).__name__})
    except Exception as error:  # whatever a library raises on a damaged file
        reason = "it needs more memory than there is" if isinstance(error, MemoryError) else reason_of(error)
        arrays, text = None, json.dumps({"error": f"damaged ({reason})", "kind": ""})
    answers.write(text.encode() + b"\n")
    for array in (arrays or {}).values():
        answers.write(_bytes_of(array))
    answers.flush()


def _limit_time(seconds: float) -> None:
    """Let the system end this process after so many further seconds of CPU time, or some times as many of a clock."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, WAITING * seconds)
        signal.setitimer(signal.ITIMER_PROF, seconds)
