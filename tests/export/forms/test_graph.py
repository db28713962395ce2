import pytest
import torch

from piwsl.errors import ExportError
from piwsl.export.forms.graph import as_torchscript, trace


def test_constants_are_computed_once():
    weight = torch.randn(3, 3)
    table = torch.randn(5, 3)
    index = torch.tensor([1, 4])

    def function(x):
        return x @ (weight * 2.0).t() + table[index].sum(0)

    graph = trace(function, [torch.zeros(2, 3)])
    called = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
    assert called == ["aten.mm.default", "aten.add.Tensor"]
    x = torch.randn(2, 3)
    torch.testing.assert_close(graph(x), function(x))


def test_derivatives_are_recorded():
    def function(x):
        x = x.detach().requires_grad_(True)
        return torch.autograd.grad([x.sin().sum()], [x])[0]

    x = torch.randn(4)
    torch.testing.assert_close(trace(function, [torch.zeros(4)])(x), x.cos())


def test_an_operation_tied_to_a_device_is_refused():
    graph = trace(lambda x: x + torch.rand_like(x, device="cpu"), [torch.zeros(3)])
    with pytest.raises(ExportError, match="with a fixed device: rand_like"):
        as_torchscript(graph, [torch.zeros(3)])
