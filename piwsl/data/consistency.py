"""Check whether the frames of a data set are consistent: energies of one kind, and no structure twice."""

from dataclasses import dataclass

import numpy as np

from piwsl.data.census import Census
from piwsl.data.frames import Frame, FrameSet
from piwsl.structures.matching import formula_of
from piwsl.typing import FloatArray, IntArray

_FEWEST = 3  # frames on either side of a gap
_GAP = 0.5  # eV/atom; isomers and phases of one formula differ by less
_GAP_TO_WIDTH = 3.0  # of the gap to the range of the energies on either side
_FEWEST_EQUAL = 5  # equal energies
_FEWEST_ROUNDED = 10  # different energies
_COARSE = 9e-4  # eV; rounding of energies to single precision above 8192 eV
_READ = 2_000  # frames of a file that is read on access
_DECIMALS = 5  # of compared coordinates, angstrom
_SAME_ENERGY = 1e-3  # eV
_MANY_COPIES = 0.01  # of the frames; fewer do not change errors


def energy_warnings(census: Census) -> list[str]:
    """Return warnings about energies at equal formula and charge that are all equal, rounded or of two kinds."""
    labeled = np.flatnonzero(census.has_energy)
    if not len(labeled):
        return []
    charges = np.nan_to_num(census.charge_spin[labeled, 0].astype(float), nan=0.0)
    keys = np.column_stack([census.composition[labeled].astype(float), charges])
    _, inverse = np.unique(keys, axis=0, return_inverse=True)
    order = np.argsort(inverse.reshape(-1), kind="stable")
    ends = np.flatnonzero(np.diff(inverse.reshape(-1)[order])) + 1
    gaps: list[tuple[float, str]] = []
    equal: list[str] = []
    rounded: list[tuple[float, str]] = []
    for group in np.split(labeled[order], ends):
        values = np.sort(census.energy[group]) / census.sizes[group[0]]
        if len(values) >= _FEWEST_EQUAL and values[0] == values[-1]:
            equal.append(f"all {len(values)} energies of {_formula(census, group[0])} are equal")
        step = _rounding(np.unique(census.energy[group]))
        if step:
            rounded.append((step, f"energies of {_formula(census, group[0])} are multiples of {step:.3g} eV apart"))
        steps = np.diff(values)[_FEWEST - 1 : len(values) - _FEWEST]
        if not len(steps):
            continue
        last = int(steps.argmax()) + _FEWEST - 1  # of the lower energies
        gap, width = values[last + 1] - values[last], max(values[last] - values[0], values[-1] - values[last + 1])
        if gap > max(_GAP, _GAP_TO_WIDTH * width):
            counts = f"{last + 1} and {len(values) - last - 1}"
            text = f"energies of {_formula(census, group[0])} in two groups of {counts} frames, {gap:.3g} eV/atom apart"
            gaps.append((gap, text))
    warnings = [f"{equal[0]}{_more(equal)}: check that they belong to these structures"] if equal else []
    if rounded:
        warnings.append(
            f"{max(rounded)[1]}{_more(rounded)}: they have lost digits, as in single precision or by a format with few "
            "decimals: store them in double precision"
        )
    if gaps:
        warnings.append(f"{max(gaps)[1]}{_more(gaps)}: check that all are total energies at the same level of theory")
    return warnings


def _rounding(energies: FloatArray) -> float:
    """Return the step of which all differences of ascending energies (n,) are multiples, eV; 0 if it is negligible."""
    differences = np.diff(energies)
    if len(differences) < _FEWEST_ROUNDED or (step := float(differences.min())) < _COARSE:
        return 0.0
    multiples = differences / step
    return step if np.abs(multiples - np.round(multiples)).max() < 1e-3 else 0.0


def _formula(census: Census, index: int) -> str:
    counts = census.compositions[census.composition[index]]
    return formula_of(np.repeat(census.numbers, counts))


def _more(found: list[str] | list[tuple[float, str]]) -> str:
    return f" (and those of {len(found) - 1} more formulas)" if len(found) > 1 else ""


@dataclass(frozen=True)
class Repeats:
    """Frames with the structure of another frame.

    Attributes:
        frames: Number of frames with the structure, charge and spin of an earlier frame.
        contradicting: Number of these whose energy differs from that of the earlier frame.
        largest_difference: Largest difference of these energies, eV.
        compared: Number of frames that were compared.
    """

    frames: int
    contradicting: int
    largest_difference: float
    compared: int

    @property
    def copies(self) -> int:
        """Number of frames with the structure of an earlier frame and no other energy."""
        return self.frames - self.contradicting

    def warnings(self) -> list[str]:
        """Return warnings about repeated frames."""
        warnings = []
        if self.contradicting:
            warnings.append(
                f"{self.contradicting} of {self.compared} frames have the structure of another frame and another "
                f"energy (by up to {self.largest_difference:.3g} eV): check that all have the same level of theory"
            )
        if self.copies > _MANY_COPIES * self.compared:
            warnings.append(
                f"{self.copies} of {self.compared} frames are copies of another frame: remove the copies, "
                "because errors on test frames that are also training frames are too small"
            )
        return warnings


def survey_repeats(frames: FrameSet) -> Repeats:
    """Compare all labeled frames in memory. Of a file that is read on access, compare frames with equal energies."""
    labeled = np.flatnonzero(frames.census.labeled)
    energies: dict[tuple[bytes, ...], float] = {}
    repeated = 0
    differences: list[float] = []
    for index in labeled if isinstance(frames.frames, list) else _with_equal_energies(frames.census)[:_READ]:
        frame = frames[int(index)]
        key = _key(frame)
        if key not in energies:
            energies[key] = frame.energy
            continue
        repeated += 1
        difference = abs(frame.energy - energies[key])  # NaN without energies
        if difference > _SAME_ENERGY:
            differences.append(difference)
    return Repeats(repeated, len(differences), max(differences, default=0.0), len(labeled))


def _with_equal_energies(census: Census) -> IntArray:
    """Return the indices of frames with the composition and energy of another frame, equal frames together."""
    order = np.lexsort((census.energy, census.composition))
    order = order[census.has_energy[order]]
    if not len(order):
        return np.asarray(order)
    same = (np.diff(census.energy[order]) == 0) & (np.diff(census.composition[order]) == 0)
    return np.asarray(order[np.append(same, False) | np.append(False, same)])


def _key(frame: Frame) -> tuple[bytes, ...]:
    """Return what identifies a structure, charge and spin."""
    lengths = (np.round(values, _DECIMALS) + 0.0 for values in (frame.positions, frame.cell))  # -0 becomes 0
    return (
        frame.species.tobytes(),
        *(values.tobytes() for values in lengths),
        bytes(frame.pbc),
        str(frame.charge_spin).encode(),
    )
