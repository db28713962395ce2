"""Check sign and magnitude of forces and stresses for plausibility, from the frames alone."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from ase.data import covalent_radii

from piwsl.data.frames import Frame, FrameSet
from piwsl.structures.neighbors import PairSearch
from piwsl.typing import FloatArray
from piwsl.units import BAR

# Values outside these ranges suggest that stresses are not in eV/angstrom^3.
STRESS_RMS_BAND = (0.0, 1.0)  # eV/angstrom^3; 160 GPa
BULK_MODULUS_BAND = (1e-4, 10.0)  # eV/angstrom^3; 0.016 to 1600 GPa
WRONG_SIGN = 0.5  # correlation above which the sign is considered wrong
GIGAPASCAL = 1e4 * BAR  # eV/angstrom^3
_SEARCH_RADIUS = 4.0  # angstrom
_BONDED = 1.25  # multiple of the sum of covalent radii
_FRAMES = 2000  # frames examined for distances and for stresses
_MOST_BONDS = 200_000  # pairs of length and force
_FEWEST_FRAMES, _FEWEST_BONDS = 5, 20
_ASYMMETRY = 1e-2  # relative to the largest component
_SPREAD_OF_VOLUME = 0.01


@dataclass(frozen=True)
class Geometry:
    """Interatomic distances and the forces along bonds.

    Attributes:
        smallest_distance: Smallest distance between two atoms, at most the search radius, angstrom.
        bond_correlation: Mean correlation between bond length and the force that stretches the bond; negative in a
            stable structure. None if there are too few bonds.
    """

    smallest_distance: float
    bond_correlation: float | None


def survey_geometry(frames: FrameSet) -> Geometry:
    """Measure distances, and forces along bonds, in evenly spaced frames."""
    search, smallest = PairSearch(_SEARCH_RADIUS), _SEARCH_RADIUS
    values = 0
    # Lengths and forces by composition and bond. All bonds of one pair of atoms have the same length at rest.
    bonds: dict[tuple[bytes, int, int], list[tuple[float, float]]] = defaultdict(list)
    for index in range(0, len(frames), max(1, len(frames) // _FRAMES)):
        frame = frames[index]
        pairs = search(frame.positions, frame.cell, frame.pbc)
        smallest = float(pairs.distances.min(initial=smallest))
        if not frame.has_forces or values > _MOST_BONDS:
            continue
        reach = _BONDED * (covalent_radii[frame.species[pairs.first]] + covalent_radii[frame.species[pairs.second]])
        pairs = pairs.select((pairs.distances < reach) & (pairs.distances > 0) & (pairs.first != pairs.second))
        vectors = frame.positions[pairs.second] - frame.positions[pairs.first] + pairs.images @ frame.cell
        along = np.einsum("ij,ij->i", frame.forces[pairs.second] - frame.forces[pairs.first], vectors)
        key = frame.species.tobytes()
        values += len(along)
        for i, j, length, force in zip(
            pairs.first.tolist(), pairs.second.tolist(), pairs.distances, along / pairs.distances, strict=True
        ):
            bonds[key, i, j].append((length, force))
    return Geometry(smallest, _mean_correlation(bonds.values()))


def _mean_correlation(groups: Iterable[list[tuple[float, float]]]) -> float | None:
    """Return the mean correlation of the groups, weighted by their numbers of values."""
    total, weight = 0.0, 0
    for group in groups:
        lengths, forces = np.array(group).T
        if len(group) >= _FEWEST_FRAMES and lengths.std() > 1e-6 and forces.std() > 1e-9:
            total += float(np.corrcoef(lengths, forces)[0, 1]) * len(group)
            weight += len(group)
    return total / weight if weight >= _FEWEST_BONDS else None


@dataclass(frozen=True)
class StressReport:
    """Magnitude and sign of stresses, eV/angstrom^3.

    Attributes:
        rms: Root mean square of the components.
        largest: Largest absolute value of a component.
        asymmetric: Number of stress tensors that are not symmetric.
        zero: Number of stress tensors that are exactly zero.
        volume_correlation: Correlation between mean stress and volume at equal composition; positive in stable matter.
            None if the volume does not vary.
        bulk_modulus: Slope of the mean stress against the logarithm of the volume; None if it cannot be determined.
    """

    rms: float
    largest: float
    asymmetric: int
    zero: int
    volume_correlation: float | None
    bulk_modulus: float | None

    def line(self) -> str:
        """Return the magnitudes as text, in two units."""
        return (
            f"RMS {self.rms:.3g}, largest {self.largest:.3g} eV/A^3 ({self.rms / GIGAPASCAL:.3g} and "
            f"{self.largest / GIGAPASCAL:.3g} GPa)"
        )

    def warnings(self) -> list[str]:
        """Return warnings about implausible stresses."""
        warnings = []
        modulus = self.bulk_modulus
        hint = "check that they are in eV/A^3 (GPa read as eV/A^3 are 160 times too large, kbar 1602 times)"
        if self.rms > STRESS_RMS_BAND[1]:
            warnings.append(
                f"stress RMS {self.rms:.3g} eV/A^3 = {self.rms / GIGAPASCAL:.3g} GPa exceeds {STRESS_RMS_BAND[1]}: "
                f"{hint}"
            )
        elif modulus is not None and not BULK_MODULUS_BAND[0] <= modulus <= BULK_MODULUS_BAND[1]:
            warnings.append(
                f"the stress increases with volume as for a bulk modulus of {modulus / GIGAPASCAL:.3g} GPa: {hint}"
            )
        if self.volume_correlation is not None and self.volume_correlation < -WRONG_SIGN:
            warnings.append(
                f"the stress decreases with volume (correlation {self.volume_correlation:.2f}): check that it is "
                "positive under tension (pressure and the stress of some programs have the opposite sign)"
            )
        if self.zero:
            warnings.append(f"{self.zero} stresses are exactly zero: remove them if they were not computed")
        if self.asymmetric:
            warnings.append(f"{self.asymmetric} stresses are not symmetric: check the order of their components")
        return warnings


def survey_stresses(frames: Sequence[Frame]) -> StressReport | None:
    """Measure the stresses of frames; return None if no frame has a stress."""
    stresses = [(frame, frame.stress) for frame in frames if frame.has_stress]
    if not stresses:
        return None
    tensors = np.array([stress for _, stress in stresses])
    difference = np.abs(tensors - tensors.transpose(0, 2, 1)).max((1, 2))
    asymmetric = int((difference > _ASYMMETRY * np.abs(tensors).max((1, 2)) + 1e-6).sum())
    correlation, modulus = _volume_dependence([frame for frame, _ in stresses], tensors)
    zero = int((~tensors.any((1, 2))).sum())
    return StressReport(
        sqrt(float(np.square(tensors).mean())), float(np.abs(tensors).max()), asymmetric, zero, correlation, modulus
    )


def _volume_dependence(frames: Sequence[Frame], tensors: FloatArray) -> tuple[float | None, float | None]:
    """Return correlation and slope of the mean stress against the logarithm of the volume per atom."""
    groups: dict[bytes, list[tuple[float, float]]] = defaultdict(list)
    for frame, tensor in zip(frames, tensors, strict=True):
        counts = np.bincount(frame.species)
        volume = abs(float(np.linalg.det(frame.cell))) / len(frame.species)
        groups[(counts / np.gcd.reduce(counts)).tobytes()].append((volume, float(np.trace(tensor)) / 3))
    values = max(groups.values(), key=len)
    volumes, means = np.array(values).T
    logarithm = np.log(volumes)
    if len(values) < 2 * _FEWEST_FRAMES or logarithm.std() < _SPREAD_OF_VOLUME or means.std() < 1e-9:
        return None, None
    correlation = float(np.corrcoef(logarithm, means)[0, 1])
    slope = float(np.polyfit(logarithm, means, 1)[0])
    return correlation, slope if correlation > WRONG_SIGN else None
