"""Write frames to files in several formats without holding all frames in memory."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

from piwsl.data.formats.ase_files import write_extxyz
from piwsl.data.formats.databases import write_sqlite
from piwsl.data.formats.lmdb import write_lmdb
from piwsl.data.formats.npz import write_npz
from piwsl.data.formats.packed import write_packed
from piwsl.data.frames import Frame, FrameSet
from piwsl.data.read import FrameSource, as_frames
from piwsl.errors import DataError, public
from piwsl.runs.files import atomic_path

Writer: TypeAlias = Callable[[Path, Iterable[Frame]], None]
_REPORTED = 1000  # frames between two calls of the progress function


@public
def write_frames(
    frames: FrameSource,
    output: str | Path,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Write frames to a file in the format that its suffix selects.

    ``.h5`` and ``.hdf5`` select the packed format, ``.xyz`` and ``.extxyz`` extended XYZ with ``REF_energy``,
    ``REF_forces`` and ``REF_stress``, ``.npz`` the rMD17 layout for frames of one molecule, and ``.db`` and
    ``.aselmdb`` ASE databases. Energies are in eV, lengths in angstrom.

    Args:
        frames: Frames, ASE structures, or any source that `read_frames` accepts.
        output: Output file. It appears under this name only when it is complete.
        force: Replace an existing file.
        progress: Function called with (frames written, total frames).

    Returns:
        Numbers of ``frames``, ``energies``, ``forces`` and ``stresses`` written.

    Raises:
        DataError: The suffix is unknown, the file exists, or the format cannot represent the frames.
        MissingDependencyError: The format needs a library that is not installed.
    """
    output, frames = Path(output), as_frames(frames)
    writer = check_output(output, force)
    counts = dict.fromkeys(("frames", "energies", "forces", "stresses"), 0)
    with atomic_path(output) as temporary:
        writer(temporary, _counted(frames, counts, progress))
        check_output(output, force)  # another process may have written the file in the meantime
    return counts


def check_output(output: Path, force: bool = False) -> Writer:
    """Return the function that writes the format of a file.

    Raises:
        DataError: The suffix is unknown, the path is a directory, or the file exists and ``force`` is not set.
    """
    writer = WRITERS.get(output.suffix.lower())
    if writer is None:
        raise DataError(f"{output}: cannot write a file with this suffix: use one of {', '.join(WRITERS)}")
    if output.is_dir():
        raise DataError(f"{output} is a directory, not a file: choose another name")
    if output.exists() and not force:
        raise DataError(f"{output} exists: choose another name, or replace it with force=True")
    return writer


def _counted(frames: FrameSet, counts: dict[str, int], progress: Callable[[int, int], None] | None) -> Iterator[Frame]:
    for done, frame in enumerate(frames, start=1):
        yield frame
        counts["frames"] = done
        counts["energies"] += frame.has_energy
        counts["forces"] += frame.has_forces
        counts["stresses"] += frame.has_stress
        if progress and (done % _REPORTED == 0 or done == len(frames)):
            progress(done, len(frames))


WRITERS: dict[str, Writer] = {
    ".h5": write_packed,
    ".hdf5": write_packed,
    ".extxyz": write_extxyz,
    ".xyz": write_extxyz,
    ".npz": write_npz,
    ".db": write_sqlite,
    ".aselmdb": write_lmdb,
}
