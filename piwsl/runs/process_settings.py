"""Settings of the whole process that a job changes for its duration: allocator, threads, environment.

Every verb that computes for long enters `process_settings`, which restores everything afterwards, so a job leaves the
process as it was and jobs can follow each other in any order. Two things cannot be restored in full:

- The GNU C library cannot report its settings. They are set to the documented defaults of mallopt(3), which switches
  off the adjustment of the mmap threshold that a fresh process has.
- torch reads ``THP_MEM_ALLOC_ENABLE`` (huge pages) once, when it first allocates. Later changes have no effect.

Set the environment variable ``PIWSL_PROCESS_SETTINGS=0`` to leave the allocator, huge pages and the choice of threads
alone. Settings of the allocator in the environment (``MALLOC_*_``, ``GLIBC_TUNABLES``) have the same effect on the
allocator; an own value of ``THP_MEM_ALLOC_ENABLE`` or ``OMP_NUM_THREADS`` takes precedence.
"""

import ctypes
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

SWITCH = "PIWSL_PROCESS_SETTINGS"
_HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
# Variables that a job, or a library that it calls, sets.
_VARIABLES = (_HUGE_PAGES, "OMP_NUM_THREADS", "CUBLAS_WORKSPACE_CONFIG", "TORCHINDUCTOR_CACHE_DIR")

# Names and numbers of mallopt(3) in the GNU C library.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -2, -3, -4
_DEFAULTS = (
    (_M_MMAP_THRESHOLD, 128 * 2**10),
    (_M_TRIM_THRESHOLD, 128 * 2**10),
    (_M_TOP_PAD, 128 * 2**10),
    (_M_MMAP_MAX, 65536),
)
_LARGEST_THRESHOLD = 32 * 2**20  # bytes; the library refuses more
_KEPT = 2**30  # bytes at the top of the heap that stay

_lock = threading.Lock()
_depth = 0  # of nested blocks: the outermost one restores the allocator


@contextmanager
def process_settings(
    threads: int | None = None, deterministic: bool = False, huge_pages: bool = False
) -> Iterator[None]:
    """Prepare the process for a job within the block, and restore it afterwards.

    Within the block freed memory is kept, and a job may call `choose_threads` and `keep_largest_blocks`. Blocks can be
    nested.

    Args:
        threads: Number of threads of torch; None: unchanged.
        deterministic: Allow only deterministic algorithms of torch.
        huge_pages: Let torch use huge pages, if it has not allocated anything yet.
    """
    import torch  # here, so that worker processes which compute without torch can import this module

    threads_before = torch.get_num_threads()
    strict_before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    _enter()
    try:
        keep_freed_memory()
        if threads:
            torch.set_num_threads(threads)
        with variables_restored(_VARIABLES):
            if huge_pages:
                use_huge_pages()
            if deterministic:
                os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # which cuBLAS requires
                torch.use_deterministic_algorithms(True)
            yield
    finally:
        if deterministic:  # else the call would only import the compiler of torch, which takes seconds
            torch.use_deterministic_algorithms(strict_before[0], warn_only=strict_before[1])
        if torch.get_num_threads() != threads_before:
            torch.set_num_threads(threads_before)
        _leave()


@contextmanager
def variables_restored(names: Iterable[str]) -> Iterator[None]:
    """Give variables of the environment the values after the block that they had before it."""
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            _set_variable(name, value)


@contextmanager
def environment_variable(name: str, value: str) -> Iterator[None]:
    """Set a variable of the environment within the block."""
    with variables_restored([name]):
        os.environ[name] = value
        yield


def _set_variable(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _enter() -> None:
    global _depth
    with _lock:
        _depth += 1


def _leave() -> None:
    global _depth
    with _lock:
        _depth -= 1
        if _depth == 0 and _mallopt(*_DEFAULTS):
            ctypes.CDLL(None).malloc_trim(0)  # return what was kept


def keep_freed_memory() -> bool:
    """Let the allocator reuse the large blocks of a step; return True where that is possible.

    By default the GNU C library requests every block above some hundred kilobytes from the system and returns it. The
    page faults of the next step then cost a third of its time.
    """
    return _mallopt((_M_MMAP_THRESHOLD, _LARGEST_THRESHOLD), (_M_TRIM_THRESHOLD, _KEPT), (_M_TOP_PAD, 64 * 2**20))


def keep_largest_blocks() -> bool:
    """Keep blocks above 32 MB, too; return True where that is possible.

    For programs that allocate the same blocks at every step, such as compiled ones: others leave gaps in which nothing
    fits, and take twice the memory.
    """
    return _mallopt((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1))


def use_huge_pages() -> None:
    """Let torch request huge pages for blocks above 2 MB: it does not keep the largest ones, and pays for each page.

    It has an effect only before torch first allocates. An own value of the user stays.
    """
    if not _switched_off():
        os.environ.setdefault(_HUGE_PAGES, "1")


def _switched_off() -> bool:
    return os.environ.get(SWITCH, "").lower() in ("0", "off", "false")


def _mallopt(*options: tuple[int, int]) -> bool:
    own = any(name.startswith("MALLOC_") for name in os.environ) or "malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if own or _switched_off() or not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    results = [mallopt(name, value) for name, value in options]
    return set(results) == {1}


# Up to here a step is many small operations: a second thread brings a fifth at best, and costs several times as much
# where the processor it waits for is busy.
SINGLE_THREAD_ATOMS = 100


def choose_threads(n_atoms: int) -> None:
    """Limit torch to one thread for a small molecule, unless OMP_NUM_THREADS is set."""
    import torch

    if n_atoms <= SINGLE_THREAD_ATOMS and not os.environ.get("OMP_NUM_THREADS") and not _switched_off():
        torch.set_num_threads(1)


def replica_threads(device: str = "cpu") -> int:
    """Return the number of concurrent calls for replicas, each in one thread: one per processor, or OMP_NUM_THREADS."""
    if device != "cpu":
        return 1
    requested = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(requested) if requested.isdigit() and int(requested) > 0 else _processors()


def _processors() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
