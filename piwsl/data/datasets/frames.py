"""The frames of a named data set."""

from pathlib import Path
from typing import TYPE_CHECKING

from piwsl.data.datasets.fetch import fetch, recorded_sha256
from piwsl.data.datasets.registry import dataset
from piwsl.data.frames import FrameSet
from piwsl.units import parse_units

if TYPE_CHECKING:
    from piwsl.data.datasets.download import Progress


def dataset_frames(name: str, folder: Path | None = None, progress: "Progress | None" = None) -> FrameSet:
    """Frames of a named data set in eV and angstrom; fetched first where it is not here.

    Args:
        name: of the set, such as ``rmd17:aspirin``.
        folder: where it is kept (see `data_folder`).
        progress: of a download, called with (bytes here, bytes in all or None).

    Raises:
        ConfigError: there is no such set.
        DataError: it cannot be fetched or read.
    """
    from piwsl.data.read import read_frames  # which itself asks here for names

    record = dataset(name)
    path = fetch(name, folder, progress)
    frames = read_frames(path, parse_units(record.units))
    notes = list(frames.notes)
    digest = recorded_sha256(name, folder)
    if digest is not None:
        notes.append(f"no checksum of {record.file.name} is published; that of the copy here is sha256:{digest}")
    return FrameSet(frames.frames, Path(record.name), tuple(notes), frames.files)
