"""Random numbers of a training step that belong to structures, not to batches."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from piwsl.data.batch import Batch


@dataclass(frozen=True)
class FrameRandom:
    """Numbers drawn per structure from (seed, step, frame), however the structures are divided among batches.

    Attributes:
        seed: of the run.
        step: of the run.
    """

    seed: int
    step: int

    def atoms(self, batch: Batch, purpose: int, normal: bool = True) -> Tensor:
        """Three numbers an atom (N, 3), float64: standard normal, or uniform in (-1, 1)."""
        draws = []
        for frame, count in zip(batch.frame_index.tolist(), batch.n_atoms.tolist(), strict=True):
            source = self._source(frame, purpose)
            draws.append(source.standard_normal((count, 3)) if normal else source.uniform(-1.0, 1.0, (count, 3)))
        return torch.from_numpy(np.concatenate(draws)).to(batch.positions.device)

    def shares(self, batch: Batch, purpose: int, per_atom: bool = False) -> Tensor:
        """Numbers uniform in [0, 1), float64: one a structure (S,), or one an atom (N,)."""
        counts = batch.n_atoms.tolist() if per_atom else [1] * batch.n_structures
        draws = [
            self._source(frame, purpose).random(count)
            for frame, count in zip(batch.frame_index.tolist(), counts, strict=True)
        ]
        return torch.from_numpy(np.concatenate(draws)).to(batch.positions.device)

    def _source(self, frame: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, self.step, frame, purpose))
