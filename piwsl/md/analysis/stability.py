"""How long a run stays a molecule."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from piwsl.md.analysis.bonds import Bonds, bond_lengths
from piwsl.md.analysis.results import Measurement
from piwsl.typing import FloatArray

LARGEST_DEVIATION = 0.5  # angstrom, of a bond from its mean length in the reference


@dataclass(frozen=True)
class BrokenBond:
    """The first frame that is no longer the molecule, and the bond that says so.

    Attributes:
        frame: index of the frame.
        time: of the frame, fs.
        atoms: the two atoms of the bond.
        kind: such as ``C-H``.
        length, reference_length: angstrom; the length is NaN where positions are.
    """

    frame: int
    time: float
    atoms: tuple[int, int]
    kind: str
    length: float
    reference_length: float


@dataclass(frozen=True)
class Stability:
    """Stable time of one run.

    Attributes:
        time: until the first broken frame, or until the end, fs. One run is one sample: no error bar.
        frames: number of frames before the first broken one.
        all_frames: number of frames looked at.
        resolution: interval between frames, fs.
        broken: what broke, or None: the stable time is then a lower bound.
    """

    time: Measurement
    frames: int
    all_frames: int
    resolution: float
    broken: BrokenBond | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        broken = None if self.broken is None else asdict(self.broken)
        if broken is not None and not np.isfinite(broken["length"]):
            broken["length"] = None
        return {
            "time": self.time.as_dict(),
            "lower_bound": self.broken is None,
            "resolution_fs": self.resolution,
            "stable_frames": self.frames,
            "frames": self.all_frames,
            "largest_deviation_angstrom": LARGEST_DEVIATION,
            "broken": broken,
        }


def stable_time(positions: FloatArray, times: FloatArray, bonds: Bonds) -> Stability:
    """Time of the first frame in which a bond is more than 0.5 angstrom off its mean length in the reference.

    The rule of Fu et al., TMLR 2023 (arXiv 2210.07237). A frame with a position that is no number is broken too.

    Args:
        positions: (frames, atoms, 3) angstrom.
        times: (frames,) fs since the start of the run.
        bonds: bonds with their mean lengths in the reference.
    """
    lengths = bond_lengths(positions, bonds.pairs)
    # "not within" instead of "beyond": a comparison with NaN is false.
    outside = ~(np.abs(lengths - bonds.lengths) <= LARGEST_DEVIATION)
    frames_broken = np.flatnonzero(outside.any(axis=1) | ~np.isfinite(positions).all(axis=(1, 2)))
    resolution = float(times[1] - times[0]) if len(times) > 1 else float(times[0])
    if not len(frames_broken):
        time = Measurement(float(times[-1]), None, "fs", 1)
        return Stability(time, len(positions), len(positions), resolution, None)
    frame = int(frames_broken[0])
    deviation = np.abs(lengths[frame] - bonds.lengths)
    bond = int(np.argmax(np.where(np.isnan(deviation), np.inf, deviation)))
    broken = BrokenBond(
        frame,
        float(times[frame]),
        (int(bonds.pairs[bond, 0]), int(bonds.pairs[bond, 1])),
        bonds.types[bond],
        float(lengths[frame, bond]),
        float(bonds.lengths[bond]),
    )
    return Stability(Measurement(broken.time, None, "fs", 1), frame, len(positions), resolution, broken)
