"""Compare differences of energies with the work of the forces, which shows labels in units that do not belong together.

Between two similar structures, the energy changes by minus the displacement times the mean of the forces (trapezoidal
rule, exact for a harmonic potential). Units of the energies that differ from those of the forces, and energies per
atom, change the ratio of the two by a factor.
"""

from dataclasses import dataclass, field

import numpy as np

from piwsl.data.frames import FrameSet
from piwsl.structures.cells import PBC
from piwsl.typing import FloatArray

RATIO_BAND = (0.65, 1.5)  # hartree and hartree/bohr, read as eV and eV/angstrom, give 1.9
_CLEAR = 0.85  # correlation above which the ratio is meaningful
_FRAMES = 2000  # frames examined
_MOST_OF_A_KIND = 300  # frames with the same atoms and cell
_FEWEST_PAIRS = 10
_DECIMALS = 4  # of compared cells, angstrom


@dataclass(frozen=True)
class EnergyWork:
    """Differences of energies and work between similar structures.

    Attributes:
        pairs: Number of pairs of structures.
        correlation: Correlation between the difference of the energies and the work.
        ratio: Size of the differences relative to the work.
    """

    pairs: int
    correlation: float
    ratio: float

    def warnings(self) -> list[str]:
        """Return a warning if the labels do not belong together."""
        low, high = RATIO_BAND
        if self.correlation < -_CLEAR:
            return [
                f"the energy increases along the forces (correlation {self.correlation:.2f} of energy differences and "
                "work): check that these are forces and not gradients"
            ]
        if self.correlation < _CLEAR or low <= self.ratio <= high:
            return []
        return [
            f"energy differences are {self.ratio:.3g} times the work of the forces (correlation "
            f"{self.correlation:.2f} in {self.pairs} pairs of similar structures): check that energies and forces are "
            "in units that belong together (kcal/mol with eV/A give 23, eV with hartree/bohr 51, hartree with eV/A "
            "0.037, hartree with hartree/bohr 1.9), and that energies are those of all atoms"
        ]


@dataclass(frozen=True, eq=False)
class _Alike:
    """Frames with the same atoms, cell and charge.

    Attributes:
        cell: Lattice vectors in rows (3, 3), angstrom.
        pbc: Whether the structures are periodic along each lattice vector.
        positions, forces, energies: Values of the frames (n, 3), (n, 3) and (), one each.
    """

    cell: FloatArray
    pbc: PBC
    positions: list[FloatArray] = field(default_factory=list)
    forces: list[FloatArray] = field(default_factory=list)
    energies: list[float] = field(default_factory=list)

    def pairs(self) -> list[tuple[float, float, float]]:
        """Return mean square displacement, difference of the energies and work of each frame and its nearest one."""
        positions, forces = np.array(self.positions), np.array(self.forces)
        pairs = []
        for index, energy in enumerate(self.energies[:-1]):
            moved, turned = self._displacements(positions[index], positions[index + 1 :], forces[index + 1 :])
            squares = np.square(moved).sum(2).mean(1)
            nearest = int(squares.argmin())
            work = -float((0.5 * (forces[index] + turned[nearest]) * moved[nearest]).sum())
            if squares[nearest] > 0:
                pairs.append((float(squares[nearest]), self.energies[index + 1 + nearest] - energy, work))
        return pairs

    def _displacements(
        self, first: FloatArray, positions: FloatArray, forces: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return displacements (m, n, 3) without jumps across the cell or rotations, and forces rotated with them."""
        if any(self.pbc):
            moved = positions - first
            fractions = moved @ np.linalg.pinv(self.cell)
            return np.asarray(moved - np.where(self.pbc, np.round(fractions), 0.0) @ self.cell), forces
        target, centered = first - first.mean(0), positions - positions.mean(1, keepdims=True)
        left, _, right = np.linalg.svd(np.einsum("mni,nj->mij", centered, target))
        left[:, :, 2] *= np.linalg.det(left @ right)[:, None]  # rotations without reflection (Kabsch 1976)
        rotations = left @ right
        return np.asarray(centered @ rotations - target), np.asarray(forces @ rotations)


def compare_energies_and_work(frames: FrameSet) -> EnergyWork | None:
    """Compare evenly spaced frames with their nearest neighbors; return None without enough similar frames."""
    census = frames.census
    labeled = np.flatnonzero(census.has_energy & census.has_forces)
    kinds: dict[tuple[object, ...], _Alike] = {}
    for index in labeled[:: max(1, len(labeled) // _FRAMES)]:
        frame = frames[int(index)]
        cell = np.round(frame.cell, _DECIMALS) + 0.0  # -0 becomes 0
        key = (frame.species.tobytes(), cell.tobytes(), frame.pbc, str(frame.charge_spin))
        alike = kinds.setdefault(key, _Alike(frame.cell, frame.pbc))
        if len(alike.energies) < _MOST_OF_A_KIND:
            alike.positions.append(frame.positions)
            alike.forces.append(frame.forces)
            alike.energies.append(frame.energy)
    rows = np.array([row for alike in kinds.values() for row in alike.pairs()]).reshape(-1, 3)
    differences, work = rows[np.argsort(rows[:, 0], kind="stable"), 1:].T
    # The rule is accurate for small displacements only: the nearer half is compared.
    chosen = slice(max(_FEWEST_PAIRS, len(work) // 2))
    differences, work = differences[chosen], work[chosen]
    if len(work) < _FEWEST_PAIRS or not (differences.std() > 0 and work.std() > 0):
        return None
    correlation = float(np.corrcoef(differences, work)[0, 1])
    # The errors are those of the work, so that its slope against the differences is unbiased.
    ratio = float(differences.std() / work.std() / abs(correlation)) if correlation else np.inf
    return EnergyWork(len(work), correlation, ratio)
