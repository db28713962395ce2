import pytest
import torch
from torch import nn
from torch._inductor.exc import CppCompileError

from piwsl.compat import aotinductor
from piwsl.compat.aotinductor import AotiRunners
from piwsl.compat.torch import compile_package, load_package
from piwsl.errors import EngineError


class Sums(nn.Module):
    def forward(self, x, y):
        return x.float().sum(0), (x * y).t()


def inputs():
    return torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return compile_package(Sums(), inputs(), None, tmp_path_factory.mktemp("aoti") / "sums.pt2", {"cpp.threads": 1})


def check(found, given):
    sums, products = found
    torch.testing.assert_close(sums, given[0].float().sum(0))
    torch.testing.assert_close(products, (given[0] * given[1]).t())


@pytest.mark.compile
def test_a_package_is_compiled_and_loaded(package, tmp_path):
    given = inputs()
    check(load_package(package).run(list(given)), given)
    (tmp_path / "damaged.pt2").write_bytes(b"nothing")
    with pytest.raises(RuntimeError):
        load_package(tmp_path / "damaged.pt2")


class WrappedError(RuntimeError):
    """As PyTorch 2.7 and newer wrap errors of the compiler; 2.6 raises them as they are."""

    def __init__(self, inner_exception):
        self.inner_exception = inner_exception


@pytest.mark.parametrize("wrap", [lambda error: error, WrappedError])
def test_a_compiler_without_the_vector_instructions_is_asked_what_it_supports(wrap, tmp_path, monkeypatch):
    attempts = []

    def compile_and_package(program, package_path, inductor_configs):
        attempts.append(inductor_configs)
        if "cpp.vec_isa_ok" in inductor_configs:
            raise wrap(CppCompileError(["c++"], "unknown option -mamx"))
        return package_path

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", compile_and_package)
    path = tmp_path / "sums.pt2"
    assert compile_package(Sums(), inputs(), None, path, {"cpp.threads": 1}) == path
    assert attempts == [{"cpp.vec_isa_ok": True, "cpp.threads": 1}, {"cpp.threads": 1}]


def test_another_error_of_the_compiler_is_raised_at_once(tmp_path, monkeypatch):
    attempts = []

    def compile_and_package(program, package_path, inductor_configs):
        attempts.append(inductor_configs)
        raise ValueError("another")

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", compile_and_package)
    with pytest.raises(ValueError, match="another"):
        compile_package(Sums(), inputs(), None, tmp_path / "sums.pt2", {})
    assert len(attempts) == 1


@pytest.mark.compile
def test_two_runners_of_a_package_give_the_same(package, monkeypatch, tmp_path):
    content, given = package.read_bytes(), inputs()
    first, second = (AotiRunners(content, tmp_path / name).new() for name in ("first", "second"))
    for runner in (first, second, first):
        check(runner(given), given)
    # PyTorch always brings the library: an argument for its name would serve this test alone.
    monkeypatch.setattr(aotinductor, "_library", lambda name: "none.so")
    with pytest.raises(EngineError, match="cannot be called without the GIL"):
        AotiRunners(content, tmp_path)
