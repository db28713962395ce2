import pytest
import torch

from piwsl.models.networks.radial import RADIAL_BASES, PolynomialCutoff


def test_cutoff_switches_smoothly():
    switch = PolynomialCutoff(5.0)
    r = torch.tensor([5.0 - 1e-4], dtype=torch.float64, requires_grad=True)
    value = switch(r)
    (first,) = torch.autograd.grad(value, r, create_graph=True)
    (second,) = torch.autograd.grad(first, r)
    assert float(switch(torch.zeros(1, dtype=torch.float64))) == 1.0
    assert float(value.detach()) == pytest.approx(0.0, abs=1e-10)
    assert float(first.detach()) == pytest.approx(0.0, abs=1e-6)
    assert float(second) == pytest.approx(0.0, abs=5e-3)
    assert float(switch(torch.tensor([5.0, 7.0])).abs().max()) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name", RADIAL_BASES)
def test_radial_functions_are_independent(name):
    basis = RADIAL_BASES[name](5.0, 8)
    values = basis(torch.linspace(0.5, 5.0, 200, dtype=torch.float64))
    assert values.shape == (200, 8)
    assert torch.linalg.matrix_rank(values) == 8
