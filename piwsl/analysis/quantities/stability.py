"""How long a run stays a molecule."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from piwsl.analysis.statistics.results import Measurement, plain
from piwsl.structures.bonds import Bonds, bond_lengths
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
        length, reference_length: angstrom; the length is NaN where positions are. Without any bonds, both atoms are the
            one whose position is no number.
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
        if broken is not None:
            broken |= {key: plain(broken[key]) for key in ("length", "reference_length")}
        return {
            "time": self.time.as_dict(),
            "lower_bound": self.broken is None,
            "resolution_fs": self.resolution,
            "stable_frames": self.frames,
            "frames": self.all_frames,
            "largest_deviation_angstrom": LARGEST_DEVIATION,
            "broken": broken,
        }


class StabilityWatch:
    """Looks for the first frame in which a bond is more than 0.5 angstrom off its mean length in the reference.

    The rule of Fu et al., TMLR 2023 (arXiv 2210.07237). A frame with a position that is no number is broken too.

    Args:
        bonds: bonds with their mean lengths in the reference.
        times: (frames,) fs since the start of the run.
    """

    def __init__(self, bonds: Bonds, times: FloatArray) -> None:
        self._bonds, self._times = bonds, times

    def find(self, positions: FloatArray, first: int) -> BrokenBond | None:
        """The break in a piece (f, atoms, 3), angstrom, that begins with frame ``first``."""
        return self.find_lengths(bond_lengths(positions, self._bonds.pairs), positions, first)

    def find_lengths(self, lengths: FloatArray, positions: FloatArray, first: int) -> BrokenBond | None:
        """The same where the lengths of the bonds (f, bonds), angstrom, are known."""
        bonds = self._bonds
        # "not within" instead of "beyond": a comparison with NaN is false.
        outside = ~(np.abs(lengths - bonds.lengths) <= LARGEST_DEVIATION)
        broken = np.flatnonzero(outside.any(axis=1) | ~np.isfinite(positions).all(axis=(1, 2)))
        if not len(broken):
            return None
        frame = int(broken[0])
        if not len(bonds):  # then a position is no number
            atom = int(np.argmin(np.isfinite(positions[frame]).all(axis=1)))
            return BrokenBond(first + frame, float(self._times[first + frame]), (atom, atom), "", np.nan, np.nan)
        deviation = np.abs(lengths[frame] - bonds.lengths)
        bond = int(np.argmax(np.where(np.isnan(deviation), np.inf, deviation)))
        return BrokenBond(
            first + frame,
            float(self._times[first + frame]),
            (int(bonds.pairs[bond, 0]), int(bonds.pairs[bond, 1])),
            bonds.types[bond],
            float(lengths[frame, bond]),
            float(bonds.lengths[bond]),
        )

    def stability(self, broken: BrokenBond | None) -> Stability:
        """What was found over the whole run."""
        times = self._times
        resolution = float(times[1] - times[0]) if len(times) > 1 else float(times[0])
        end = float(times[-1]) if broken is None else broken.time
        frames = len(times) if broken is None else broken.frame
        return Stability(Measurement(end, None, "fs", 1), frames, len(times), resolution, broken)


def stable_time(positions: FloatArray, times: FloatArray, bonds: Bonds) -> Stability:
    """Stable time of frames in memory (frames, atoms, 3), angstrom, by the rule of `StabilityWatch`."""
    watch = StabilityWatch(bonds, times)
    return watch.stability(watch.find(positions, 0))
