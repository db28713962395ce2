"""Potentials with several levels: a mixed batch equals separate evaluations of plain potentials with one head each."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from piwsl.data.batch import collate
from piwsl.errors import ConfigError
from piwsl.losses.curvature import hessian_product
from piwsl.losses.evaluation import evaluate
from piwsl.losses.forward_mode import directional_derivative
from piwsl.losses.predictions import ORIGIN, PredictionRequest, Work
from piwsl.models import ModelConfig, Potential, build_potential
from piwsl.models.build import build_prior
from piwsl.models.levels import DirectLevelsPotential, LevelsPotential, head_names, with_levels
from piwsl.models.neighbor_sums.compiled import FusedEdgeList
from piwsl.models.neighbor_sums.edge_list import EdgeList, use_neighbor_sums
from piwsl.models.networks import BUILT_IN
from tests.support.molecules import frame, oxide

ENERGIES = {1: -13.6, 6: -1030.0, 8: -2042.0}
# The energies of the elements at two further levels; the second one has no carbon.
OTHERS = ({1: -13.1, 6: -1031.0, 8: -2040.0}, {1: -12.0, 8: -2030.0})
LEVELS = (1, 0, 2, 0, 1)
FRAMES = [
    replace(made, level=level)
    for made, level in zip(
        [frame("CH3OH"), frame("H2O"), frame("H2O", seed=1), oxide(), frame("CH4")], LEVELS, strict=True
    )
]


def randomize(parameters, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in parameters:
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))


def several(network="painn", seed=0, **options):
    """A small potential in float64 with three levels, whose heads differ."""
    torch.manual_seed(seed)
    size = {"elements": [1, 6, 8]} if network == "mace" else {"layers": 2}
    config = ModelConfig(**{"network": network, "channels": 8, "cutoff": 3.0, **size, **options})
    first = build_potential(config, ENERGIES, scale=1.7)
    first.network.double()
    levels = [(list(energies), list(energies.values())) for energies in OTHERS]
    potential = with_levels(first, levels, build_prior(config, [1, 6, 8]))
    for index in (1, 2):
        randomize(potential.head(index).weights, 10 * seed + index)
    return config, potential


def alone(config, potential, index):
    """The plain potential with the head of one level."""
    energies = {z: float(potential.energies_of_elements(index)[z]) for z in potential.elements_of(index)}
    plain = build_potential(config, energies, float(potential.scale))
    head = potential.head(index).named_weights() if index else {}
    plain.network.double().load_state_dict({**potential.network.state_dict(), **head})
    return plain


def separate(config, potential, function):
    """Results of a function of potential and batch, each structure with the plain potential of its level."""
    plain = [alone(config, potential, index) for index in (0, 1, 2)]
    reach = config.cutoff + 0.5
    return [function(plain[one.level], collate([replace(one, level=0)], reach, torch.float64)) for one in FRAMES]


def mixed(config):
    return collate(FRAMES, config.cutoff + 0.5, torch.float64)


def close(found, expected):
    torch.testing.assert_close(found.detach(), expected.detach(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("network", [name for name, *_ in BUILT_IN])
def test_energies_and_forces_equal_those_of_plain_potentials(network):
    config, potential = several(network)
    assert isinstance(potential, LevelsPotential)
    energies, forces = potential(*mixed(config).graph)
    results = separate(config, potential, lambda plain, batch: plain(*batch.graph))
    close(energies, torch.cat([result[0] for result in results]))
    close(forces, torch.cat([result[1] for result in results]))
    # The heads do differ, beyond their reference energies.
    same = replace(mixed(config), level=None)
    assert (potential(*same.graph)[1] - forces).abs().max() > 1e-4


@pytest.mark.parametrize("network", ["painn", "escn", "equiformer_v2", "spinconv"])
def test_direct_forces_equal_those_of_plain_potentials(network):
    config, potential = several(network, forces="direct")
    assert isinstance(potential, DirectLevelsPotential)
    batch = mixed(config)
    energies, forces = potential(*batch.graph)
    results = separate(config, potential, lambda plain, one: plain(*one.graph))
    close(energies, torch.cat([result[0] for result in results]))
    close(forces, torch.cat([result[1] for result in results]))
    close(potential.energies(*batch.graph), energies)


@pytest.mark.parametrize("forces", ["conservative", "direct"])
def test_losses_see_the_results_of_each_level(forces):
    """Displaced copies, works in forward mode, stress and curvature, all in one mixed batch."""
    config, potential = several(forces=forces)
    batch = mixed(config)
    steps = 0.02 * torch.randn(batch.positions.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    directions = torch.nn.functional.normalize(steps, dim=-1)
    work = Work(ORIGIN, ORIGIN, 1)
    request = PredictionRequest(
        energies=frozenset({1}), forces=frozenset({ORIGIN}), works=frozenset({work}), stress=True, curvature=True
    )
    one_by_one = PredictionRequest(works=frozenset({work}))
    found = evaluate(potential, batch, [steps], request, directions)
    in_forward_mode = evaluate(potential, batch, [steps], one_by_one)
    ends = [0, *torch.cumsum(batch.n_atoms, 0).tolist()]
    parts = [slice(start, end) for start, end in pairwise(ends)]
    plain = [alone(config, potential, index) for index in (0, 1, 2)]
    for number, (one, part) in enumerate(zip(FRAMES, parts, strict=True)):
        single = collate([replace(one, level=0)], config.cutoff + 0.5, torch.float64)
        expected = evaluate(plain[one.level], single, [steps[part]], request, directions[part])
        close(found.energies[1][number], expected.energies[1][0])
        close(found.forces[ORIGIN][part], expected.forces[ORIGIN])
        close(found.work(work)[number], expected.work(work)[0])
        close(in_forward_mode.work(work)[number], expected.work(work)[0])
        close(found.curvature[part], expected.curvature)
        close(found.stress[number], expected.stress[0])


def test_gradients_of_the_weights_in_both_modes():
    """A loss of forces and curvature has the gradients of plain potentials, which only their own heads receive."""
    config, potential = several()
    batch = mixed(config)
    directions = torch.ones_like(batch.positions)

    def gradients(level, weights):
        batch_of = replace(batch, level=None if level is None else torch.full_like(batch.level, level))
        _, forces = potential(*batch_of.graph, create_graph=True)
        _, change = directional_derivative(
            lambda moved: potential.energies(*batch_of.moved(moved).graph), batch.positions, directions
        )
        loss = forces.square().sum() + change.square().sum()
        loss = loss + hessian_product(potential, batch_of, directions).square().sum()
        return torch.autograd.grad(loss, weights, allow_unused=True)

    own, other = list(potential.head(1).weights), list(potential.head(2).weights)
    found = gradients(1, own)
    assert all(gradient is None for gradient in gradients(1, other))
    plain = alone(config, potential, 1)
    _, forces = plain(*replace(batch, level=None).graph, create_graph=True)
    change = -(forces * directions).sum(-1)
    change = change.new_zeros(5).index_add(0, batch.structure_index, change)
    loss = forces.square().sum() + change.square().sum()
    loss = loss + hessian_product(plain, replace(batch, level=None), directions).square().sum()
    weights = [plain.network.get_parameter(name) for name in potential.head(1).names]
    for gradient, expected in zip(found, torch.autograd.grad(loss, weights, allow_unused=True), strict=True):
        if expected is None:  # the last bias has no effect on forces
            assert gradient is None or not gradient.any()
        else:
            close(gradient, expected)


@pytest.mark.slow
def test_compiled_neighbor_sums():
    config, potential = several()
    batch = mixed(config)
    energies, forces = potential(*batch.graph)
    use_neighbor_sums(potential.network, FusedEdgeList())
    fused_energies, fused_forces = potential(*batch.graph)
    use_neighbor_sums(potential.network, EdgeList())
    close(fused_energies, energies)
    close(fused_forces, forces)


def test_a_batch_of_one_level_is_not_divided(monkeypatch):
    config, potential = several()
    batch = replace(mixed(config), level=torch.full((5,), 1))
    calls = []
    monkeypatch.setattr(torch.Tensor, "nonzero", lambda *_: calls.append(1))
    potential(*batch.graph)
    assert not calls


def test_charges_go_with_their_structures():
    config, potential = several(charge_embedding=True)
    states = [(1.0, 0.0), (float("nan"), float("nan")), (0.0, 2.0), (-1.0, 1.0), (2.0, 0.0)]
    frames = [
        replace(one, charge=charge, unpaired_electrons=unpaired)
        for one, (charge, unpaired) in zip(FRAMES, states, strict=True)
    ]
    energies, _ = potential(*collate(frames, 3.5, torch.float64).graph)
    for one, energy in zip(frames, energies, strict=True):
        plain = alone(config, potential, one.level)
        close(energy, plain(*collate([replace(one, level=0)], 3.5, torch.float64).graph)[0][0])


def test_heads_start_as_copies():
    torch.manual_seed(0)
    config = ModelConfig(channels=8, layers=1, cutoff=3.0)
    plain = build_potential(config, ENERGIES)
    potential = with_levels(plain, [(list(ENERGIES), list(ENERGIES.values()))], plain.prior)
    batch = replace(collate([frame("H2O"), frame("CH4")], 3.0), level=torch.tensor([1, 0]))
    energies, forces = potential(*batch.graph)
    expected = plain(*replace(batch, level=None).graph)
    torch.testing.assert_close((energies, forces), expected)
    assert head_names(plain.network) == ["readout.0.weight", "readout.0.bias", "readout.2.weight", "readout.2.bias"]


def test_a_plain_potential_refuses_levels():
    config, potential = several()
    with pytest.raises(TypeError):
        alone(config, potential, 0).energies(*mixed(config).graph)


class Anonymous(nn.Module):
    """A network that states no head, although it has a module of this name."""

    def __init__(self, cutoff: float) -> None:
        super().__init__()
        self.head_weights = nn.Linear(1, 1)


class Stated(nn.Module):
    """A network whose head is a tensor of its own, not a module."""

    head_weights = ("factor",)

    def __init__(self, cutoff: float) -> None:
        super().__init__()
        self.body = nn.Linear(1, 1)
        self.factor = nn.Parameter(torch.ones(1))

    def forward(self, species, edges, edge_vectors, structure_index):
        return self.factor * self.body(species.unsqueeze(1).to(edge_vectors.dtype)).squeeze(1)


def test_a_network_of_a_user_states_its_head():
    with pytest.raises(ConfigError, match=r"Anonymous does not state which weights are its head: set the class attr"):
        with_levels(Potential(Anonymous(3.0), [1], [0.0]), [([1], [0.0])], None)
    potential = with_levels(Potential(Stated(3.0), [1, 8], [0.0, 0.0]), [([1, 8], [5.0, 0.0])], None)
    potential.head(1).load({"factor": torch.tensor([3.0])})
    batch = replace(collate([frame("H2O"), frame("H2O")], 3.0), level=torch.tensor([0, 1]))
    first, second = potential.energies(*batch.graph).tolist()
    assert second == pytest.approx(3 * first + 10.0)
