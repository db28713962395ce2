"""The slowest motion of a molecule, which says how many of its frames are independent."""

from dataclasses import dataclass

import numpy as np

from piwsl.structures.pairs import PairDistances
from piwsl.typing import FloatArray, IntArray

MOST_PAIRS = 300  # pairs that the slowest motion is looked for in
MODES = 3
MODE_FRAMES = 2000  # frames at least that the modes are made from, where there are as many


@dataclass(frozen=True, eq=False)
class SlowModes:
    """The leading principal components of the pair distances.

    Large slow motions (torsions) set them, and bond vibrations do not hide them.

    Attributes:
        pairs: (p,) rows of the pairs that they are made from.
        means: (p,) angstrom.
        vectors: (p, modes); no modes where there are fewer than two frames or atoms.
    """

    pairs: IntArray
    means: FloatArray
    vectors: FloatArray

    @property
    def count(self) -> int:
        """Number of modes."""
        return int(self.vectors.shape[1])

    def project(self, distances: FloatArray) -> FloatArray:
        """Their values (frames, modes) for the distances (all pairs, frames), angstrom."""
        chosen = distances if len(self.pairs) == len(distances) else distances[self.pairs]
        return np.asarray(chosen.T @ self.vectors - self.means @ self.vectors)


class ModeSampler:
    """Collects an even sample of frames that come in pieces, of a number that is not known, in bounded memory.

    Args:
        atoms: of the molecule.
    """

    def __init__(self, atoms: int) -> None:
        count = atoms * (atoms - 1) // 2
        self.pairs = np.unique(np.linspace(0, max(count - 1, 0), min(count, MOST_PAIRS)).astype(np.int64))
        self._distances = PairDistances(atoms)
        self._each = 1
        self._sample: list[FloatArray] = []

    def add(self, positions: FloatArray, first: int) -> None:
        """Look at positions (f, atoms, 3), angstrom, of the frames from ``first`` on."""
        chosen = positions[-first % self._each :: self._each]
        for begin in range(0, len(chosen), self._distances.chunk):
            found = self._distances.of(chosen[begin : begin + self._distances.chunk])
            self._sample.extend(found[self.pairs].T.copy())
        while len(self._sample) >= 2 * MODE_FRAMES:
            self._sample = self._sample[::2]
            self._each *= 2

    def modes(self) -> SlowModes:
        """The modes of what was collected."""
        if len(self._sample) < 2 or not len(self.pairs):
            return SlowModes(self.pairs, np.zeros(len(self.pairs)), np.zeros((len(self.pairs), 0)))
        sample = np.stack(self._sample)
        covariance = np.cov(sample, rowvar=False).reshape(len(self.pairs), len(self.pairs))
        vectors = np.linalg.eigh(covariance)[1][:, -MODES:]
        return SlowModes(self.pairs, sample.mean(axis=0), vectors.astype(np.float32))
