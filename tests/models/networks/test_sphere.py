"""Quadrature and the activation on the sphere."""

import numpy as np
import pytest
import torch

from piwsl.models.networks.sphere import SphereActivation, quadrature
from piwsl.models.networks.wigner import orders_by_degree, orders_by_order
from tests.support.harmonics import about_z, real_harmonics, rotation_of_harmonics, some_rotation

TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-12}


def test_the_quadrature_is_exact_for_products_of_harmonics():
    points, weights = quadrature(12)
    harmonics = real_harmonics(6, points)
    assert np.abs(harmonics.T @ (weights[:, None] * harmonics) - np.eye(49)).max() < 1e-13


def test_the_quadrature_is_exact_up_to_its_degree_and_not_beyond():
    points, weights = quadrature(8)
    assert weights.sum() == pytest.approx(1.0, abs=1e-15)
    z = points[:, 2]
    assert (weights * z**8).sum() == pytest.approx(1.0 / 9.0, abs=1e-15)
    assert abs((weights * z**10).sum() - 1.0 / 11.0) > 1e-6
    x = points[:, 0]
    assert (weights * x**8).sum() == pytest.approx(1.0 / 9.0, abs=1e-15)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("l_max", [1, 2, 6])
def test_the_activation_of_an_atom_commutes_with_rotations(l_max, dtype):
    activation = SphereActivation(orders_by_degree(l_max))
    values = 2.0 * torch.randn(5, (l_max + 1) ** 2, 3, dtype=dtype, generator=torch.Generator().manual_seed(0))
    matrix = rotation_of_harmonics(l_max, some_rotation()).to(dtype)
    before, after = activation(matrix.matmul(values)), matrix.matmul(activation(values))
    assert float((before - after).abs().max()) < TOLERANCES[dtype] * float(after.abs().max())
    assert float((after - 0.5 * matrix.matmul(values)).abs().max()) > 0.1


@pytest.mark.parametrize(("l_max", "m_max"), [(2, 2), (4, 2), (6, 2), (3, 1)])
def test_the_activation_of_an_edge_commutes_with_rotations_about_it(l_max, m_max):
    orders = orders_by_order(l_max, m_max)
    values = torch.randn(5, len(orders), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    activation, matrix = SphereActivation(orders), about_z(orders, 0.37)
    torch.testing.assert_close(activation(matrix.matmul(values)), matrix.matmul(activation(values)))


def test_the_activation_is_that_of_silu_to_second_order_and_grows_linearly():
    activation = SphereActivation(orders_by_degree(2))
    small = torch.zeros(1, 9, 1, dtype=torch.float64)
    small[0, 0] = 1e-3
    expected = torch.nn.functional.silu(small[0, 0])
    torch.testing.assert_close(activation(small)[0, 0], expected, rtol=1e-6, atol=0)
    large = 1e6 * torch.randn(1, 9, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(activation(2.0 * large), 2.0 * activation(large), rtol=1e-9, atol=0)
