"""Rotations to the frames of edges, at and near the directions at which angles would be singular."""

import numpy as np
import pytest
import torch

from piwsl.models.networks.wigner import EdgeRotations, edge_frames, orders_by_order
from tests.support.harmonics import rotation_of_harmonics

TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-12}
SIZES = [(1, 1), (2, 1), (2, 2), (4, 2), (6, 2), (6, 6)]


def directions(dtype=torch.float64):
    """Unit vectors: axes, some within 1e-6 of them and of the border of the charts, and random ones."""
    special = [
        [0, 0, 1],
        [0, 0, -1],
        [1, 0, 0],
        [0, -1, 0],
        [1e-6, 0, 1],
        [1e-6, -1e-7, -1],
        [1, 1, 1e-9],
        [1, 1, -1e-9],
    ]
    vectors = torch.tensor(special, dtype=torch.float64)
    others = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    vectors = torch.cat((vectors, others))
    return (vectors / vectors.norm(dim=1, keepdim=True)).to(dtype)


def test_frames_are_rotations_that_turn_the_edge_to_z():
    vectors = directions()
    frames = edge_frames(vectors)
    torch.testing.assert_close(frames @ frames.transpose(1, 2), torch.eye(3, dtype=torch.float64).expand_as(frames))
    torch.testing.assert_close(torch.linalg.det(frames), torch.ones(len(frames), dtype=torch.float64))
    turned = (frames @ vectors.unsqueeze(2)).squeeze(2)
    torch.testing.assert_close(turned, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand_as(turned))


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(("l_max", "m_max"), SIZES)
def test_harmonics_turn_with_the_frame(l_max, m_max, dtype):
    found = EdgeRotations(l_max, m_max).to(dtype)(directions(dtype))
    columns = [degree * degree + degree + order for degree, order in orders_by_order(l_max, m_max)]
    for frame, matrix in zip(edge_frames(directions(dtype).double()), found, strict=True):
        expected = rotation_of_harmonics(l_max, frame.numpy())[columns]
        assert float((matrix.double() - expected).abs().max()) < TOLERANCES[dtype]


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1, 4, 5, 6, 7, 8])
def test_derivatives_are_right_at_every_direction(index):
    """First and second derivatives by the edge vector against finite differences, which stay within a chart."""
    rotations = EdgeRotations(3, 2).double()
    vectors = 1.3 * directions()[index : index + 1]

    def function(edge):
        return rotations(edge / edge.square().sum(-1, keepdim=True).sqrt())

    assert torch.autograd.gradcheck(function, vectors.clone().requires_grad_(True), eps=1e-10, atol=1e-4)
    assert torch.autograd.gradgradcheck(function, vectors.clone().requires_grad_(True), eps=1e-10, atol=1e-3)


def test_rotations_of_degree_six_are_orthogonal_after_a_change_of_type():
    matrices = EdgeRotations(6, 6).double()(directions())
    identity = torch.eye(49, dtype=torch.float64).expand_as(matrices)
    assert float((matrices @ matrices.transpose(1, 2) - identity).abs().max()) < 1e-12
    assert np.isfinite(matrices.numpy()).all()
