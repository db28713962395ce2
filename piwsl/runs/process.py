"""Memory of a step of training or dynamics: kept between steps instead of given back to the system."""

import ctypes
import os
import sys

import torch

# Names and numbers of mallopt(3) in the GNU C library.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -2, -3, -4
_LARGEST_THRESHOLD = 32 * 2**20  # bytes; the library refuses more
_KEPT = 2**30  # bytes at the top of the heap that stay


def keep_freed_memory() -> bool:
    """Let the allocator reuse the large blocks of a step; True where that was possible.

    By default the GNU C library asks the system for every block above some hundred kilobytes and gives it back, and
    the page faults of the next step then cost a third of its time.
    """
    return _mallopt((_M_MMAP_THRESHOLD, _LARGEST_THRESHOLD), (_M_TRIM_THRESHOLD, _KEPT), (_M_TOP_PAD, 64 * 2**20))


def keep_largest_blocks() -> bool:
    """Keep blocks above 32 MB too; True where that was possible.

    For programs that ask for the same blocks at every step, such as compiled ones: others leave gaps in which nothing
    fits, and take twice the memory.
    """
    return _mallopt((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1))


def use_huge_pages() -> None:
    """Let torch ask for huge pages for blocks above 2 MB: it does not keep the largest ones, and pays for each page.

    torch reads the environment when it first allocates, so this comes before it is imported. An own value of the
    user stays.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def _mallopt(*wanted: tuple[int, int]) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    results = [mallopt(name, value) for name, value in wanted]
    return set(results) == {1}


# Up to here a step is many small operations: a second thread brings a fifth at best, and costs several times as much
# where the processor it waits for is busy.
SINGLE_THREAD_ATOMS = 100


def choose_threads(n_atoms: int) -> None:
    """Let torch use one thread for a small molecule, unless OMP_NUM_THREADS asks for a number; else its default."""
    if n_atoms <= SINGLE_THREAD_ATOMS and not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(1)


def replica_threads(device: str = "cpu") -> int:
    """How many calls for replicas to make at a time, each in one thread: one a processor, or OMP_NUM_THREADS."""
    if device != "cpu":
        return 1
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(asked) if asked.isdigit() and int(asked) > 0 else _processors()


def _processors() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
