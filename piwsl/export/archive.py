"""Verified reading of model files, which are zip archives.

PyTorch does not verify the checksums of an archive and would silently load damaged weights. Therefore, each file is
read once and verified here, and all later steps use the verified bytes instead of the path.
"""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from piwsl.errors import ModelFileError, not_a_file, reason_of

LARGEST_FILE = 16 * 2**30  # bytes
# Weights are stored uncompressed. Code and debugging information are compressed.
LARGEST_COMPRESSED = 2**29  # bytes of all compressed members, after decompression
LARGEST_DESCRIPTION = 2**26  # bytes


@dataclass(frozen=True)
class Archive:
    """Content of a model file whose members match their checksums.

    Attributes:
        path: Path of the file.
        content: Bytes of a rewritten archive with the same members, see `_verified`.
        digests: SHA-256 of each member, hexadecimal, by its name without the top-level folder.
    """

    path: Path
    content: bytes = field(repr=False)
    digests: dict[str, str]

    @property
    def has_code(self) -> bool:
        """Whether the archive contains TorchScript or a compiled library."""
        return any(_is_code(name) for name in self.digests)

    def read(self, name: str) -> bytes | None:
        """Return a member by its name without the top-level folder, or None if it does not exist."""
        with zipfile.ZipFile(BytesIO(self.content)) as archive:
            for entry in archive.infolist():
                if without_top(entry.filename) == name:
                    return archive.read(entry)
        return None


def read_archive(path: Path, kind: str, advice: str) -> Archive:
    """Read a model file and verify the checksums of all members, without executing anything in the file.

    Args:
        path: Path of the file.
        kind: Expected kind of file, used in messages.
        advice: Advice for damaged files, used in messages.

    Raises:
        ModelFileError: The file is missing, cannot be read, is not an archive, or is damaged.
    """
    if not path.is_file():
        raise ModelFileError(not_a_file(path))
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ModelFileError(
                f"{path}: larger than {LARGEST_FILE / 2**30:g} GiB, so it is not {kind}: check the path"
            )
        content = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({reason_of(error)})") from None
    try:
        return Archive(path, *_verified(content))
    except Exception as error:  # zipfile raises many kinds of errors for damaged files
        raise ModelFileError(f"{path}: damaged or not {kind} ({reason_of(error)}): {advice}") from None


def member_digests(content: bytes) -> dict[str, str]:
    """Return the SHA-256 of each member of an archive, hexadecimal, by its name without the top-level folder."""
    return _verified(content)[1]


def without_top(name: str) -> str:
    """Return the name of a member without the top-level folder of the archive."""
    return name.partition("/")[2]


def parsed(text: bytes | str) -> Any:
    """Parse JSON text from a file.

    Raises:
        ValueError: The text is not JSON, is too long, or is nested too deeply.
    """
    if len(text) > LARGEST_DESCRIPTION:
        raise ValueError(f"the description is larger than {LARGEST_DESCRIPTION / 2**20:g} MiB")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("the description is nested too deeply") from None


def check_members(path: Path, digests: Mapping[str, str], recorded: Mapping[str, str], own: str) -> None:
    """Raise an error if the members of an archive do not match the hashes in its description.

    Args:
        path: Path of the file, used in messages.
        digests: Hashes of the members.
        recorded: Hashes in the description.
        own: Name of the member that contains the description.

    Raises:
        ModelFileError: A member was added, removed or replaced.
    """
    names = {*digests, *recorded} - {own}
    wrong = sorted(name for name in names if digests.get(name) != recorded.get(name))
    if wrong:
        raise ModelFileError(
            f"{path}: the member {wrong[0]} was changed after the export, so the code of the file is not run: "
            "export it again"
        )


def _verified(content: bytes) -> tuple[bytes, dict[str, str]]:
    """Return a rewritten archive with the same members, and the SHA-256 of each member.

    PyTorch interprets some fields of an archive differently from `zipfile`. For instance, a changed bit can result in
    an empty member whose tensor is not initialized. A rewritten archive is unambiguous.

    Raises:
        ValueError: Two members have the same name, members are in several folders, or members are too large.
        zipfile.BadZipFile: A checksum differs. Other kinds of damage raise other exceptions.
    """
    digests: dict[str, str] = {}
    clean = BytesIO()
    with zipfile.ZipFile(BytesIO(content)) as archive, zipfile.ZipFile(clean, "w") as copy:
        entries = archive.infolist()
        compressed = sum(entry.file_size for entry in entries if entry.compress_type != zipfile.ZIP_STORED)
        stored = sum(entry.file_size for entry in entries if entry.compress_type == zipfile.ZIP_STORED)
        if compressed > LARGEST_COMPRESSED or stored > len(content):
            raise ValueError("the members are larger than the size of the file allows")
        if len({entry.filename.partition("/")[0] for entry in entries}) != 1:
            raise ValueError("the members are not in a single folder")
        for entry in entries:
            data = archive.read(entry)  # verifies the checksum
            name = without_top(entry.filename)
            if name in digests:
                raise ValueError("two members have the same name")
            digests[name] = hashlib.sha256(data).hexdigest()
            copy.writestr(zipfile.ZipInfo(entry.filename), data)
    return clean.getvalue(), digests


def _is_code(name: str) -> bool:
    return name.startswith("code/") or name.endswith((".so", ".dylib", ".pyd", ".dll"))
