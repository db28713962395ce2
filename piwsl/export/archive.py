"""The boundary through which model files are read: a zip archive, read once and verified before anything else.

PyTorch does not look at the checksums of an archive, so damaged weights would be used without a word. Whatever is
loaded afterwards comes from the bytes that were verified here, not from the path.
"""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from piwsl.errors import ModelFileError, reason_of

LARGEST_FILE = 16 * 2**30  # bytes
# Weights are stored as they are; code and debugging information are compressed.
LARGEST_COMPRESSED = 2**29  # bytes of all compressed members, after decompression
LARGEST_DESCRIPTION = 2**26  # bytes


@dataclass(frozen=True)
class Archive:
    """A model file whose members agree with their checksums.

    Attributes:
        path: The file.
        content: Its members in an archive written anew, see `_verified`.
        digests: SHA-256 of each member, hexadecimal, by its name without the folder at the top.
    """

    path: Path
    content: bytes = field(repr=False)
    digests: dict[str, str]

    @property
    def has_code(self) -> bool:
        """Whether it contains TorchScript or a compiled library."""
        return any(_is_code(name) for name in self.digests)

    def read(self, name: str) -> bytes | None:
        """Return a member by its name without the folder at the top; None where there is none."""
        with zipfile.ZipFile(BytesIO(self.content)) as archive:
            for entry in archive.infolist():
                if without_top(entry.filename) == name:
                    return archive.read(entry)
        return None


def read_archive(path: Path, kind: str, advice: str) -> Archive:
    """Read a model file and compare all of its members with their checksums; nothing in it is executed.

    Args:
        path: The file.
        kind: What it should be.
        advice: What to do about a damaged file.

    Raises:
        ModelFileError: The file is missing, cannot be read, is no archive, or is damaged.
    """
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file")
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ModelFileError(f"{path}: larger than {LARGEST_FILE / 2**30:g} GiB: not {kind}")
        content = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({reason_of(error)})") from None
    try:
        return Archive(path, *_verified(content))
    except Exception as error:  # zipfile raises a dozen kinds on damaged bytes
        raise ModelFileError(f"{path}: damaged or not {kind} ({reason_of(error)}): {advice}") from None


def member_digests(content: bytes) -> dict[str, str]:
    """Return the SHA-256 of each member of an archive, hexadecimal, by its name without the folder at the top."""
    return _verified(content)[1]


def without_top(name: str) -> str:
    """Return the name of a member without the folder that all members are in."""
    return name.partition("/")[2]


def parsed(text: bytes | str) -> Any:
    """Return the content of JSON text from a file.

    Raises:
        ValueError: It is not JSON, too long, or nested too deeply.
    """
    if len(text) > LARGEST_DESCRIPTION:
        raise ValueError(f"a description of more than {LARGEST_DESCRIPTION / 2**20:g} MiB")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("a description that is nested too deeply") from None


def check_members(path: Path, digests: Mapping[str, str], recorded: Mapping[str, str], own: str) -> None:
    """Compare the members of an archive with the hashes in its description.

    Args:
        path: The file.
        digests: Hashes of its members.
        recorded: Hashes in its description.
        own: The member that contains the description.

    Raises:
        ModelFileError: A member was added, removed or replaced.
    """
    names = {*digests, *recorded} - {own}
    wrong = sorted(name for name in names if digests.get(name) != recorded.get(name))
    if wrong:
        raise ModelFileError(
            f"{path}: {wrong[0]} inside it is not what was exported: the file was changed, its code is not run: "
            "export it again"
        )


def _verified(content: bytes) -> tuple[bytes, dict[str, str]]:
    """Return an archive of the same members, and the SHA-256 of each member.

    The reader of PyTorch takes some fields of an archive differently: a changed bit makes it see an empty member, whose
    tensor is not initialized. An archive that is written anew has one meaning alone.

    Raises:
        ValueError: Two members have one name, members are in several folders, or they are too large.
        zipfile.BadZipFile: A checksum differs. Other exceptions: other damage.
    """
    digests: dict[str, str] = {}
    clean = BytesIO()
    with zipfile.ZipFile(BytesIO(content)) as archive, zipfile.ZipFile(clean, "w") as copy:
        entries = archive.infolist()
        compressed = sum(entry.file_size for entry in entries if entry.compress_type != zipfile.ZIP_STORED)
        stored = sum(entry.file_size for entry in entries if entry.compress_type == zipfile.ZIP_STORED)
        if compressed > LARGEST_COMPRESSED or stored > len(content):
            raise ValueError("its members are larger than the file can hold")
        if len({entry.filename.partition("/")[0] for entry in entries}) != 1:
            raise ValueError("its members are not in one folder")
        for entry in entries:
            data = archive.read(entry)  # compares the checksum
            name = without_top(entry.filename)
            if name in digests:
                raise ValueError("two of its members have one name")
            digests[name] = hashlib.sha256(data).hexdigest()
            copy.writestr(zipfile.ZipInfo(entry.filename), data)
    return clean.getvalue(), digests


def _is_code(name: str) -> bool:
    return name.startswith("code/") or name.endswith((".so", ".dylib", ".pyd", ".dll"))
