"""The compiled tensor products are those of `TensorProduct`, with all derivatives that training takes."""

import pytest
import torch

pytest.importorskip("numba", reason="needs numba: pip install 'piwsl[fast]'")

from piwsl.data.batch import collate
from piwsl.models import build_potential
from piwsl.models.neighbor_sums.edge_list import EdgeList
from piwsl.models.networks.ace import TensorProduct
from piwsl.models.networks.compiled_products import FusedTensorProduct
from piwsl.models.training_loops import training_neighbor_sums, use_in_training
from tests.support.models_for_tests import small_config
from tests.support.molecules import frame, oxide


def tensors(channels, dtype=torch.float64):
    made = torch.Generator().manual_seed(0)
    return [torch.randn(4, rows, channels, generator=made, dtype=dtype, requires_grad=True) for rows in (9, 9, 11)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [1, 3, 40])
def test_values(channels, dtype):
    given = tensors(channels, dtype)
    torch.testing.assert_close(FusedTensorProduct()(*given), TensorProduct()(*given))


def test_first_and_second_derivatives():
    given = tensors(2)
    assert torch.autograd.gradcheck(FusedTensorProduct(), given, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(FusedTensorProduct(), given)


def test_parts_of_larger_tensors_are_accepted():
    first, second, weights = (torch.cat((one, one), dim=1) for one in tensors(6))
    parts = first[:, 9:], second[:, :9], weights.split([11, 11], dim=1)[1]
    torch.testing.assert_close(FusedTensorProduct()(*parts), TensorProduct()(*parts))


def gradients(potential, batch):
    energies, forces = potential(*batch.graph, create_graph=True)
    (energies.square().sum() + forces.square().sum()).backward()
    return {name: weight.grad for name, weight in potential.named_parameters()}


def test_training_uses_them_with_equal_gradients():
    batch = collate([frame("CH3CH2OH"), oxide()], 5.0, torch.float64)
    found = []
    for sums in (EdgeList(), training_neighbor_sums(torch.device("cpu"))[0]):
        torch.manual_seed(0)
        config = small_config("ace", channels=8, radial_size=6)
        potential = build_potential(config, dict.fromkeys((1, 6, 8), 0.0)).double()
        names = list(potential.state_dict())
        use_in_training(potential.network, sums)
        assert list(potential.state_dict()) == names
        kinds = {type(part) for part in potential.modules() if isinstance(part, TensorProduct)}
        assert kinds == {TensorProduct if type(sums) is EdgeList else FusedTensorProduct}
        found.append(gradients(potential, batch))
    for name, expected in found[0].items():
        torch.testing.assert_close(found[1][name], expected, rtol=1e-9, atol=1e-9, msg=name)
