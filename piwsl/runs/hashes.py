"""One hash for the files that a run learned from."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from piwsl.runs.files import sha256

# Reading takes seconds up to here. Beyond, a run would wait longer for the hash than for its first epoch.
LARGEST_WHOLE = 4 * 2**30  # bytes
_BLOCKS, _BLOCK = 64, 2**20  # blocks of a large file that count, bytes of one


def source_hash(files: Sequence[Path], largest: int = LARGEST_WHOLE) -> str:
    """SHA-256 of a file; of several, that of the lines of their hashes in order.

    Files of more than ``largest`` bytes in all are not read whole: the hash is then that of their sizes and of 64
    blocks of a megabyte each, and begins with ``sampled:``.
    """
    if sum(path.stat().st_size for path in files) > largest:
        return f"sampled:{_joined([_sampled(path) for path in files])}"
    return _joined([sha256(path) for path in files])


def _joined(hashes: list[str]) -> str:
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _sampled(path: Path) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as stream:
        for block in range(_BLOCKS):
            stream.seek(block * max(0, size - _BLOCK) // (_BLOCKS - 1))
            digest.update(stream.read(_BLOCK))
    return digest.hexdigest()
