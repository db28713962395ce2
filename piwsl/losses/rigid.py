"""The rigid part of a displacement: what moves or turns a structure as a whole."""

import torch
from torch import Tensor

from piwsl.data.batch import Batch


def without_rigid_motion(vectors: Tensor, batch: Batch, rotation: bool) -> Tensor:
    """Displacements (N, 3), float64, without their mean and, for molecules, without their rotation.

    All atoms count alike. The rotation is the infinitesimal one that fits best: omega = I^-1 sum_i r_i x d_i with
    r_i from the centre; a linear molecule has no rotation about its axis. Cells, wires and slabs cannot turn.
    """
    index = batch.structure_index
    vectors = vectors - _means(vectors, batch)[index]
    if not rotation:
        return vectors
    arms = batch.positions.detach().double()
    arms = arms - _means(arms, batch)[index]
    moments = _sums(torch.linalg.cross(arms, vectors), batch)
    unit = torch.eye(3, dtype=arms.dtype, device=arms.device)
    inertia = _sums(
        (arms.square().sum(-1, keepdim=True).unsqueeze(-1) * unit) - arms.unsqueeze(-1) * arms.unsqueeze(-2), batch
    )
    turns = torch.linalg.pinv(inertia, rtol=1e-8, hermitian=True).matmul(moments.unsqueeze(-1)).squeeze(-1)
    turns = turns * _free(batch).unsqueeze(-1)
    turned: Tensor = torch.linalg.cross(turns[index], arms)
    return vectors - turned


def _free(batch: Batch) -> Tensor:
    """Which structures are molecules (S,): no atom has a neighbour in a periodic image."""
    centres, neighbours = batch.edges[0], batch.edges[1]
    crossing = (batch.edge_shifts != 0).any(-1) & (centres != neighbours)
    crossings = torch.zeros_like(batch.volume).index_add(
        0, batch.structure_index[centres], crossing.to(batch.volume.dtype)
    )
    return torch.isinf(batch.volume) & (crossings == 0)


def _sums(values: Tensor, batch: Batch) -> Tensor:
    zeros: Tensor = values.new_zeros((batch.n_structures, *values.shape[1:]))
    sums: Tensor = zeros.index_add(0, batch.structure_index, values)
    return sums


def _means(values: Tensor, batch: Batch) -> Tensor:
    return _sums(values, batch) / batch.n_atoms.unsqueeze(-1)
