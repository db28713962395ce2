"""Process-wide settings that a job changes for its duration: allocator, threads, environment.

Every long-running function of piwsl enters `process_settings`, which restores the settings afterwards, so that jobs can
follow each other in any order. Two settings cannot be restored completely:

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
from contextlib import contextmanager, suppress

SWITCH = "PIWSL_PROCESS_SETTINGS"
_HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
# Environment variables set by a job or by the libraries that it uses.
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
_KEPT = 2**30  # bytes that are kept at the top of the heap

_lock = threading.Lock()
_depth = 0  # number of nested blocks; the outermost block restores the allocator


@contextmanager
def process_settings(
    threads: int | None = None, deterministic: bool = False, huge_pages: bool = False
) -> Iterator[None]:
    """Prepare the process for a job within the block, and restore its settings afterwards.

    Within the block, freed memory is kept for reuse, and a job may call `choose_threads` and `keep_largest_blocks`.
    Blocks can be nested.

    Args:
        threads: Number of torch threads; None leaves the number unchanged.
        deterministic: Allow only deterministic torch algorithms.
        huge_pages: Let torch use huge pages, if it has not allocated anything yet.
    """
    import torch  # imported here, because some worker processes do not need torch

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
                os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # required by cuBLAS
                torch.use_deterministic_algorithms(True)
            yield
    finally:
        if deterministic:  # an unnecessary call would import the torch compiler, which takes seconds
            torch.use_deterministic_algorithms(strict_before[0], warn_only=strict_before[1])
        if torch.get_num_threads() != threads_before:
            torch.set_num_threads(threads_before)
        _leave()


@contextmanager
def variables_restored(names: Iterable[str]) -> Iterator[None]:
    """Restore environment variables to their previous values after the block."""
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            _set_variable(name, value)


@contextmanager
def environment_variable(name: str, value: str) -> Iterator[None]:
    """Set an environment variable within the block."""
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
            ctypes.CDLL(None).malloc_trim(0)  # return the kept memory to the system


def keep_freed_memory() -> bool:
    """Configure the allocator to reuse large blocks, and return whether that was possible.

    By default, the GNU C library requests each block above some hundred kilobytes from the system and returns it when
    it is freed. The resulting page faults take a third of the time of a step.
    """
    return _mallopt((_M_MMAP_THRESHOLD, _LARGEST_THRESHOLD), (_M_TRIM_THRESHOLD, _KEPT), (_M_TOP_PAD, 64 * 2**20))


def keep_largest_blocks() -> bool:
    """Configure the allocator to also reuse blocks above 32 MB, and return whether that was possible.

    Use this only for programs that allocate the same blocks in every step, such as compiled models. Other programs
    fragment the heap and need twice the memory.
    """
    return _mallopt((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1))


def use_huge_pages() -> None:
    """Let torch request huge pages for blocks above 2 MB, which reduces the cost of page faults.

    The setting has an effect only before the first allocation of torch. A value set by the user is kept.
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
    except (OSError, AttributeError):  # not the GNU C library
        return False
    results = [mallopt(name, value) for name, value in options]
    return set(results) == {1}


def remove_empty_compiler_cache() -> None:
    """Remove the folder in TMPDIR that importing the compiler of torch creates, unless something was compiled.

    Tested with PyTorch 2.12 (`torch._inductor.runtime.cache_dir_utils`). The compiler creates the folder again when it
    needs it.
    """
    module = sys.modules.get("torch._inductor.runtime.cache_dir_utils")
    if module is not None:
        with suppress(OSError):
            os.rmdir(module.default_cache_dir())


# Up to this size, a step consists of many small operations. A second thread saves a fifth of the time at best, and
# slows down the step several times if its processor is busy.
SINGLE_THREAD_ATOMS = 100


def choose_threads(n_atoms: int) -> None:
    """Limit torch to one thread for a small molecule unless OMP_NUM_THREADS is set."""
    import torch

    if n_atoms <= SINGLE_THREAD_ATOMS and chooses_threads():
        torch.set_num_threads(1)


def chooses_threads() -> bool:
    """Return whether jobs may choose the number of threads: OMP_NUM_THREADS and the switch above are not set."""
    return not os.environ.get("OMP_NUM_THREADS") and not _switched_off()


def replica_threads(device: str = "cpu") -> int:
    """Return the number of concurrent model calls for replicas.

    Each call uses one thread. On a CPU, the number is OMP_NUM_THREADS or the number of processors.
    """
    if device != "cpu":
        return 1
    requested = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(requested) if requested.isdigit() and int(requested) > 0 else _processors()


def _processors() -> int:
    """Return the number of processors available to this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
