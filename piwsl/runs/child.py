"""Calls in a child process with limits, for libraries that crash or run endlessly on damaged files."""

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from piwsl.errors import DataError, PiwslError

T = TypeVar("T")

_CODE = "import sys; sys.path[:0] = [{root!r}]; from piwsl.runs.child import answer; answer()"


def call_in_child(
    path: Path,
    function: Callable[..., T],
    *arguments: Any,
    seconds: float,
    memory: int,
) -> T:
    """Call a function in a new process with limits of time and memory.

    Args:
        path: File that the function reads, used in messages.
        function: Function at module level in piwsl.
        arguments: Arguments of the function. Arguments and result are pickled.
        seconds: Limit of CPU time, s.
        memory: Limit of memory in addition to the memory of the imported modules, bytes.

    Raises:
        DataError: The process crashed or reached a limit.
        PiwslError: The function raised this error.
        ValueError: The function raised another exception.
    """
    if not sys.executable:
        return function(*arguments)
    root = str(Path(__file__).resolve().parents[2])
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    request = pickle.dumps((function.__module__, function.__qualname__, arguments, seconds, memory))
    # The child finds piwsl through sys.path and inherits the environment variables of the user.
    process = subprocess.run(
        [sys.executable, "-c", _CODE.format(root=root)],
        input=request,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **threads, "PYTHONWARNINGS": "ignore"},
        check=False,
    )
    if process.returncode != 0 or not process.stdout:
        raise DataError(
            f"{path}: cannot be read; the file is damaged or too large ({_end(process.returncode, seconds)})"
        )
    kind, result = pickle.loads(process.stdout)
    if kind == "raised":
        raise result
    answer_of_function: T = result
    return answer_of_function


def _end(code: int, seconds: float) -> str:
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"reading took longer than {seconds:.0f} s"
    if code < 0:
        return f"the reader crashed: {signal.Signals(-code).name}"
    return f"the reader ended with code {code}"


def answer() -> None:
    """Read a call from stdin, run the function, and write its result to stdout; called in the child process."""
    import resource

    output = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # libraries may print to stdout
    module, name, arguments, seconds, memory = pickle.load(sys.stdin.buffer)
    function = getattr(import_module(module), name)
    _lower(resource.RLIMIT_CPU, int(seconds) + 1)
    _lower(resource.RLIMIT_CORE, 0)
    statm = Path("/proc/self/statm")
    if statm.exists():  # Linux only; on other systems, memory is not limited
        _lower(resource.RLIMIT_AS, int(statm.read_text().split()[0]) * resource.getpagesize() + memory)
    try:
        result: tuple[str, Any] = ("returned", function(*arguments))
    except PiwslError as error:
        result = ("raised", error)
    except Exception as error:
        result = ("raised", ValueError(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__))
    with output:
        output.write(pickle.dumps(result))


def _lower(limit: int, value: int) -> None:
    import resource

    _, hard = resource.getrlimit(limit)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (value, value))
