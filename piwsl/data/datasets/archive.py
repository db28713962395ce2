"""Taking files out of an archive, without trusting the paths in it."""

import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO

from piwsl.errors import DataError


def unpack(archive: Path, members: tuple[str, ...], folder: Path) -> None:
    """Put the plain files whose path in a zip or tar archive fits a pattern into a new folder, all or none.

    Their folders in the archive are left away.

    Raises:
        DataError: the archive is damaged or holds no such file.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        count = 0
        with _opened(archive) as files:
            for name, stream in files:
                path = PurePosixPath(name)
                if "__MACOSX" in path.parts or not any(fnmatchcase(name, pattern) for pattern in members):
                    continue
                with (temporary / path.name).open("wb") as target:
                    shutil.copyfileobj(stream, target)
                count += 1
        if not count:
            raise DataError(f"{archive}: holds no file like {' or '.join(members)}")
        temporary.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(f"{archive}: damaged archive ({error})") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_zip(path: Path) -> None:
    """Check the sums that a zip file (an npz file is one) holds of its parts.

    Raises:
        DataError: it is damaged, or no zip file.
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
    with tarfile.open(archive, "r|*") as stream:  # read once from front to end: bzip2 cannot jump
        yield ((member.name, file) for member in stream if member.isfile() and (file := stream.extractfile(member)))
