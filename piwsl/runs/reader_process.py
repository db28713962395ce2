"""Reading of untrusted files in a child process, which turns crashes and endless loops into one-line errors.

Some readers do not validate their input. Damaged files make them abort, run endlessly, or use all memory. One child
process, started at first use, serves all readers of a process. The child runs functions of piwsl: generators, whose
arrays it returns one by one (`read_apart`), and functions with other results (`call_apart`).
"""

import atexit
import contextlib
import importlib
import json
import os
import pickle
import signal
import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from threading import RLock
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from piwsl import errors
from piwsl.errors import DataError, PiwslError, reason_of

Arrays = Mapping[str, NDArray[Any]]
T = TypeVar("T")
CPU_SECONDS = 15.0  # smallest limit for one answer; the first one includes imports, on a slow machine
BYTES_PER_SECOND = 4e6  # slower reading counts as an endless loop
_ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "PYTHONWARNINGS": "ignore",
}
WAITING = 4  # limit of wall time in units of the limit of CPU time, for busy machines and slow disks


def read_apart(
    function: Callable[..., Iterator[Arrays]],
    path: Path,
    *arguments: str | int | None,
    cpu_seconds: float = CPU_SECONDS,
) -> Iterator[Arrays]:
    """Run a generator function in a child process and yield its items.

    Args:
        function: Generator function in a piwsl module, called with the path as text and with the arguments.
        path: Existing file to read.
        arguments: Further arguments of the function.
        cpu_seconds: Smallest limit of CPU time per item, s. The limit grows with the size of the file.

    Raises:
        DataError: The file cannot be read, or its reader crashed or did not finish in time.
        MissingDependencyError: A required library is not installed.
    """
    _check_visible(path)
    server = _Server.running()
    seconds = cpu_seconds + path.stat().st_size / BYTES_PER_SECOND
    number = server.open(f"{function.__module__}:{function.__qualname__}", [str(path), *arguments])
    try:
        while (arrays := server.next(number, seconds, path)) is not None:
            yield arrays
    finally:
        server.close(number)


def call_apart(
    function: Callable[..., T], path: Path, *arguments: Any, memory: int, cpu_seconds: float = CPU_SECONDS
) -> T:
    """Call a function in a child process and return its result.

    Args:
        function: Function at module level in piwsl, called with the path and with the arguments.
        path: Existing file that the function reads.
        arguments: Further arguments. They and the result are pickled.
        memory: Limit of the memory that the call may use, bytes; on Linux only.
        cpu_seconds: Limit of CPU time, s; the first call in a process includes imports.

    Raises:
        DataError: The process crashed or reached a limit.
        PiwslError: The function raised this error.
        ValueError: The function raised another exception.
    """
    if not sys.executable:
        return function(path, *arguments)
    _check_visible(path)
    call = (function.__module__, function.__qualname__, (path, *arguments), memory)
    server = _Server.running()
    number = server.open(f"{__name__}:answer_call", [b64encode(pickle.dumps(call)).decode()])
    try:
        answer = server.next(number, cpu_seconds, path)
    finally:
        server.close(number)
    assert answer is not None
    kind, result = pickle.loads(answer["result"].tobytes())
    if kind == "raised":
        raise result
    returned: T = result
    return returned


def _check_visible(path: Path) -> None:
    """Refuse names such as /dev/stdin, which mean another file in the child.

    Raises:
        DataError: The path is such a name.
    """
    if str(path.absolute()).startswith(("/dev/", "/proc/")):
        raise DataError(f"{path}: not a regular file: give the name of the file, or save the input to a file")


def answer_call(call: str) -> Iterator[Arrays]:
    """Run the function of `call_apart`, and yield its pickled result or exception; runs in the child."""
    module, name, arguments, memory = pickle.loads(b64decode(call))
    function = getattr(importlib.import_module(module), name)
    try:
        with _limited_memory(memory):
            result: tuple[str, Any] = ("returned", function(*arguments))
    except PiwslError as error:
        result = ("raised", error)
    except Exception as error:
        result = ("raised", ValueError(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__))
    yield {"result": np.frombuffer(pickle.dumps(result), dtype=np.uint8)}


@contextlib.contextmanager
def _limited_memory(memory: int) -> Iterator[None]:
    """Limit the memory that this process may use in addition to the present, bytes, within the block."""
    statm = Path("/proc/self/statm")
    if find_spec("resource") is None or not statm.exists():
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = int(statm.read_text().split()[0]) * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (min([limit, *(one for one in (soft, hard) if one >= 0)]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


class _Server:
    """Handle of the child process in the parent process."""

    _current: "_Server | None" = None

    def __init__(self) -> None:
        paths = json.dumps([path for path in sys.path if path])
        code = f"import sys; sys.path[:] = {paths}; from {__name__} import serve; serve()"
        # In a new session, the child does not receive Ctrl-C; it ends when the parent closes its input.
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, **_ENVIRONMENT},
        )
        self._owner = os.getpid()
        self._lock = RLock()
        self._numbers = 0

    @classmethod
    def running(cls) -> "_Server":
        """Return the child of this process; start a new child after a crash."""
        server = cls._current
        if server is None or server._owner != os.getpid() or server._process.poll() is not None:
            server = cls._current = cls()
            atexit.register(server.end)
        return server

    def open(self, function: str, arguments: list[Any]) -> int:
        """Create a generator in the child and return its number; nothing is read yet."""
        with self._lock:
            self._numbers += 1
            with contextlib.suppress(OSError):  # the first `next` reports the error
                self._send({"open": self._numbers, "function": function, "arguments": arguments})
            return self._numbers

    def next(self, number: int, seconds: float, path: Path) -> Arrays | None:
        """Return the next item of a generator; None at its end."""
        with self._lock:
            try:
                self._send({"next": number, "seconds": seconds, "folder": os.getcwd()})
                answer = self._receive()
            except (OSError, EOFError, ValueError):
                raise DataError(f"{path}: damaged: {self._fate(seconds)}") from None
            except BaseException:  # after Ctrl-C, the rest of the answer is still in the pipe
                self._process.kill()
                raise
        if isinstance(answer, tuple):
            kind, message = answer
            error = getattr(errors, kind, DataError)
            if error is errors.MissingDependencyError:  # the constructor does not accept a message
                missing: PiwslError = error.__new__(error, message)
                missing.args = (message,)
                raise missing
            raise error(message if kind else f"{path}: {message}")
        return answer

    def close(self, number: int) -> None:
        """Delete a generator in the child."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._send({"close": number})

    def end(self) -> None:
        """End the child process."""
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
        """Return a description of how the child ended."""
        self.end()
        code = self._process.returncode
        if hasattr(signal, "SIGPROF") and code in (-signal.SIGPROF, -signal.SIGALRM):
            return f"reading did not finish within {seconds:.0f} s"
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"the reader crashed ({name})"


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
    """Return the memory of a contiguous array as bytes."""
    return memoryview(array.reshape(-1).view(np.uint8)) if array.size else memoryview(b"")  # type: ignore[arg-type]


def serve() -> None:
    """Answer requests from the parent until the parent closes the input."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # output of libraries must not mix with the answers
    if find_spec("resource") is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is expected and leaves no file
    generators: dict[int, Iterator[Arrays]] = {}
    for line in requests:
        request = json.loads(line)
        if "open" in request:
            generators[request["open"]] = _generator(request["function"], request["arguments"])
        elif "close" in request:
            generators.pop(request["close"], None)
        else:
            os.chdir(request["folder"])  # relative paths mean those of the parent, which may have changed its folder
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
    except Exception as error:  # libraries raise many types for damaged files
        reason = "not enough memory" if isinstance(error, MemoryError) else reason_of(error)
        arrays, text = None, json.dumps({"error": f"damaged ({reason})", "kind": ""})
    answers.write(text.encode() + b"\n")
    for array in (arrays or {}).values():
        answers.write(_bytes_of(array))
    answers.flush()


def _limit_time(seconds: float) -> None:
    """Let the system end this process after a CPU time, s, or `WAITING` times as much wall time; 0 means no limit."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, WAITING * seconds)
        signal.setitimer(signal.ITIMER_PROF, seconds)
