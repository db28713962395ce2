"""Read LMDB files page by page, with bounds checks.

The LMDB library does not check the offsets in a file, and a damaged file can kill the process. This reader compares
every offset with the size of the file and limits the depth of the search. It supports files from 64-bit little-endian
machines, with one database and without duplicate keys, as ASE writes them.

Layout (LMDB 0.9): a page has a header of 16 bytes (number, 2 unused bytes, flags, then ``lower`` and ``upper``, or the
number of overflow pages), followed by the offsets of its nodes. Pages 0 and 1 are meta pages; the page with the later
transaction is valid.
"""

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from piwsl.errors import DataError
from piwsl.runs.untrusted import TooLargeError

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_HEADER = 16
_BRANCH, _LEAF, _OVERFLOW, _META = 1, 2, 4, 8
_BIG = 1  # flag: the data of a node are on overflow pages
_DEEPEST = 32
_NO_PAGE = 2**64 - 1
_PAGE_SIZES = tuple(2**power for power in range(8, 17))


class LmdbFile:
    """An LMDB file that is open for reading.

    Args:
        path: Path of the file.

    Raises:
        DataError: The file is truncated or has another format.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as stream:
            self._size = os.fstat(stream.fileno()).st_size
            if self._size < 2 * _HEADER:
                raise DataError(f"{path}: cannot be read as LMDB (too short)")
            self._data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        metas = [meta for meta in self._metas() if meta is not None]
        if not metas:
            self.close()
            raise DataError(f"{path}: cannot be read as LMDB (no header of version {_VERSION})")
        self._page_size = metas[0][4]
        _, self._root, last, self.entries, _ = max(metas)
        expected = (last + 1) * self._page_size
        if self._size < expected:
            self.close()
            raise DataError(f"{path}: truncated, {self._size} of {expected} bytes: copy or download it again")

    def close(self) -> None:
        """Close the file."""
        self._data.close()

    def _metas(self) -> Iterator[tuple[int, int, int, int, int] | None]:
        """Yield transaction, root page, last page, entries and page size of both meta pages; None if damaged."""
        first = self._meta(0)
        yield first
        for size in (first[4],) if first else _PAGE_SIZES:
            meta = self._meta(size)
            if meta is not None and meta[4] == size:
                yield meta
                return

    def _meta(self, start: int) -> tuple[int, int, int, int, int] | None:
        if start + 152 > self._size:
            return None
        _, _, flags, _, _ = struct.unpack_from("<QHHHH", self._data, start)
        magic, version = struct.unpack_from("<II", self._data, start + _HEADER)
        if not flags & _META or magic != _MAGIC or version != _VERSION:
            return None
        page_size, *_ = struct.unpack_from("<I", self._data, start + 40)
        *_, entries, root = struct.unpack_from("<IHHQQQQQ", self._data, start + 88)
        last, transaction = struct.unpack_from("<QQ", self._data, start + 136)
        return (transaction, root, last, entries, page_size) if page_size in _PAGE_SIZES else None

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key; None if the key does not exist.

        Raises:
            ValueError: The file is damaged.
        """
        page = self._root
        if page == _NO_PAGE:
            return None
        for _ in range(_DEEPEST):
            start, flags, nodes = self._page(page)
            if flags & _LEAF:
                index = _bisect(self, nodes, start, key, 0)
                if index < len(nodes) and self._key(start, nodes[index]) == key:
                    return self._value(start, nodes[index])
                return None
            # The first key of a branch page is smaller than any other key by definition.
            index = _bisect(self, nodes, start, key, 1)
            if index == len(nodes) or self._key(start, nodes[index]) != key:
                index -= 1
            page = self._child(start, nodes[max(0, index)])
        raise ValueError("the pages are nested too deeply")

    def keys(self, most: int) -> list[bytes]:
        """Return the first keys, at most ``most``.

        Raises:
            ValueError: The file is damaged.
        """
        found: list[bytes] = []
        page = self._root
        for _ in range(_DEEPEST):
            if page == _NO_PAGE:
                break
            start, flags, nodes = self._page(page)
            if flags & _LEAF:
                found = [self._key(start, node) for node in nodes[:most]]
                break
            page = self._child(start, nodes[0])
        return found

    def _page(self, number: int) -> tuple[int, int, tuple[int, ...]]:
        """Return the offset of a branch or leaf page, its flags, and the offsets of its nodes within the page."""
        start = number * self._page_size
        if not 0 <= start <= self._size - self._page_size:
            raise ValueError(f"page {number} is beyond the end of the file")
        own, _, flags, lower, _ = struct.unpack_from("<QHHHH", self._data, start)
        count = (lower - _HEADER) // 2
        if own != number or flags & (_BRANCH | _LEAF) not in (_BRANCH, _LEAF):
            raise ValueError(f"page {number} is neither a branch nor a leaf")
        if not 0 < count <= (self._page_size - _HEADER) // 2:
            raise ValueError(f"page {number} has {count} nodes")
        return start, flags, struct.unpack_from(f"<{count}H", self._data, start + _HEADER)

    def _node(self, start: int, node: int) -> tuple[int, int, int, int]:
        if not _HEADER <= node <= self._page_size - 8:
            raise ValueError("a node is outside its page")
        low, high, flags, length = struct.unpack_from("<4H", self._data, start + node)
        if node + 8 + length > self._page_size:
            raise ValueError("a key is longer than its page")
        return low, high, flags, length

    def _key(self, start: int, node: int) -> bytes:
        length = self._node(start, node)[3]
        return self._data[start + node + 8 : start + node + 8 + length]

    def _child(self, start: int, node: int) -> int:
        low, high, flags, _ = self._node(start, node)
        return low | high << 16 | flags << 32

    def _value(self, start: int, node: int) -> bytes:
        low, high, flags, length = self._node(start, node)
        size, place = low | high << 16, start + node + 8 + length
        if flags == _BIG:
            (number,) = struct.unpack_from("<Q", self._data, place)
            place = number * self._page_size + _HEADER
            if place > self._size:
                raise ValueError(f"page {number} is beyond the end of the file")
            _, _, kind, pages = struct.unpack_from("<QHHI", self._data, place - _HEADER)
            if kind != _OVERFLOW or pages * self._page_size < size + _HEADER:
                raise ValueError(f"page {number} does not contain a value of {size} bytes")
        elif flags:
            raise ValueError("an entry is not a plain value")
        if place + size > self._size:
            raise TooLargeError(f"an entry of {size} bytes, in a file of {self._size} bytes")
        return self._data[place : place + size]


def _bisect(file: LmdbFile, nodes: tuple[int, ...], start: int, key: bytes, low: int) -> int:
    """Return the index of the first node from ``low`` whose key is not smaller than ``key``."""
    high = len(nodes)
    while low < high:
        middle = (low + high) // 2
        if file._key(start, nodes[middle]) < key:
            low = middle + 1
        else:
            high = middle
    return low
