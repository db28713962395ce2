"""One door to every data file."""

from pathlib import Path

import numpy as np

from piwsl.data.ase_files import read_ase
from piwsl.data.frames import FrameSet
from piwsl.data.npz import read_npz
from piwsl.errors import DataError
from piwsl.units import LabelUnits


def read_frames(path: Path, units: LabelUnits | None = None) -> FrameSet:
    """Read labelled structures from an npz file or any file ASE reads (extended XYZ, also gzipped).

    Args:
        path: the file.
        units: units of its numbers, where the file does not state them; ASE formats count as eV and angstrom.

    Returns:
        Frames in eV and angstrom, float64, NaN where a label is missing.

    Raises:
        DataError: the file cannot be read, a label or a position is not a finite number, or a label is absurd.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    frames = read_npz(path, units) if path.suffix == ".npz" else read_ase(path, units)
    for index, frame in enumerate(frames):
        if not np.isfinite(frame.positions).all():
            raise DataError(f"{path}: frame {index}: a position is not a finite number")
    return frames
