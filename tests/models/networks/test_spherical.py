import math

import pytest
import torch

from piwsl.models.networks.spherical import SphericalHarmonics, coupling, degree_index
from piwsl.models.networks.symmetric_products import SymmetricProducts, product_basis
from tests.support.harmonics import real_harmonics


def units(count, seed=0):
    vectors = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return vectors / vectors.norm(dim=1, keepdim=True)


def rotation(seed=1):
    q, r = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    q = q * torch.sign(torch.diagonal(r))
    return q * torch.sign(torch.linalg.det(q))


def wigner(degree, matrix):
    """The matrix by which harmonics of a degree rotate, from many directions."""
    points = units(200, seed=3)
    rows = slice(degree * degree, (degree + 1) ** 2)
    harmonics = SphericalHarmonics(degree)
    before, after = harmonics(points)[:, rows], harmonics(points @ matrix.t())[:, rows]
    return torch.linalg.lstsq(before, after).solution.t()


def test_harmonics_equal_the_polynomials_of_the_tables():
    x, y, z = units(20).unbind(1)
    values = SphericalHarmonics(3)(torch.stack([x, y, z], 1))
    # The polar axis is y, the order is m = -l ... l.
    assert torch.allclose(values[:, 0], torch.full_like(x, 0.5 / math.sqrt(math.pi)))
    assert torch.allclose(values[:, 1:4], math.sqrt(0.75 / math.pi) * torch.stack([x, y, z], 1))
    second = [x * z, x * y, (3 * y * y - 1) / math.sqrt(12.0), y * z, (z * z - x * x) / 2]
    assert torch.allclose(values[:, 4:9], math.sqrt(15.0 / (4.0 * math.pi)) * torch.stack(second, 1))
    assert torch.allclose(values[:, 12], math.sqrt(7.0 / (16.0 * math.pi)) * y * (5 * y * y - 3))


def test_harmonics_equal_an_independent_recursion_with_another_polar_axis():
    """`SphereActivation` and the frames of edges have the polar axis z: (x, y, z) takes the place of (z, x, y)."""
    points = units(50)
    values = SphericalHarmonics(8, "component")(points[:, [1, 2, 0]])
    assert float((values - torch.from_numpy(real_harmonics(8, points.numpy()))).abs().max()) < 1e-13


def test_harmonics_are_orthonormal_on_the_sphere():
    # Gauss-Legendre in the polar angle and equal steps around the axis integrate these products exactly.
    from numpy.polynomial.legendre import leggauss

    nodes, weights = (torch.from_numpy(values) for values in leggauss(12))
    angles = torch.arange(24, dtype=torch.float64) * (2.0 * math.pi / 24)
    sine = torch.sqrt(1.0 - nodes**2)
    points = torch.stack(
        [sine[:, None] * torch.cos(angles), nodes[:, None].expand(-1, 24), sine[:, None] * torch.sin(angles)], dim=2
    )
    values = SphericalHarmonics(5)(points.reshape(-1, 3))
    measure = (weights[:, None].expand(-1, 24) * (2.0 * math.pi / 24)).reshape(-1, 1)
    assert torch.allclose(values.t() @ (values * measure), torch.eye(36, dtype=torch.float64), atol=1e-12)
    component = SphericalHarmonics(5, "component")(units(3))
    assert (component[:, 16:25] ** 2).sum(1).tolist() == pytest.approx([9.0] * 3)


@pytest.mark.parametrize("degrees", [(1, 1, 1), (1, 2, 2), (2, 2, 3), (1, 1, 2), (2, 3, 1), (3, 3, 2), (0, 2, 2)])
def test_couplings_are_equivariant_and_of_norm_one(degrees):
    values, matrix = coupling(*degrees), rotation()
    turned = torch.einsum("ai,bj,ck,ijk->abc", *(wigner(degree, matrix) for degree in degrees), values)
    assert torch.allclose(turned, values, atol=1e-10)
    assert float(values.norm()) == pytest.approx(1.0)
    exchanged = coupling(degrees[1], degrees[0], degrees[2]).transpose(0, 1)
    assert torch.allclose(exchanged, values * (-1.0) ** sum(degrees), atol=1e-12)


def test_the_sign_of_couplings_with_an_odd_sum():
    """The convention of the files of MACE; the coupling of two vectors to a vector is their cross product."""
    cross = torch.zeros(3, 3, 3, dtype=torch.float64)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        cross[i, j, k], cross[j, i, k] = 1.0, -1.0
    assert torch.allclose(coupling(1, 1, 1), cross / math.sqrt(6.0), atol=1e-12)
    for degrees in ((2, 2, 3), (2, 3, 4), (3, 3, 3), (1, 3, 3)):
        values = coupling(*degrees).flatten()
        assert values[values.abs() > 1e-9][0].item() > 0.0


def test_couplings_that_do_not_exist():
    with pytest.raises(ValueError, match="degrees 1 and 1 do not couple to 3"):
        coupling(1, 1, 3)


def independent_products(largest, order, degree):
    """Return how often a degree occurs in a symmetric power, by an integral of characters over O(3)."""
    angles = torch.arange(256, dtype=torch.float64) * (2.0 * math.pi / 256)

    def character(degree, angle, parity):
        return parity**degree * sum(torch.cos(m * angle) for m in range(-degree, degree + 1))

    total = 0.0
    for parity in (1.0, -1.0):
        powers = [sum(character(one, k * angles, parity**k) for one in range(largest + 1)) for k in range(1, order + 1)]
        symmetric = [torch.ones_like(angles)]
        for n in range(1, order + 1):
            symmetric.append(sum(powers[k - 1] * symmetric[n - k] for k in range(1, n + 1)) / n)
        total += float(((1.0 - torch.cos(angles)) * character(degree, angles, parity) * symmetric[order]).mean())
    return round(total / 2.0)


@pytest.mark.parametrize(
    ("largest", "order", "degree"),
    [(2, 1, 0), (2, 2, 2), (2, 3, 1), (3, 3, 0), (3, 3, 1), (3, 3, 2), (2, 4, 0), (3, 4, 1)],
)
def test_the_basis_contains_each_independent_product_once(largest, order, degree):
    basis = product_basis(largest, order, degree)
    count = independent_products(largest, order, degree)
    assert basis.coefficients.shape[2] == count > 0
    flat = basis.coefficients.flatten(0, 1)
    assert torch.allclose(flat.t() @ flat, torch.eye(count, dtype=torch.float64), atol=1e-10)


@pytest.mark.parametrize("degrees", [(0,), (0, 1), (0, 2)])
def test_products_rotate_like_harmonics(degrees):
    torch.manual_seed(0)
    products = SymmetricProducts(2, degrees, 3, 4, 2).double()
    matrix = rotation()
    tensors, element = torch.randn(5, 9, 4, dtype=torch.float64), torch.tensor([0, 1, 1, 0, 1])
    turn = torch.block_diag(*(wigner(degree, matrix) for degree in range(3)))
    back = torch.block_diag(*(wigner(degree, matrix) for degree in degrees))
    turned = products(torch.einsum("ij,njc->nic", turn, tensors), element)
    assert torch.allclose(turned, torch.einsum("ij,njc->nic", back, products(tensors, element)), atol=1e-10)
    assert products(tensors, element).abs().max().item() > 0.1


def test_degree_index():
    assert degree_index([0, 2]).tolist() == [0, 1, 1, 1, 1, 1]
