"""Neighbor lists of many structures with a skin. A list is updated only when it may be outdated."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from piwsl.structures.neighbors import SKIN, PairSearch


@dataclass(frozen=True)
class Batch:
    """Concatenated structures on one device.

    Attributes:
        positions: Positions (N, 3), angstrom, float64.
        cells: Cells (S, 3, 3) with lattice vectors in rows, angstrom, float64; zeros without a cell.
        pbc: Periodic directions (S, 3).
        structure_index: Structure of each atom (N,), in ascending order: 0 0 ... 1 1 ... S-1.
    """

    positions: Tensor
    cells: Tensor
    pbc: Tensor
    structure_index: Tensor


class BatchNeighbors:
    """Pairs within a cutoff in structures whose positions and cells change between calls.

    A call with other structures starts new lists. The search runs on the CPU. The remaining operations of a call run on
    the device of the batch.

    Args:
        cutoff: Cutoff radius, angstrom.
        skin: Additional range of the lists, angstrom.
    """

    def __init__(self, cutoff: float, skin: float = SKIN) -> None:
        self._cutoff = cutoff
        self._skin = skin
        self._search_pairs = PairSearch(cutoff + skin)
        self._reference: Batch | None = None
        self._lists: list[tuple[Tensor, Tensor]] = []
        self.searches = 0

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return edges (2, E) and edge vectors (E, 3), angstrom, float64, with each pair in both directions."""
        reference = self._reference
        if reference is None or not _same_structures(reference, batch):
            self._lists = [_no_pairs()] * len(batch.cells)
            self._search(batch, batch, list(range(len(batch.cells))))
        elif stale := self._stale(reference, batch).nonzero().flatten().tolist():
            self._search(reference, batch, stale)
        vectors = batch.positions[self._pairs[1]] - batch.positions[self._pairs[0]]
        if self._images is not None:
            cells = batch.cells[batch.structure_index[self._pairs[0]]]
            vectors = vectors + torch.einsum("pa,pax->px", self._images, cells)
        near = vectors.square().sum(1) < self._cutoff**2
        pairs, vectors = self._pairs[:, near], vectors[near]
        return torch.cat([pairs, pairs.flip(0)], dim=1), torch.cat([vectors, -vectors])

    def _stale(self, reference: Batch, batch: Batch) -> Tensor:
        """Return a mask (S,) of structures whose list may lack a pair within the cutoff.

        For atoms at x = x0 (1 + D) + u and a cell with the same strain D, a pair with the present distance r had a
        distance of at most (r + 2 max|u|) / (1 - |D|) when the list was created.
        """
        strains = self._inverse @ (batch.cells - reference.cells)
        of_atoms = strains[batch.structure_index]
        moved = batch.positions - reference.positions - torch.einsum("na,nax->nx", reference.positions, of_atoms)
        farthest = torch.zeros_like(strains[:, 0, 0])
        farthest = farthest.scatter_reduce(0, batch.structure_index, moved.square().sum(1), "amax").sqrt()
        strain = torch.linalg.matrix_norm(strains)
        reach: Tensor = (1.0 - strain) * (self._cutoff + self._skin) - 2.0 * farthest
        return ~(reach >= self._cutoff)  # true for NaN

    def _search(self, reference: Batch, batch: Batch, stale: list[int]) -> None:
        """Update the lists of some structures. The other structures keep their lists and reference positions."""
        self.searches += len(stale)
        device = batch.positions.device
        host = Batch(batch.positions.cpu(), batch.cells.cpu(), batch.pbc.cpu(), batch.structure_index.cpu())
        counts = torch.bincount(host.structure_index, minlength=len(host.cells)).tolist()
        positions = torch.split(host.positions, counts)
        starts = np.cumsum([0, *counts])
        for index in stale:
            pairs, images = self._find(positions[index], host.cells[index], host.pbc[index])
            self._lists[index] = pairs + int(starts[index]), images
        self._pairs = torch.cat([pairs for pairs, _ in self._lists], dim=1).to(device)
        has_images = bool(host.pbc.any())
        self._images = torch.cat([images for _, images in self._lists]).to(device) if has_images else None
        new = torch.zeros(len(host.cells), dtype=torch.bool)
        new[stale] = True
        new = new.to(device)
        cells = torch.where(new[:, None, None], batch.cells, reference.cells)
        self._reference = Batch(
            torch.where(new[batch.structure_index, None], batch.positions, reference.positions),
            cells,
            batch.pbc.clone(),
            batch.structure_index.clone(),
        )
        # The pseudoinverse is the inverse along the periodic directions of slabs and wires.
        self._inverse = torch.linalg.pinv(torch.nan_to_num(cells))

    def _find(self, positions: Tensor, cell: Tensor, pbc: Tensor) -> tuple[Tensor, Tensor]:
        """Return unique pairs (2, P) of one structure, and images (P, 3) of the second atoms in lattice vectors."""
        if not (positions.isfinite().all() and cell.isfinite().all()):
            return _no_pairs()  # The search would not terminate with NaN.
        periodic = bool(pbc[0]), bool(pbc[1]), bool(pbc[2])
        pairs = self._search_pairs(positions.numpy(), cell.numpy(), periodic)
        edges = torch.from_numpy(np.stack([pairs.first, pairs.second]))
        return edges, torch.from_numpy(pairs.images.astype(np.float64))


def _same_structures(first: Batch, second: Batch) -> bool:
    return torch.equal(first.structure_index, second.structure_index) and torch.equal(first.pbc, second.pbc)


def _no_pairs() -> tuple[Tensor, Tensor]:
    return torch.zeros(2, 0, dtype=torch.int64), torch.zeros(0, 3, dtype=torch.float64)
