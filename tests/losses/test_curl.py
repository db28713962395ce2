import pytest
import torch
from torch import nn

from piwsl.data.batch import collate
from piwsl.losses.curl import measure_curl
from piwsl.models import ModelConfig, build_potential
from piwsl.models.potential import DirectPotential
from tests.support.molecules import frame


class Field(nn.Module):
    """Forces (A + B) r of each edge summed over its atom, with A symmetric and B antisymmetric; energy of A alone."""

    def __init__(self, turning):
        super().__init__()
        a = torch.tensor([[2.0, 0.3, 0.0], [0.3, 1.0, 0.2], [0.0, 0.2, 0.5]], dtype=torch.float64)
        b = turning * torch.tensor([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
        self.a, self.matrix = a, a + b

    def forward(self, species, edges, edge_vectors, structure_index):
        per_edge = 0.25 * (edge_vectors @ self.a * edge_vectors).sum(-1)
        energies = edge_vectors.new_zeros(len(species)).index_add(0, edges[0], per_edge)
        forces = torch.zeros(len(species), 3, dtype=edge_vectors.dtype)
        return energies, forces.index_add(0, edges[0], edge_vectors @ self.matrix)


def curl_of(turning):
    batch = collate([frame("H2O"), frame("CH3CH2OH")], 9.0, torch.float64)
    potential = DirectPotential(Field(turning), [1, 6, 8], [0.0, 0.0, 0.0])
    return measure_curl(potential, batch, probes=200)


@pytest.mark.slow
def test_a_gradient_field_has_none():
    curl = curl_of(0.0)
    assert float(curl.asymmetry.max()) < 1e-7
    assert float(curl.mismatch.max()) < 1e-10


@pytest.mark.slow
def test_the_estimate_is_the_ratio_of_the_norms():
    """J = L (x) M with the symmetric Laplacian L, so the ratio is that of the parts of M."""
    field = Field(0.7)
    antisymmetric = field.matrix - field.a
    expected = float(antisymmetric.norm() / field.a.norm())
    curl = curl_of(0.7)
    torch.testing.assert_close(curl.asymmetry, torch.full_like(curl.asymmetry, expected), rtol=0.1, atol=0.0)
    assert float(curl.mismatch.min()) > 0.1


def test_a_network_with_a_force_head_has_one():
    torch.manual_seed(0)
    config = ModelConfig(channels=8, layers=2, forces="direct", zbl=False)
    potential = build_potential(config, {1: 0.0, 6: 0.0, 8: 0.0})
    curl = measure_curl(potential, collate([frame("H2O")], 5.0))
    assert 0.01 < float(curl.asymmetry[0]) < 100.0
