"""eSCN and Equiformer v2: laws, singular directions, direct forces, mirror images, presets, mistakes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from piwsl.data.batch import collate
from piwsl.data.frames import Frame
from piwsl.errors import ConfigError
from piwsl.models import DirectPotential, ModelConfig, build_network, build_potential
from piwsl.models.networks.equiformer_v2 import GraphAttention
from piwsl.testing import check_model
from tests.support.harmonics import some_rotation
from tests.support.molecules import frame, oxide

ENERGIES = {1: -0.5, 6: -38.0, 8: -75.0}
FRAMES = [frame("H2O"), frame("CH3CH2OH"), frame("C6H6")]
NETWORKS = ["escn", "equiformer_v2"]
DTYPES = [torch.float32, torch.float64]

both = pytest.mark.parametrize("network", NETWORKS)


def potential(network, dtype=torch.float64, **options):
    torch.manual_seed(0)
    sizes = {"channels": 8, "layers": 2, "radial_size": 8, "cutoff": 3.0}
    made = build_potential(ModelConfig(network=network, **{**sizes, **options}), ENERGIES, scale=1.7)
    made.network.to(dtype)
    return made


def call(model, frames, dtype=torch.float64):
    energies, forces = model(*collate(frames, 3.2, dtype).graph)
    return energies.detach(), forces.detach()


def rotated(made, matrix):
    return replace(made, positions=made.positions @ matrix.T, cell=made.cell @ matrix.T)


def without_labels(species, positions):
    return Frame(np.array(species), np.array(positions), np.nan, np.full((len(species), 3), np.nan))


def chiral_molecule():
    positions = np.random.default_rng(0).uniform(0, 3, size=(6, 3))
    return without_labels([6, 1, 8, 1, 6, 6], positions)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "dtype"),
    [((2, 1), torch.float64), ((2, 2), torch.float64), ((3, 2), torch.float64), ((3, 2), torch.float32)],
)
@pytest.mark.parametrize("forces", ["conservative", "direct"])
@both
def test_the_laws_of_a_potential(network, sizes, forces, dtype):
    model = potential(network, dtype, l_max=sizes[0], m_max=sizes[1], forces=forces)
    check_model(model, FRAMES, 3.0, dtype, conservative=forces == "conservative")


@pytest.mark.slow
def test_the_laws_with_gates():
    check_model(potential("equiformer_v2", activation="gate"), FRAMES, 3.0, torch.float64)


@pytest.mark.parametrize("dtype", DTYPES)
@both
def test_degree_six_turns_with_the_structure(network, dtype):
    """Among the rotations are some that bring an edge onto the z axis, or within 1e-6 of it."""
    model = potential(network, dtype, l_max=6, m_max=2, layers=1)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    ethanol = FRAMES[1]
    edge = ethanol.positions[1] - ethanol.positions[0]
    to_axis = [aligned(edge, np.array(axis)) for axis in ([0, 0, 1.0], [0, 0, -1.0], [1e-6, 0, -1.0], [1.0, 0, 1e-12])]
    energies, forces = call(model, [ethanol], dtype)
    offset = sum(ENERGIES[int(number)] for number in ethanol.species)
    for matrix in (some_rotation(), *to_axis):
        same, turned = call(model, [rotated(ethanol, matrix)], dtype)
        assert float((same - energies).abs()) < tolerance * float((energies - offset).abs())
        expected = forces @ torch.from_numpy(matrix.T).to(dtype)
        assert float((turned - expected).abs().max()) < tolerance * float(forces.abs().max())


def aligned(vector, axis):
    """A rotation that turns a vector to an axis."""
    one, other = vector / np.linalg.norm(vector), axis / np.linalg.norm(axis)
    half = one + other
    half /= np.linalg.norm(half)
    return (2.0 * np.outer(half, half) - np.eye(3)) @ (2.0 * np.outer(one, one) - np.eye(3))


@pytest.mark.parametrize(
    "direction", [[0, 0, 1.0], [0, 0, -1.0], [1e-6, 0, 1.0], [0, 1e-7, -1.0], [1.0, 0, 0], [0, 1.0, 0]]
)
@both
def test_forces_and_their_derivatives_where_edges_lie_on_axes(network, direction):
    """Atoms 0 and 1 lie along the direction; both ends of the edge are centers, so both charts are in use."""
    axis = np.array(direction) / np.linalg.norm(direction)
    positions = np.array([np.zeros(3), 1.1 * axis, [0.7, 0.9, -0.3]])
    model = potential(network, l_max=3)
    batch = collate([without_labels([8, 6, 1], positions)], 3.2, torch.float64)
    moves = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    moves /= moves.norm()

    def moved(step):
        energies, forces = model(*batch.moved(batch.positions + step * moves).graph)
        return float(energies.detach()), forces.detach()

    (ahead, forces_ahead), (behind, forces_behind) = moved(1e-4), moved(-1e-4)
    positions = batch.positions.clone().requires_grad_(True)
    energies = model.energies(*batch.moved(positions).graph)
    (gradient,) = torch.autograd.grad(energies.sum(), positions, create_graph=True)
    assert float((gradient * moves).sum().detach()) == pytest.approx((ahead - behind) / 2e-4, abs=1e-6)
    (curvature,) = torch.autograd.grad((gradient * moves).sum(), positions)
    torch.testing.assert_close(curvature, (forces_behind - forces_ahead) / 2e-4, rtol=0, atol=1e-5)
    assert float(gradient.abs().max().detach()) > 1e-3


@both
def test_energies_and_forces_are_equal_in_both_charts(network):
    """A small turn takes edges across the border at z = 0."""
    flat = without_labels([8, 6, 1, 1], [[0, 0, 0], [1.2, 0, 0], [-0.3, 0.9, 0], [1.5, -1.0, 0]])
    model = potential(network, l_max=3, zbl=False)  # large forces turn visibly
    angle = 1e-9
    tilt = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    for one, other in zip(call(model, [rotated(flat, tilt)]), call(model, [rotated(flat, tilt.T)]), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-8)


@pytest.mark.parametrize("chiral", [False, True])
@both
def test_mirror_images_have_one_energy_unless_chiral(network, chiral):
    model, made = potential(network, chiral=chiral), chiral_molecule()
    energy = call(model, [made])[0].item()
    turned = call(model, [rotated(made, some_rotation())])[0].item()
    mirrored = call(model, [rotated(made, np.diag([1.0, 1.0, -1.0]))])[0].item()
    assert turned == pytest.approx(energy, abs=1e-11)
    assert (abs(mirrored - energy) > 1e-4) == chiral


@pytest.mark.slow
@pytest.mark.parametrize("chiral", [False, True])
@both
def test_direct_forces_turn_with_a_periodic_structure(network, chiral):
    model, made, matrix = potential(network, forces="direct", chiral=chiral), oxide(), some_rotation()
    assert isinstance(model, DirectPotential)
    energies, forces = call(model, [made])
    same, turned = call(model, [rotated(made, matrix)])
    torch.testing.assert_close(same, energies, rtol=0, atol=1e-10)
    torch.testing.assert_close(turned, forces @ torch.from_numpy(matrix.T), rtol=0, atol=1e-11)
    assert float(forces.abs().max()) > 1e-3
    scripted = torch.jit.script(model)
    for one, other in zip(call(model, [made]), call(scripted, [made]), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


def test_attention_weights_vanish_at_the_cutoff_and_sum_to_less_than_one():
    torch.manual_seed(0)
    attention = GraphAttention(2, 2, 8, 8, 3, 8, 4, 4, 8, 8, "sphere", False).double()
    edges = torch.tensor([[0, 0, 1, 2], [1, 2, 0, 0]])
    for_logits = 3.0 * torch.randn(4, 12, dtype=torch.float64)
    weights = attention.weights(for_logits, torch.tensor([[0.5], [1e-9], [1e-9], [0.0]]).double(), edges, 3).detach()
    assert weights.shape == (4, 3)
    assert float(weights[1:].max()) < 1e-6
    assert float(weights[3].max()) == 0.0
    everywhere = attention.weights(for_logits, torch.ones(4, 1).double(), edges, 3).detach()
    sums = torch.zeros(3, 3, dtype=torch.float64).index_add(0, edges[0], everywhere)
    assert float(everywhere.min()) > 0.0
    assert float(sums.max()) < 1.0
    assert float(attention.weights(1e9 * for_logits, torch.ones(4, 1).double(), edges, 3).detach().max()) <= 1.0


def test_the_attention_follows_its_features():
    """Features of the edge from 0 to 1 alone decide about its share among the neighbors of atom 0."""
    torch.manual_seed(0)
    attention = GraphAttention(2, 2, 8, 8, 1, 8, 4, 4, 8, 8, "sphere", False).double()
    edges, switch = torch.tensor([[0, 0], [1, 2]]), torch.ones(2, 1).double()
    features = torch.randn(2, 4, dtype=torch.float64)
    first = attention.weights(features, switch, edges, 3).detach()
    second = attention.weights(features.flip(0), switch, edges, 3).detach()
    torch.testing.assert_close(first, second.flip(0))
    assert abs(float(first[0] - first[1])) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "forces", "millions"),
    [
        ("escn", "conservative", 39.0),
        ("equiformer_v2", "conservative", 27.2),
        ("equiformer_v2", "direct", 30.3),  # 31 in the paper
        ("painn", "direct", 19.4),
        ("schnet", "conservative", 22.7),
    ],
)
def test_presets_have_the_published_sizes(network, forces, millions):
    config = ModelConfig(network=network, preset="paper", forces=forces)
    weights = sum(weight.numel() for weight in build_network(config).parameters())
    assert weights / 1e6 == pytest.approx(millions, abs=0.1)
    assert ModelConfig(**config.model_dump()) == config


def test_other_keys_take_precedence_over_a_preset():
    config = ModelConfig(network="escn", preset="paper")
    smaller = ModelConfig(network="escn", preset="paper", cutoff=4.0, layers=2)
    assert (config.cutoff, config.options["layers"], config.options["l_max"]) == (12.0, 12, 6)
    assert smaller.model_dump() == {**config.model_dump(), "cutoff": 4.0, "layers": 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": "escn", "preset": "papre"}, "network escn has no preset 'papre': its presets are paper"),
        ({"network": "ace", "preset": "paper"}, "network ace has no preset 'paper': it has none"),
        ({"network": "escn", "l_max": 1}, "m_max=2 is above l_max=1"),
        ({"network": "equiformer_v2", "l_max": 2, "m_max": 3}, "m_max=3 is above l_max=2"),
    ],
)
def test_mistakes_in_the_configuration(options, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**options)


def test_a_network_made_without_a_configuration_checks_its_orders():
    from piwsl.models import ESCN

    with pytest.raises(ConfigError, match="m_max=3 is above l_max=2"):
        ESCN(m_max=3)
