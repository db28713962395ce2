"""MACE from small random models that mace-torch 0.3.16 made, with the results of that program in float64."""

import gzip
import json
import math
from pathlib import Path

import pytest
import torch
from ase import Atoms
from pydantic import ValidationError

from piwsl.data.batch import collate
from piwsl.data.frames import Frame
from piwsl.errors import ConfigError, ElementError, ModelFileError
from piwsl.losses.forward_mode import directional_derivative
from piwsl.models import ModelConfig, build_network, build_potential
from piwsl.models.foundation.mace import KNOWN, convert_mace, read_mace
from piwsl.models.foundation.pickled import read_pickled
from piwsl.testing import check_network
from tests.support.foundation_files import changed_file
from tests.support.molecules import frame

HERE = Path(__file__).parent
RESULTS = json.loads((HERE / "mace_small.json").read_text())


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mace")
    for packed in HERE.glob("mace_*.model.gz"):
        (folder / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    return folder


def potential(model, dtype=torch.float64):
    made = build_potential(model.config, model.reference_energies, model.scale)
    made.network.to(getattr(torch, model.dtype)).load_state_dict(model.tensors)
    made.network.to(dtype)
    return made


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("result", RESULTS, ids=lambda one: f"{one['file']} {one['head']} {one['symbols']}")
def test_results_of_the_original_program(files, result, dtype):
    model = read_mace(files / f"{result['file']}.model", source="test", head=result["head"])
    made = potential(model, dtype)
    cell = result["cell"]
    atoms = Atoms(result["symbols"], result["positions"], cell=cell, pbc=cell is not None)
    energies, forces = made(*collate([Frame.from_atoms(atoms)], model.config.cutoff, dtype).graph)
    exact = dtype == torch.float64
    assert energies.tolist() == pytest.approx([result["energy"]], abs=1e-6 if exact else 2e-5)
    expected = torch.tensor(result["forces"], dtype=torch.float64)
    assert torch.allclose(forces.double(), expected, rtol=0, atol=1e-6 if exact else 1e-4)


def test_options_elements_and_heads_of_the_file(files):
    high = read_mace(files / "mace_agnostic_heads.model", source="test", head="high")
    low = read_mace(files / "mace_agnostic_heads.model", source="test", head="low")
    assert high.config.options["elements"] == (8, 1, 6)
    assert (high.config.options["first_interaction"], high.config.options["interaction"]) == ("agnostic", "residual")
    assert high.config.options["correlations"] == (3, 3)
    assert high.config.options["pair_repulsion"]
    assert (low.scale, high.scale) == pytest.approx((0.7, 1.2))
    assert low.reference_energies != high.reference_energies
    assert "head high" in high.origin.name
    assert "non-commercial" in high.origin.license


def test_heads_that_are_not_there_are_named(files):
    for head, asked in (("medium", "not 'medium'"), (None, "choose one")):
        with pytest.raises(ConfigError, match=f"its heads are low, high: {asked} with head='NAME'"):
            read_mace(files / "mace_agnostic_heads.model", source="test", head=head)


def nested():
    """Return a small object whose text would be larger than any memory."""
    value: list[object] = []
    for _ in range(60):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"use_so3": True}, "contains the option use_so3=True, which piwsl does not represent"),
        ({"embedding_specs": {"charge": {}}}, "contains the option embedding_specs="),
        ({"embedding_specs": nested()}, r"contains the option embedding_specs=\[list, list\], which"),
        ({"heads": nested()}, "heads that are no names"),
        ({"atomic_numbers": None}, "not a MACE model that piwsl represents"),
    ],
)
def test_an_option_that_the_network_lacks_is_named(files, tmp_path, attributes, message):
    path = changed_file(files / "mace_residual.model", tmp_path / "changed.model", attributes)
    with pytest.raises(ModelFileError, match=message):
        read_mace(path, source="test")


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"first_interaction": "agnostic", "interaction": "agnostic", "correlations": (2, 1, 2)},
        {"first_interaction": "density", "interaction": "residual-density", "pair_repulsion": True},
        {"hidden_degrees": (0, 2), "last_readout_only": True, "distance_transform": "agnesi"},
        {"correlations": (4,), "largest_degree": 1, "hidden_degrees": (0,)},
    ],
)
def test_the_laws_of_a_potential(options):
    torch.manual_seed(0)
    options = {"largest_degree": 2, "correlations": (2, 2), **options}
    check_network(
        "mace", elements=(1, 6, 8, 17), channels=4, cutoff=3.5, radial_layers=(8,), readout_width=4, **options
    )


def test_the_directional_derivative_equals_the_forces_and_reaches_the_weights(files):
    made = potential(read_mace(files / "mace_residual.model", source="test"))
    batch = collate([frame("CH3CH2OH"), frame("H2O")], 4.0, torch.float64)
    steps = 0.01 * torch.randn(batch.positions.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    _, change = directional_derivative(lambda moved: made.energies(*batch.moved(moved).graph), batch.positions, steps)
    _, forces = made(*batch.graph, create_graph=True)
    work = -(forces * steps).sum()
    assert change.sum().item() == pytest.approx(work.item(), rel=1e-10)
    weights = list(made.network.parameters())
    forward = torch.autograd.grad(change.sum(), weights, materialize_grads=True)
    reverse = torch.autograd.grad(work, weights, materialize_grads=True)
    for one, two in zip(forward, reverse, strict=True):
        assert torch.allclose(one, two, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"elements": (1,), "hidden_degrees": (1, 0)}, r"model.hidden_degrees: \[1, 0\] must ascend from 0"),
        ({"elements": (1, 1)}, "model.elements"),
        ({"elements": (0, 1)}, "model.elements"),
        ({}, "model.elements"),
        ({"elements": (1,), "correlations": (3, 5)}, "model.correlations"),
    ],
)
def test_options_that_contradict_each_other(options, message):
    with pytest.raises(ConfigError, match=message):
        build_network(ModelConfig(network="mace", **options))


def test_tensors_must_have_the_sizes_of_the_options(files):
    """The network would allocate memory for the options before it loads the tensors."""
    path = files / "mace_residual.model"
    model = read_pickled(path, KNOWN)
    model.state["_buffers"]["atomic_numbers"] = torch.arange(1, 101)
    with pytest.raises(ModelFileError, match=r"the size of embedding\.weight contradicts the options"):
        convert_mace(model, path, "test", None, None)


@pytest.mark.parametrize(
    "options",
    [
        {"elements": tuple(range(1, 121))},
        {"hidden_degrees": (0, 7)},
        {"radial_layers": (8,) * 9},
        {"radial_layers": (1025,)},
        {"largest_degree": 6, "correlations": (1, 4)},
    ],
)
def test_sizes_have_limits(options):
    with pytest.raises(ValidationError):
        ModelConfig(network="mace", **options)


def test_an_element_that_the_network_lacks_is_an_error():
    config = ModelConfig(network="mace", elements=(1, 8), channels=2)
    with pytest.raises(ElementError, match=r"model\.elements: the network has weights for H O only, not for C, N"):
        build_potential(config, {1: 0.0, 6: 0.0, 7: 0.0})
    network = build_network(ModelConfig(network="mace", elements=(1, 8), channels=2))
    batch = collate([frame("CH4")], 5.0)
    with pytest.raises(IndexError):
        network(batch.species, batch.edges, batch.edge_vectors(), batch.structure_index)


def test_radial_functions_and_cutoff_of_the_file(files):
    model = read_mace(files / "mace_density.model", source="test")
    frequencies = model.tensors["radial.frequencies"]
    assert frequencies.dtype == torch.float64
    assert torch.allclose(frequencies, torch.arange(1, 4).double() * (math.pi / 3.5), rtol=1e-6)
    assert model.config.options["cutoff_power"] == 5
