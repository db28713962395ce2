"""Where the frames of an XTC file end, from their headers alone.

A frame: magic, atoms, step, time, box (52 bytes), atoms (4), then either plain positions of at most nine atoms, or
precision, limits, index (32), the number of bytes (4 or 8) and the bytes, padded to four.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO

from piwsl.errors import DataError

_MAGIC, _WIDE_MAGIC = 1995, 2023  # the second counts its bytes in 64 bits


def frame_ends(stream: BinaryIO, name: object) -> Iterator[int]:
    """Bytes from the start of the file to the end of each whole frame.

    Args:
        stream: of the file.
        name: of the file, for people.

    Raises:
        DataError: not an XTC file, or damaged.
    """
    size = stream.seek(0, 2)
    frames = position = 0
    while True:
        stream.seek(position)
        head = stream.read(96)
        if len(head) < 56:
            return
        magic, atoms = struct.unpack(">ii", head[:8])
        if magic not in (_MAGIC, _WIDE_MAGIC):
            raise DataError(f"{name}: not an XTC file, or damaged after frame {frames}")
        position += _frame_bytes(head, atoms, magic == _WIDE_MAGIC, size)
        if position > size:
            return
        frames += 1
        yield position


def _frame_bytes(head: bytes, atoms: int, wide: bool, size: int) -> int:
    """Length of a frame; beyond the size of the file where its header was cut."""
    if atoms <= 9:
        return 56 + 12 * atoms
    start = 96 if wide else 92
    if len(head) < start:
        return size + 1
    (count,) = struct.unpack(">q" if wide else ">i", head[88:start])
    return int(start + (count + 3) // 4 * 4)
