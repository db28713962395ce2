"""Limits of the operating system for a while."""

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def limited_files(size: int) -> Iterator[None]:
    """No file grows beyond a size, in bytes: writing there fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


_MOUNT = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@"'


def can_mount() -> bool:
    """Return whether a test may mount a file system of its own (Linux with user namespaces)."""
    if not sys.platform.startswith("linux") or shutil.which("unshare") is None:
        return False
    return (
        subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True).returncode == 0
    )


def on_small_disk(
    folder: Path, size: int, command: Sequence[str], environment: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a command that sees a new file system of ``size`` bytes at a folder; it ends with a list of its files.

    Args:
        folder: existing folder on which the file system is mounted.
        size: of the file system, bytes.
        command: to run.
        environment: variables to change.
    """
    listing = 'code=0; "$@" || code=$?; find "$FOLDER" -mindepth 1 ! -type d; exit $code'
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", _MOUNT, "sh", str(size), str(folder), "sh", "-c", listing, "sh", *command],
        capture_output=True,
        text=True,
        env={**os.environ, "FOLDER": str(folder), **(environment or {})},
        timeout=300,
    )
