import torch
from torch import nn

from piwsl.compat.torch import copies_to_device, trace_operations


def test_layer_norms_are_decomposed():
    graph = trace_operations(lambda x: nn.functional.layer_norm(x, (3,)), [torch.randn(2, 3)], symbolic=False)
    called = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
    assert called
    assert not any("native_layer_norm" in name for name in called)


def test_sizes_stay_open():
    graph = trace_operations(lambda x: x.sum(0) * x.shape[0], [torch.randn(5, 3)], symbolic=True)
    x = torch.randn(7, 3)
    torch.testing.assert_close(graph(x), x.sum(0) * 7)


def test_copies_are_found():
    graph = trace_operations(lambda x: x.to(torch.float64) + 1, [torch.randn(2)], symbolic=False)
    copies = [node for node in graph.graph.nodes if copies_to_device(node.target)]
    assert len(copies) == 1
