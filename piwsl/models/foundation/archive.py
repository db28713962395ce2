"""Archives of ``torch.save`` as plain bytes. Every size is checked before memory is allocated."""

import math
import sys
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from piwsl.errors import ModelFileError, not_a_file, reason_of

# The pickle of a large model has a few megabytes. Each byte can become an object of about 200 bytes.
LARGEST_PICKLE = 16 * 2**20
_MOST_ENTRIES = 100_000


class Archive:
    """Archive of ``torch.save``, open for reading.

    The entries of such an archive are not compressed. An archive with compressed or overlapping entries is rejected,
    because it could expand to many times its size.

    Args:
        path: Path of the file.

    Raises:
        ModelFileError: The file is missing, is not an archive of ``torch.save``, or has inconsistent sizes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise ModelFileError(not_a_file(path))
        try:
            self._zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise ModelFileError(
                f"{path}: not an archive of torch.save ({reason_of(error)}): name the file of a whole model"
            ) from None
        try:
            self._root = self._find_root()
            self._check_sizes()
            self._check_byte_order()
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def pickle(self) -> bytes:
        """Return the pickle of the archive."""
        return self._read("data.pkl", LARGEST_PICKLE)

    def storage(self, key: str, dtype: torch.dtype, count: int) -> Tensor:
        """Return a storage as a tensor (count,).

        Raises:
            ModelFileError: The entry is missing, or its size does not fit the type and count.
        """
        size = count * dtype.itemsize
        name = f"data/{key}"
        info = self._info(name)
        if info.file_size != size:
            raise ModelFileError(f"{self.path}: entry {name} has {info.file_size} bytes, expected {size}: damaged")
        if count == 0:
            return torch.empty(0, dtype=dtype)
        return torch.frombuffer(bytearray(self._read(name, size)), dtype=dtype)

    def _check_sizes(self) -> None:
        entries = self._zip.infolist()
        whole = self.path.stat().st_size
        if len(entries) > _MOST_ENTRIES:
            raise ModelFileError(f"{self.path}: {len(entries)} entries, more than any model has: refused")
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                raise ModelFileError(
                    f"{self.path}: entry {entry.filename!r} is compressed, but torch.save never compresses: refused"
                )
        if sum(entry.file_size for entry in entries) > whole:
            raise ModelFileError(f"{self.path}: its entries are larger than the file: refused")

    def _find_root(self) -> str:
        roots = [name[: -len("data.pkl")] for name in self._zip.namelist() if name.endswith("/data.pkl")]
        if len(roots) != 1 or roots[0].count("/") != 1:
            raise ModelFileError(f"{self.path}: not an archive of torch.save: it has no data.pkl")
        if f"{roots[0]}constants.pkl" in self._zip.namelist():
            raise ModelFileError(f"{self.path}: a TorchScript program, not a model: name the file of the whole model")
        return roots[0]

    def _check_byte_order(self) -> None:
        order = b"little"
        if f"{self._root}byteorder" in self._zip.namelist():
            order = self._read("byteorder", 16)
        if order != b"little" or sys.byteorder != "little":
            raise ModelFileError(f"{self.path}: written or read on a big-endian machine: not supported")

    def _info(self, name: str) -> zipfile.ZipInfo:
        try:
            return self._zip.getinfo(self._root + name)
        except KeyError:
            raise ModelFileError(f"{self.path}: damaged: it has no entry {name}") from None

    def _read(self, name: str, limit: int) -> bytes:
        info = self._info(name)
        if info.file_size > limit:
            raise ModelFileError(f"{self.path}: entry {name} has {info.file_size} bytes, at most {limit} are read")
        try:
            return self._zip.read(info)
        except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
            raise ModelFileError(f"{self.path}: damaged: entry {name} ({reason_of(error)})") from None


def strided(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Tensor | None:
    """Return a contiguous copy of a view of a storage (n,), or None if the view exceeds it or repeats its numbers."""
    if len(size) != len(stride) or offset < 0 or min((0, *size, *stride)) < 0:
        return None
    count = math.prod(size)
    if count == 0:
        return storage.new_empty(0).reshape(size) if max((0, *size)) < 2**31 else None
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if count > len(storage) or last >= len(storage):
        return None
    return storage.as_strided(size, stride, offset).clone(memory_format=torch.contiguous_format)
