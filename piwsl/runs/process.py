"""Memory of a step of training or dynamics: kept between steps instead of given back to the system."""

import ctypes
import os
import sys

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
