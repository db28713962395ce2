import pytest
import torch

from piwsl.data.batch import collate
from piwsl.errors import ConfigError
from piwsl.losses import RandomDisplacement
from tests.molecules import frame

BATCH = collate([frame("C6H6"), frame("H2O")], 5.0, torch.float64)


def draw(many=400, **options):
    generator = torch.Generator().manual_seed(0)
    displacement = RandomDisplacement(**options)
    return torch.stack([displacement(BATCH, generator) for _ in range(many)])


@pytest.mark.parametrize("direction", ["normal", "uniform"])
def test_length_is_what_was_asked(direction):
    lengths = torch.linalg.vector_norm(draw(length=0.07, direction=direction), dim=-1)
    assert torch.allclose(lengths, torch.full_like(lengths, 0.07), rtol=1e-9)


@pytest.mark.parametrize("direction", ["normal", "uniform"])
def test_mean_direction_is_zero(direction):
    mean = draw(length=0.1, direction=direction).mean((0, 1)) / 0.1
    assert mean.abs().max() < 5.0 / (3 * 400 * 15) ** 0.5


def test_normal_draws_are_uniform_on_the_sphere():
    """The third coordinate of a uniform direction is uniform on [-1, 1]: variance 1/3, fourth moment 1/5."""
    z = draw(length=0.1)[..., 2] / 0.1
    assert float(z.square().mean()) == pytest.approx(1 / 3, abs=0.02)
    assert float((z**4).mean()) == pytest.approx(1 / 5, abs=0.02)


def test_drawn_lengths_are_one_a_structure_and_fill_the_interval():
    lengths = torch.linalg.vector_norm(draw(length=0.1, draw_length=True), dim=-1)
    benzene, water = lengths[:, :12], lengths[:, 12:]
    assert torch.allclose(benzene, benzene[:, :1].expand_as(benzene))
    assert not torch.allclose(benzene[:, 0], water[:, 0])
    assert 0.0 < float(lengths.min())
    assert float(lengths.max()) <= 0.1 * (1 + 1e-12)
    assert float(lengths.mean()) == pytest.approx(0.05, abs=0.005)


def test_translation_is_removed_from_each_structure():
    d = draw(many=3, length=0.1, remove_translation=True)
    assert d[:, :12].mean(1).abs().max() < 1e-12
    assert d[:, 12:].mean(1).abs().max() < 1e-12


def test_margin_bounds_the_approach_of_two_atoms():
    for options in ({"length": 0.1}, {"length": 0.1, "remove_translation": True}):
        d = draw(**options)
        approach = (d.unsqueeze(1) - d.unsqueeze(2)).norm(dim=-1).max()
        assert float(approach) <= RandomDisplacement(**options).margin


def test_same_generator_same_displacements():
    assert torch.equal(draw(many=2), draw(many=2))


@pytest.mark.parametrize("length", [0.0, -1.0, 0.6])
def test_absurd_lengths_are_refused(length):
    with pytest.raises(ConfigError, match="length"):
        RandomDisplacement(length=length)
