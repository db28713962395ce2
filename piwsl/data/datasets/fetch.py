"""Download named data sets once, and verify them at every use."""

import errno
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from piwsl.data.datasets.registry import Dataset, RemoteFile, dataset
from piwsl.errors import DataError, MissingDependencyError, public, reason_of
from piwsl.runs.files import sha256, write_text
from piwsl.runs.scratch import temporary_directory

if TYPE_CHECKING:
    from piwsl.data.datasets.download import Progress
import tarfile
import zipfile
import zlib
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import IO

FOLDER_VARIABLE = "PIWSL_DATA_DIR"
LOGGER = logging.getLogger(__name__)


def data_folder(folder: Path | None = None) -> Path:
    """Return the folder of the data sets: ``folder``, the environment variable PIWSL_DATA_DIR, or the user's cache."""
    if folder is not None:
        return folder
    if named := os.environ.get(FOLDER_VARIABLE):
        return Path(named)
    return Path(_pooch().os_cache("piwsl"))


@public
def fetch(name: str, folder: Path | None = None, progress: "Progress | None" = None) -> Path:
    """Download a data set if necessary, and verify it.

    An existing file is used after verification. A file with a wrong checksum is removed and never used. If no checksum
    is published, the checksum of the first copy is stored next to the file and used from then on.

    Args:
        name: Name of the data set, such as ``rmd17:aspirin``.
        folder: Folder of the data sets (see `data_folder`).
        progress: Function called with (bytes present, total bytes or None).

    Returns:
        Path of the file to read, or of the folder with the files.

    Raises:
        ConfigError: No data set has this name.
        DataError: The data set cannot be downloaded or verified.
        MissingDependencyError: The package pooch is not installed.
    """
    record = dataset(name)
    folder = data_folder(folder)
    if not record.file.urls:
        return _placed_by_hand(record, folder)
    if (verified := _verified(record, folder)) is not None:
        return verified
    with _disk_errors(record, folder), _one_at_a_time(folder / f".{record.file.name}.lock"):
        _remove_if_wrong(record, folder)
        if not (folder / record.file.name).is_file():
            _download(record, folder, progress)
        return _prepare(record, folder)


def recorded_sha256(name: str, folder: Path | None = None) -> str | None:
    """Return the SHA-256 of the first copy of a data set without a published checksum; None if no copy exists."""
    digest = _digest_file(data_folder(folder) / dataset(name).file.name)
    return digest.read_text().split()[0] if digest.is_file() else None


def _digest_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _expected(file: RemoteFile, path: Path) -> str | None:
    """Return the published checksum, or else the checksum of the first copy; None if there is neither."""
    if file.checksum is not None:
        return file.checksum
    digest = _digest_file(path)
    return f"sha256:{digest.read_text().split()[0]}" if digest.is_file() else None


def _matches(path: Path, checksum: str) -> bool:
    algorithm, _, digest = checksum.partition(":")
    return bool(_pooch().file_hash(str(path), alg=algorithm) == digest)


def _placed_by_hand(record: Dataset, folder: Path) -> Path:
    path = folder / record.file.name
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        return path
    raise DataError(
        f"{record.name} cannot be downloaded automatically: download it from {record.file.page} and save it as {path}"
    )


def _verified(record: Dataset, folder: Path) -> Path | None:
    """Return the file or folder to read if it is complete and verified, without changing any file."""
    path = folder / record.file.name
    target = _unpacked(record, folder) if record.file.members else path
    expected = _expected(record.file, path)
    if expected is None or not path.is_file() or not target.exists():
        return None
    return target if _matches(path, expected) else None


def _remove_if_wrong(record: Dataset, folder: Path) -> None:
    path = folder / record.file.name
    expected = _expected(record.file, path)
    if expected is not None and path.is_file() and not _matches(path, expected):
        LOGGER.warning("%s: wrong checksum (expected %s): removed", path, expected)
        path.unlink()


def _prepare(record: Dataset, folder: Path) -> Path:
    """Unpack the file if necessary, and store its checksum if none is published."""
    path, target = folder / record.file.name, folder / record.file.name
    unknown = _expected(record.file, path) is None
    try:
        if record.file.members:
            target = _unpacked(record, folder)
            if not target.is_dir():
                unpack(path, record.file.members, target)
        elif unknown and path.suffix == ".npz":
            check_zip(path)  # without a published checksum, no other check is available
    except DataError as error:
        path.unlink()
        raise DataError(f"{error}: removed; fetch it again") from None
    if unknown:
        write_text(_digest_file(path), f"{sha256(path)}  {path.name}\n")
    return target


def _unpacked(record: Dataset, folder: Path) -> Path:
    return folder / record.name.replace(":", "-")


def _download(record: Dataset, folder: Path, progress: "Progress | None") -> None:
    pooch, file = _pooch(), record.file
    from piwsl.data.datasets.download import BrokenDownload, Downloader  # needs requests, a dependency of pooch

    folder.mkdir(parents=True, exist_ok=True)
    downloader = Downloader(folder / f"{file.name}.part", progress)
    _check_space(record, folder, downloader.part)
    if file.members:
        shutil.rmtree(_unpacked(record, folder), ignore_errors=True)  # files unpacked from an earlier copy
    expected = _expected(file, folder / file.name)
    failures = []
    for url in file.urls:
        try:
            pooch.retrieve(url, expected, fname=file.name, path=folder, downloader=downloader)
            return
        except BrokenDownload as error:
            failures.append(str(error))
        except ValueError:  # wrong checksum; pooch has removed the file
            remedy = (
                ""
                if file.checksum
                else f"; if the publisher has changed the file, remove {_digest_file(folder / file.name)}"
            )
            failures.append(f"the file from {url} has a wrong checksum (expected {expected}) and was removed{remedy}")
    raise DataError(
        f"{record.name}: download failed: {'; '.join(dict.fromkeys(failures))} "
        f"(or put {file.name} from {file.page} into {folder})"
    )


def _check_space(record: Dataset, folder: Path, part: Path) -> None:
    if record.file.size is None:
        return
    missing = record.file.size - (part.stat().st_size if part.exists() else 0)
    free = shutil.disk_usage(folder).free
    if missing > free:
        raise DataError(
            f"{record.name}: {missing / 1e6:.0f} MB are missing, but {folder} has only {free / 1e6:.0f} MB left: "
            f"free some space or choose another folder (argument folder, or {FOLDER_VARIABLE})"
        )


@contextmanager
def _disk_errors(record: Dataset, folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                f"{record.name}: the disk of {folder} is full: free some space and try again (downloaded data are kept)"
            ) from None
        raise DataError(f"{record.name}: {folder} cannot be written ({reason_of(error)})") from None


@contextmanager
def _one_at_a_time(lock: Path) -> Iterator[None]:
    """Let only one process of a training run download at a time."""
    from filelock import FileLock

    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        yield


def _pooch() -> Any:
    try:
        import pooch
    except ImportError as error:
        raise MissingDependencyError("pooch", "fetching a data set", "data") from error
    pooch.get_logger().setLevel("WARNING")  # by default, pooch logs every step
    return pooch


def unpack(archive: Path, members: tuple[str, ...], folder: Path) -> None:
    """Extract the regular files of a zip or tar archive that match a pattern into a new folder.

    Either all files are extracted or none. Directories in the archive are ignored.

    Raises:
        DataError: The archive is damaged or contains no matching file.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary_directory(folder.parent, f".{folder.name}.", ".tmp") as temporary:
            unpacked = temporary / folder.name
            unpacked.mkdir()
            _extract(archive, members, unpacked)
            if folder.exists():
                shutil.rmtree(folder)
            unpacked.rename(folder)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(f"{archive}: damaged archive ({error})") from None


def _extract(archive: Path, members: tuple[str, ...], folder: Path) -> None:
    count = 0
    with _opened(archive) as files:
        for name, stream in files:
            path = PurePosixPath(name)
            if "__MACOSX" in path.parts or not any(fnmatchcase(name, pattern) for pattern in members):
                continue
            with (folder / path.name).open("wb") as target:
                shutil.copyfileobj(stream, target)
            count += 1
    if not count:
        raise DataError(f"{archive}: contains no file that matches {' or '.join(members)}")


def check_zip(path: Path) -> None:
    """Verify the checksums of the members of a zip file, such as an npz file.

    Raises:
        DataError: The file is damaged or not a zip file.
    """
    try:
        with zipfile.ZipFile(path) as content:
            broken = content.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(f"{path}: damaged file ({error})") from None
    if broken is not None:
        raise DataError(f"{path}: damaged file ({broken})")


@contextmanager
def _opened(archive: Path) -> Iterator[Iterator[tuple[str, IO[bytes]]]]:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as content:
            yield ((name, content.open(name)) for name in content.namelist() if not name.endswith("/"))
        return
    with tarfile.open(archive, "r|*") as stream:  # read sequentially, because bzip2 cannot seek
        yield ((member.name, file) for member in stream if member.isfile() and (file := stream.extractfile(member)))
