"""Without a GPU: no operation mixes tensors of the CPU with those of a GPU, and results equal those of the CPU.

`tests/support/pretended_gpu.py` describes the pretended GPU. It finds tensors that were created on the wrong device,
but not errors of kernels. tests/losses/test_device.py and benchmarks/gpu_check.py run on a real GPU.
"""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import piwsl.export.replica_evaluation as replica_evaluation
from piwsl.data.batch import collate
from piwsl.export.evaluation import bind
from piwsl.export.exported_file import load_exported
from piwsl.export.exporter import Exporter
from piwsl.export.forms.compiled import edges_program, molecule_program
from piwsl.export.forms.graph import molecule_function, trace
from piwsl.export.forms.scripted import (
    CopiesForm,
    EdgesCore,
    GeneralForm,
    MinimumImages,
    MoleculeForm,
    OpenMMForm,
    pair_edges,
)
from piwsl.losses import (
    FrameRandom,
    Objective,
    WeightedTerm,
)
from piwsl.md.engines.native import NativeReplicas
from piwsl.md.protocol import MDProtocol
from piwsl.md.simulation import starts
from piwsl.models import ModelConfig, build_potential
from piwsl.models.build import build_prior
from piwsl.models.levels import with_levels
from piwsl.models.neighbor_sums.molecule import MoleculeCopies, MoleculePairs
from piwsl.models.networks import BUILT_IN
from piwsl.models.priors.walls import WallRanges
from tests.support.models_for_tests import trained_file, trained_model
from tests.support.molecules import frame, oxide
from tests.support.objectives import DISPLACEMENTS, TERMS
from tests.support.potentials import ENERGIES, painn
from tests.support.pretended_gpu import DEVICE, MixedDevicesError, module_to_device, pretended_gpu, values_of

FRAMES = [frame("CH3CHO", labeled=True), oxide(labeled=True)]
WALLS = WallRanges(shortest={"C-H": 0.9, "C-O": 1.2, "H-H": 1.4, "H-O": 0.8})
VARIANTS = [
    *({"network": name} for name, _, _ in BUILT_IN),
    *({"network": name, "forces": "direct"} for name, _, direct in BUILT_IN if direct is not None),
    {"network": "painn", "charge_embedding": True},
    {"network": "painn", "zbl": True, "walls": WALLS},
    {"network": "painn", "forces": "direct", "zbl": True, "walls": WALLS},
]


def built(network="painn", **options):
    torch.manual_seed(0)
    size = {"elements": tuple(ENERGIES)} if network == "mace" else {"layers": 2}
    config = ModelConfig(network=network, cutoff=3.0, channels=8, **size, **options)
    return config, build_potential(config, ENERGIES)


def second_derivatives(potential, batch):
    """Energies, forces, and the gradient of both with respect to the weights."""
    energies, forces = potential(*batch.graph, create_graph=True)
    loss = energies.sum() + forces.square().sum()
    slopes = torch.autograd.grad(loss, list(potential.parameters()), allow_unused=True)
    return [energies.detach(), forces.detach(), *(slope for slope in slopes if slope is not None)]


def same(expected, results):
    """Whether all results are on the pretended GPU and equal those of the CPU."""
    for first, second in zip(expected, results, strict=True):
        assert second.device == DEVICE
        torch.testing.assert_close(values_of(second).detach(), first.detach(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    "options", VARIANTS, ids=lambda options: "-".join(options if "walls" in options else map(str, options.values()))
)
def test_energies_forces_and_second_derivatives(options):
    _, potential = built(**options)
    batch = collate(FRAMES, 3.2)
    expected = second_derivatives(potential, batch)
    with pretended_gpu():
        same(expected, second_derivatives(module_to_device(potential), batch.to(DEVICE)))


@pytest.mark.parametrize("forces", ["conservative", "direct"])
def test_levels(forces):
    config, potential = built(forces=forces)
    potential = with_levels(potential, [([1, 6, 8], [-13.0, -1031.0, -2040.0])], build_prior(config, [1, 6, 8]))
    batch = collate([replace(FRAMES[0], level=1), FRAMES[1]], 3.2)
    expected = second_derivatives(potential, batch)
    with pretended_gpu():
        same(expected, second_derivatives(module_to_device(potential), batch.to(DEVICE)))


@pytest.mark.slow
@pytest.mark.parametrize("displacement", DISPLACEMENTS)
@pytest.mark.parametrize("forces", ["conservative", "direct"])
def test_losses_and_their_gradients(displacement, forces):
    objective = Objective([WeightedTerm(term, 1.0) for term in TERMS], displacement)
    batch = collate(FRAMES, 3.0 + objective.margin, torch.float64)

    def gradient(potential, batch):
        loss, _ = objective(potential, batch, FrameRandom(0, 0))
        loss.backward()
        return [loss.detach(), *(weight.grad for weight in potential.parameters() if weight.grad is not None)]

    expected = gradient(painn(forces), batch)
    with pretended_gpu():
        same(expected, gradient(module_to_device(painn(forces)), batch.to(DEVICE)))


def compare(make, *inputs):
    """Compare a form with a copy on the pretended GPU. The other inputs than tensors are passed as they are."""
    expected = results_of(make()(*inputs))
    with pretended_gpu():
        moved = [value.to(DEVICE) if isinstance(value, torch.Tensor) else value for value in inputs]
        same(expected, results_of(module_to_device(make())(*moved)))


def results_of(returned):
    return list(returned.values()) if isinstance(returned, dict) else list(returned)


ETHANOL = frame("CH3CH2OH")
POSITIONS, SPECIES = torch.from_numpy(ETHANOL.positions), torch.from_numpy(ETHANOL.species)
BOX = 12.0 * torch.eye(3, dtype=torch.float64)


def potentials(pairs=None, **options):
    return [trained_model(seed=seed, **options).potential(pairs, "float32") for seed in (0, 1)]


def general(few=None, **options):
    form = GeneralForm(EdgesCore(potentials(**options), torch.float32), 4.0)
    if few is not None:
        form.search.few = form.search.few_on_gpu = few
    return form


@pytest.mark.parametrize("few", [1000, 0], ids=["all pairs", "columns"])
@pytest.mark.parametrize(
    "cell",
    [(), (BOX,), (0.5 * BOX,), (0.5 * BOX, torch.tensor([True, True, False]))],
    ids=["molecule", "box", "narrow box", "slab"],
)
def test_the_general_form(few, cell):
    compare(lambda: general(few), SPECIES, POSITIONS, *cell)


def test_the_general_form_with_a_charge():
    compare(lambda: general(network="so3lr"), SPECIES, POSITIONS, None, None, 1.0, 0.0)


@pytest.mark.parametrize("box", [(), (0.1 * BOX,)], ids=["molecule", "box"])
def test_the_form_for_openmm(box):
    compare(lambda: OpenMMForm(general(), SPECIES.tolist()), 0.1 * POSITIONS, *box)


@pytest.mark.slow
@pytest.mark.parametrize("copies", [1, 3])
def test_the_forms_of_a_molecule(copies):
    pairs = (MoleculeCopies if copies > 1 else MoleculePairs)(len(SPECIES), copies)
    images = MinimumImages(pair_edges(pairs), 4.0)
    many = POSITIONS.repeat(copies, 1) + 1e-3 * torch.arange(copies * len(SPECIES)).unsqueeze(1)
    vectors = images(many, None).float()
    graph = trace(molecule_function(potentials(pairs), pairs, SPECIES), [vectors])

    def make():
        around = (deepcopy(graph), deepcopy(images), torch.float32, 2, SPECIES.tolist())
        return MoleculeForm(*around) if copies == 1 else CopiesForm(*around, copies)

    for box in ((), (0.1 * BOX,)):
        compare(make, 0.1 * many, *box)
    pairs = MoleculePairs(len(SPECIES), copies)
    program = molecule_program(potentials(pairs), pairs, SPECIES, many, torch.float32)
    compare(lambda: deepcopy(program.graph), many, BOX, torch.linalg.inv(BOX))


@pytest.mark.slow
def test_the_program_of_edges():
    batch = collate([ETHANOL], 4.0)
    inputs = (batch.species, batch.edges, batch.edge_vectors())
    program = edges_program(EdgesCore(potentials(), torch.float32), inputs)
    compare(lambda: deepcopy(program.graph), *inputs)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Two exported files of an ensemble: for any structure, and for three copies of ethanol."""
    folder = tmp_path_factory.mktemp("exported")
    exporter = Exporter([trained_file(folder / "model.pt")] * 2)
    exporter.general(folder / "general.pt")
    exporter.openmm(ETHANOL, folder / "copies.pt", copies=3)
    return folder


def loaded(path, device):
    """A TorchScript file whose tensors are on a device."""
    potential = load_exported(path)
    if device == "cpu":
        return potential
    for part in potential.program.modules():
        for name, value in [*part.named_buffers(recurse=False), *part.named_parameters(recurse=False)]:
            moved = value.detach().to(DEVICE)
            setattr(part, name, nn.Parameter(moved, requires_grad=False) if name in part._parameters else moved)
    return replace(potential, device=str(DEVICE))


def test_evaluation(exported):
    def evaluated(device):
        return bind(loaded(exported / "general.pt", device), ETHANOL.species)(ETHANOL.positions)

    expected = evaluated("cpu")
    with pretended_gpu():
        result = evaluated(DEVICE)
    assert result.energy == expected.energy
    np.testing.assert_array_equal(result.forces, expected.forces)
    np.testing.assert_array_equal(result.virial, expected.virial)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["general.pt", "copies.pt"])
@pytest.mark.parametrize("ensemble", ["nve", "nvt-langevin", "nvt-nose-hoover"])
def test_the_native_engine(exported, file, ensemble, monkeypatch):
    monkeypatch.setitem(replica_evaluation.CHUNK_ATOMS, DEVICE.type, 256)
    atoms = ETHANOL.atoms()
    protocol = MDProtocol.of(ensemble=ensemble, replicas=4, engine="native", timestep=0.1, equilibration=0)

    def run(device):
        bound = replica_evaluation.bind_replicas(loaded(exported / file, device), atoms.numbers)
        engine = NativeReplicas(bound, atoms, protocol, starts(atoms, protocol, range(4)))
        engine.advance(2)
        engine.restore({1: engine.state(1)}, {})
        engine.remove(2)
        engine.advance(1)
        positions = np.stack([snapshot.positions for snapshot in engine.snapshots()])
        return positions, engine.forces(), np.array([pair.potential for pair in engine.energies()])

    expected = run("cpu")
    with pretended_gpu():
        results = run(DEVICE)
    for first, second in zip(expected, results, strict=True):
        np.testing.assert_array_equal(second, first)


class Careless(nn.Module):
    """A network that creates a tensor without a device."""

    def forward(self, species, edges, edge_vectors, structure_index):
        ones = torch.ones(len(species), 1, dtype=edge_vectors.dtype)
        return (ones.index_add(0, edges[0], edge_vectors.square().sum(-1, keepdim=True))).squeeze(-1)


def test_a_tensor_on_the_wrong_device_is_found():
    _, potential = built()
    potential.network = Careless()
    batch = collate(FRAMES, 3.2)
    potential(*batch.graph)
    with pretended_gpu():
        module_to_device(potential)
        with pytest.raises(MixedDevicesError, match="on the CPU"):
            potential(*batch.to(DEVICE).graph)


def test_a_forgotten_weight_is_found():
    _, potential = built()
    batch = collate(FRAMES, 3.2)
    with pretended_gpu(), pytest.raises(MixedDevicesError, match="on the CPU"):
        potential(*batch.to(DEVICE).graph)


def test_the_rules_of_the_pretended_gpu():
    with pretended_gpu():
        there = torch.arange(4, device=DEVICE)
        assert there.device == DEVICE
        assert there.tolist() == [0, 1, 2, 3]
        assert (there + torch.tensor(1)).device == DEVICE
        assert there.cpu().numpy().sum() == 6
        assert there[torch.tensor([1, 2])].tolist() == [1, 2]
        assert there[[1, 2]].tolist() == [1, 2]
        assert torch.tensor([1.0], device=DEVICE).tolist() == [1.0]
        assert there.new_tensor([3]).device == DEVICE
        with pytest.raises(MixedDevicesError):
            there + torch.arange(4)
        with pytest.raises(MixedDevicesError):
            torch.arange(4).index_select(0, there)
        with pytest.raises(RuntimeError, match="not supported"):
            there.numpy()
        there[1:3] = torch.tensor([8, 9])
        assert there.tolist() == [0, 8, 9, 3]
