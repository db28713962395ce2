import pytest
import torch
from torch import nn

from piwsl.compat import aotinductor
from piwsl.compat.aotinductor import AotiRunners
from piwsl.compat.torch import compile_package
from piwsl.errors import EngineError


class Sums(nn.Module):
    def forward(self, x, y):
        return x.float().sum(0), (x * y).t()


@pytest.mark.compile
def test_two_runners_of_a_package_give_the_same(tmp_path, monkeypatch):
    inputs = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    package = compile_package(Sums(), inputs, None, tmp_path / "sums.pt2", {"cpp.threads": 1})
    content = package.read_bytes()
    first, second = (AotiRunners(content).new() for _ in range(2))
    for runner in (first, second, first):
        sums, products = runner(inputs)
        torch.testing.assert_close(sums, inputs[0].float().sum(0))
        torch.testing.assert_close(products, (inputs[0] * inputs[1]).t())
    # PyTorch always brings the library: an argument for its name would serve this test alone.
    monkeypatch.setattr(aotinductor, "_library", lambda name: "none.so")
    with pytest.raises(EngineError, match="cannot be called without the GIL"):
        AotiRunners(content)
