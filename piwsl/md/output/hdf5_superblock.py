"""Taking up an HDF5 file that a killed process left open.

A file that is open for writing says so in its superblock (version 3 of the HDF5 File Format Specification), and the
library refuses to open it again. Its superblock also holds the end of the file at the last time that it was written;
space behind it counts as free, although chunks may stand there. Both are set right here, on the bytes of the file.
"""

import struct
from pathlib import Path

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_VERSION, _FLAGS, _END_OF_FILE, _CHECKSUM = 8, 11, 28, 44  # bytes from the start of the superblock
_SIZE = 48  # with offsets and lengths of eight bytes
_MASK = 0xFFFFFFFF


def release(path: Path) -> bool:
    """Mark a file as closed, with all of its bytes in use; True where it was marked as open.

    Raises:
        OSError: it cannot be written, or is no HDF5 file with a superblock of version 3.
    """
    with path.open("r+b") as file:
        block = bytearray(file.read(_SIZE))
        if len(block) < _SIZE or block[:8] != _SIGNATURE or block[_VERSION] != 3 or block[9:11] != b"\x08\x08":
            raise OSError("no HDF5 file with a superblock of version 3")
        if not block[_FLAGS]:
            return False
        block[_FLAGS] = 0
        block[_END_OF_FILE : _END_OF_FILE + 8] = struct.pack("<Q", file.seek(0, 2))
        block[_CHECKSUM:] = struct.pack("<I", checksum(bytes(block[:_CHECKSUM])))
        file.seek(0)
        file.write(block)
    return True


def checksum(content: bytes) -> int:
    """Hash of Jenkins (2006, "lookup3", little endian, start value 0), which HDF5 keeps of its metadata."""
    a = b = c = (0xDEADBEEF + len(content)) & _MASK
    while len(content) > 12:
        a, b, c = _added(a, b, c, content[:12])
        for shift in (4, 6, 8, 16, 19, 4):
            a = ((a - c) & _MASK) ^ _turned(c, shift)
            c = (c + b) & _MASK
            a, b, c = b, c, a
        content = content[12:]
    if not content:
        return c
    a, b, c = _added(a, b, c, content)
    for shift in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - _turned(b, shift)) & _MASK
        a, b, c = b, c, a
    return b


def _added(a: int, b: int, c: int, content: bytes) -> tuple[int, ...]:
    words = struct.unpack("<3I", content.ljust(12, b"\0"))
    return tuple((old + word) & _MASK for old, word in zip((a, b, c), words, strict=True))


def _turned(value: int, shift: int) -> int:
    return ((value << shift) | (value >> (32 - shift))) & _MASK
