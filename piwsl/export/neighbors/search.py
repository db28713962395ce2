"""Neighbor search with tensor operations, which exported files contain."""

import math

import torch
from torch import Tensor, nn

from piwsl.structures.cells import DENSEST


class NeighborSearch(nn.Module):
    """Search for pairs in a molecule, crystal, slab or wire on any device, with linear cost in the number of atoms.

    The module is compatible with TorchScript. For few atoms in a wide cell, all pairs are compared at their minimum
    images. Otherwise, atoms and their images are sorted into thin columns, and each atom is compared with sections of
    the surrounding columns. Empty sections have no cost, so atoms may be far apart.

    Args:
        cutoff: Cutoff radius, angstrom.
    """

    def __init__(self, cutoff: float) -> None:
        super().__init__()
        self.cutoff = float(cutoff)
        # Rounding may move an atom into the next bin.
        self.reach = self.cutoff * (1.0 + 1e-6)
        # Bins per cutoff. Fine bins have no cost along the columns, the last direction.
        self.divisions = [2, 2, 8]
        # Bins on either side of the middle. The product of the numbers of bins must be less than 2**63.
        self.farthest = [2**19, 2**19, 2**21]
        # Numbers of atoms up to which comparing all pairs is faster. On GPUs, the search has a larger overhead.
        self.few = 100
        self.few_on_gpu = 1000
        # Smallest height of a cell, in cutoffs. Flatter cells are mistakes with an unlimited number of images.
        self.flattest = 0.01
        # Largest number of atoms per cubic angstrom. Denser cells are mistakes, such as a collapse by a barostat.
        self.densest = DENSEST

    def forward(self, positions: Tensor, cell: Tensor | None, pbc: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return edges (2, E) and edge vectors r_j - r_i plus image shift (E, 3) that are shorter than the cutoff.

        The second half of the edges contains the reversed edges of the first half in the same order. Atoms with
        positions that are not finite have no edges. If the cell is not finite, there are no edges. The result is not
        differentiable.

        Args:
            positions: Positions (N, 3), angstrom, inside or outside the cell.
            cell: Lattice vectors (3, 3) in rows, angstrom; None for a molecule. Rows of directions that are not
                periodic are ignored.
            pbc: Periodic directions (3,), bool. With None, all directions are periodic if there is a cell.

        Raises:
            ValueError: A direction is periodic but there is no cell, the periodic lattice vectors are linearly
                dependent, or the cell is too small for the atoms.
        """
        positions = positions.detach().to(torch.float64)
        few = positions.shape[0] <= (self.few_on_gpu if positions.is_cuda else self.few)
        periodic = [cell is not None] * 3
        if pbc is not None:
            flags: list[bool] = pbc.to(torch.bool).tolist()
            periodic = flags
        if not any(periodic):
            if few:
                pairs, vectors = self._compare_all(positions, None, None)
            else:
                lattice = torch.eye(3, dtype=torch.float64)
                pairs, vectors = self._compare_binned(positions, lattice, lattice, [1.0, 1.0, 1.0], periodic)
        elif cell is None:
            raise ValueError("periodic directions require a cell: pass the cell, or no periodic directions")
        else:
            pairs, vectors = self._periodic_pairs(positions, cell.detach().to(torch.float64).cpu(), periodic, few)
        return torch.cat([pairs, pairs.flip(0)], dim=1), torch.cat([vectors, -vectors])

    def _periodic_pairs(
        self, positions: Tensor, cell: Tensor, periodic: list[bool], few: bool
    ) -> tuple[Tensor, Tensor]:
        # Small matrices stay on the CPU, because their values are required there.
        lattice = complete_lattice(cell, periodic)
        if not bool(torch.isfinite(lattice).all()):
            return no_pairs(positions)
        normals = torch.linalg.cross(lattice.roll(-1, 0), lattice.roll(-2, 0), dim=1)
        volume = (lattice[0] * normals[0]).sum()
        heights: list[float] = (volume.abs() / torch.linalg.vector_norm(normals, dim=1)).tolist()
        wide = True
        for k in range(3):
            if periodic[k]:
                # The condition is true for NaN, the height of parallel vectors.
                if not heights[k] >= self.flattest * self.cutoff:
                    raise ValueError("the cell is flat: its periodic lattice vectors must be neither zero nor parallel")
                wide = wide and heights[k] >= 2.0 * self.cutoff
        room = self.densest * float(volume.abs())
        if all(periodic) and positions.shape[0] > room and int(torch.isfinite(positions).all(1).sum()) > room:
            raise ValueError("the cell is too small for its atoms: correct its lattice vectors")
        inverse = (normals / volume).t()
        if wide and few:
            whole = inverse * torch.tensor(periodic).to(torch.float64)
            return self._compare_all(positions, lattice.to(positions.device), whole.to(positions.device))
        return self._compare_binned(positions, lattice, inverse, heights, periodic)

    def _compare_all(self, positions: Tensor, lattice: Tensor | None, inverse: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return pairs and vectors from a comparison of all pairs at their minimum images.

        The inverse contains zeros for directions that are not periodic.
        """
        pairs = torch.triu_indices(positions.shape[0], positions.shape[0], 1, device=positions.device)
        vectors = positions.index_select(0, pairs[1]) - positions.index_select(0, pairs[0])
        if lattice is not None and inverse is not None:
            vectors = vectors - torch.round(vectors.matmul(inverse)).matmul(lattice)
        near = torch.nonzero((vectors * vectors).sum(1) < self.cutoff * self.cutoff).squeeze(1)
        return pairs.index_select(1, near), vectors.index_select(0, near)

    def _compare_binned(
        self, positions: Tensor, lattice: Tensor, inverse: Tensor, heights: list[float], periodic: list[bool]
    ) -> tuple[Tensor, Tensor]:
        """Return pairs and vectors from a comparison of atoms in neighboring columns.

        The lattice contains unit vectors for directions that are not periodic.
        """
        lattice, inverse = lattice.to(positions.device), inverse.to(positions.device)
        places = positions.matmul(inverse)
        atoms = torch.nonzero(torch.isfinite(places).all(1)).squeeze(1)
        if atoms.shape[0] == 0:
            return no_pairs(positions)
        points, places = positions.index_select(0, atoms), places.index_select(0, atoms)
        bins = torch.empty([3, atoms.shape[0]], dtype=torch.int64, device=positions.device)
        counts = [1, 1, 1]
        ranges = [1, 1, 1]
        for k in range(3):
            place = places[:, k]
            thickness = self.reach / self.divisions[k]
            if periodic[k]:
                outside = torch.floor(place)
                points = points - outside.unsqueeze(1) * lattice[k]
                counts[k] = max(int(min(heights[k] / thickness, float(self.farthest[k]))), 1)
                ranges[k] = math.ceil(self.reach * counts[k] / heights[k])
                bins[k] = torch.floor((place - outside) * counts[k]).clamp(0, counts[k] - 1).to(torch.int64)
            else:
                # Distant atoms share the outermost bin, so neighbors remain neighbors.
                number = torch.floor((place - place.median()) / thickness)
                number = number.clamp(-self.farthest[k], self.farthest[k]).to(torch.int64)
                bins[k] = number - number.min()
                counts[k] = int(bins[k].max()) + 1
                ranges[k] = self.divisions[k]
        for k in range(3):
            if periodic[k]:
                # Bin numbers continue across images, so that both atoms of a pair have the same offset.
                lowest = 0 if k == 0 else -ranges[k]
                farthest = (ranges[k] + counts[k] - 1) // counts[k]
                images = torch.arange(-farthest, farthest + 1, device=positions.device)
                numbers = bins[k].unsqueeze(0) + counts[k] * images.unsqueeze(1)
                kept = torch.nonzero((numbers >= lowest) & (numbers < counts[k] + ranges[k]))
                image, point = images.index_select(0, kept[:, 0]), kept[:, 1]
                points = points.index_select(0, point) + image.to(torch.float64).unsqueeze(1) * lattice[k]
                atoms = atoms.index_select(0, point)
                bins = bins.index_select(1, point)
                bins[k] += counts[k] * image
        return self._compare_columns(points, atoms, bins, counts, ranges)

    def _compare_columns(
        self, points: Tensor, atoms: Tensor, bins: Tensor, counts: list[int], ranges: list[int]
    ) -> tuple[Tensor, Tensor]:
        """Return pairs and vectors of points, where the second point of a pair is in the same bin or a later bin.

        Args:
            points: Positions (n, 3) of atoms and their images, angstrom.
            atoms: Atom of each point (n,).
            bins: Bins (3, n) along each direction. The bins of the cell start at zero.
            counts: Numbers of bins in the cell.
            ranges: Numbers of bins within the cutoff.
        """
        length = counts[2] + 2 * ranges[2]
        width = counts[1] + 2 * ranges[1]
        inside = ((bins >= 0) & (bins < torch.tensor(counts, device=bins.device).unsqueeze(1))).all(0)
        keys = (bins[0] * width + bins[1] + ranges[1]) * length + bins[2] + ranges[2]
        keys, order = torch.sort(keys, dim=0, stable=True)
        points, atoms = points.index_select(0, order), atoms.index_select(0, order)
        centers = torch.nonzero(inside.index_select(0, order)).squeeze(1)
        # Each point is compared with its own column and later columns. Earlier columns find the remaining pairs.
        rows = torch.arange(ranges[0] + 1, device=bins.device).unsqueeze(1) * width
        columns = (rows + torch.arange(-ranges[1], ranges[1] + 1, device=bins.device)).flatten()[ranges[1] :] * length
        middles = keys.index_select(0, centers).unsqueeze(1) + columns
        begins = torch.searchsorted(keys, middles - ranges[2])
        begins[:, 0] = centers + 1
        ends = torch.searchsorted(keys, middles + ranges[2], right=True)
        # Candidates are concatenated runs of points from begin to end, one run per center and column.
        lengths = (ends - begins).flatten()
        run = torch.repeat_interleave(lengths)
        starts = ends.flatten() - lengths.cumsum(0)
        second = starts.index_select(0, run).add_(torch.arange(run.shape[0], device=bins.device))
        first = centers.unsqueeze(1).expand(middles.shape).flatten().index_select(0, run)
        squares = torch.zeros(run.shape[0], dtype=points.dtype, device=points.device)
        for k in range(3):
            coordinate = points[:, k].contiguous()
            difference = coordinate.index_select(0, second).sub_(coordinate.index_select(0, first))
            squares.addcmul_(difference, difference)
        near = torch.nonzero(squares < self.cutoff * self.cutoff).squeeze(1)
        first, second = first.index_select(0, near), second.index_select(0, near)
        vectors = points.index_select(0, second).sub_(points.index_select(0, first))
        return torch.stack([atoms.index_select(0, first), atoms.index_select(0, second)]), vectors


def complete_lattice(cell: Tensor, periodic: list[bool]) -> Tensor:
    """Return lattice vectors (3, 3), with orthogonal unit vectors for directions that are not periodic."""
    if all(periodic):
        return cell
    flags = torch.tensor(periodic)
    kept = cell[flags]
    basis, _ = torch.linalg.qr(kept.t(), mode="complete")
    lattice = cell.clone()
    lattice[~flags] = basis.t()[kept.shape[0] :]
    return lattice


def no_pairs(positions: Tensor) -> tuple[Tensor, Tensor]:
    """Return empty pairs (2, 0) and vectors (0, 3)."""
    return torch.empty([2, 0], dtype=torch.int64, device=positions.device), positions.new_empty([0, 3])
