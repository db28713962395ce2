import torch

from piwsl.models.networks.cartesian import matrix_basis
from piwsl.models.networks.tensornet import MatrixProducts


def test_basis_is_orthonormal_and_products_are_those_of_matrices():
    basis = matrix_basis()
    assert torch.allclose(
        basis.view(9, 9) @ basis.view(9, 9).t(), torch.eye(9, dtype=torch.float64), rtol=0, atol=1e-15
    )
    assert torch.allclose(basis[1:4], -basis[1:4].transpose(1, 2))
    assert torch.allclose(basis[4:], basis[4:].transpose(1, 2))
    generator = torch.Generator().manual_seed(0)
    one, two = torch.randn(2, 5, 9, 4, generator=generator, dtype=torch.float64)

    def matrices(components):
        return torch.einsum("ncf,cij->nfij", components, basis)

    products = MatrixProducts()
    expected = matrices(one) @ matrices(two) + matrices(two) @ matrices(one)
    assert torch.allclose(matrices(products.anticommutator(one, two)), expected, atol=1e-12)
    assert torch.allclose(matrices(products.square(one)), matrices(one) @ matrices(one), atol=1e-12)
