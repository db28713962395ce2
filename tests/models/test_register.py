import json
import subprocess
import sys
from typing import Annotated, ClassVar

import pytest
import torch
from pydantic import Field, ValidationError
from torch import nn

from piwsl.data.batch import collate
from piwsl.errors import ConfigError, ExportError, UnregisteredNetworkError
from piwsl.export.evaluation import bind
from piwsl.export.exported_file import load_exported
from piwsl.export.exporter import Exporter
from piwsl.export.forms.compiled import edges_program
from piwsl.export.forms.scripted import EdgesCore
from piwsl.export.trained_file import load_trained, save_trained
from piwsl.models import (
    ModelConfig,
    PolynomialCutoff,
    build_network,
    build_potential,
    import_modules,
    register_network,
    registered_networks,
)
from piwsl.models.neighbor_sums.molecule import MoleculePairs
from piwsl.models.register import registered_network
from piwsl.testing import ModelCheckError, check_network
from piwsl.training.config import TrainingConfig, load_config
from piwsl.training.run import train
from tests.support.models_for_tests import REFERENCE_ENERGIES, trained_model
from tests.support.molecules import frame


@register_network("tiny_pairs")
class TinyPairs(nn.Module):
    """A network with its own options; neither neighbor_sums nor anything of piwsl but the cutoff."""

    def __init__(
        self,
        cutoff: float,
        width: Annotated[int, Field(ge=1, le=64, description="hidden units")] = 8,
        powers: tuple[int, ...] = (1, 2),
    ):
        super().__init__()
        self.powers = powers
        self.switch = PolynomialCutoff(cutoff)
        self.elements = nn.Embedding(119, width)
        self.radial = nn.Linear(len(powers), width)
        self.energy = nn.Sequential(nn.SiLU(), nn.Linear(width, 1))

    def forward(self, species, edges, edge_vectors, structure_index):
        distances = (edge_vectors * edge_vectors).sum(-1).sqrt()
        features = torch.stack([distances**-power for power in self.powers], dim=-1)
        hidden = self.radial(features) + self.elements(species[edges[0]]) + self.elements(species[edges[1]])
        pairs = self.energy(hidden).squeeze(-1) * self.switch(distances)
        return pairs.new_zeros(species.shape[0]).index_add(0, edges[0], pairs)


@register_network("unscriptable")
class Unscriptable(TinyPairs):
    """The same energies through a method with arguments that TorchScript does not have."""

    def forward(self, *arguments):
        return super().forward(*arguments)


@register_network("with_presets")
class WithPresets(TinyPairs):
    """The same with presets, and options that depend on each other."""

    presets: ClassVar = {"wide": {"width": 32, "cutoff": 3.0}}

    @staticmethod
    def check_options(options):
        if len(options["powers"]) > options["width"]:
            raise ConfigError(f"width={options['width']} is below the number of powers")


def test_a_network_of_ones_own_has_presets_and_checks_its_options():
    config = ModelConfig(network="with_presets", preset="wide")
    assert (config.cutoff, config.options["width"]) == (3.0, 32)
    assert ModelConfig(network="with_presets", preset="wide", width=4).options["width"] == 4
    assert build_network(config).elements.weight.shape == (119, 32)
    with pytest.raises(ValidationError, match="width=1 is below the number of powers"):
        ModelConfig(network="with_presets", width=1)
    with pytest.raises(ValidationError, match="network tiny_pairs has no preset 'wide': it has none"):
        ModelConfig(network="tiny_pairs", preset="wide")


def test_options_are_typed_and_have_defaults():
    config = ModelConfig(network="tiny_pairs", width=4)
    assert config.options == {"width": 4, "powers": (1, 2)}
    assert config.described()["width"] == (4, "hidden units")
    assert ModelConfig(**json.loads(config.model_dump_json())) == config
    assert build_network(config).radial.out_features == 4
    assert {"painn", "schnet", "tensornet", "ace", "escn", "equiformer_v2", "spinconv", "tiny_pairs"} <= set(
        registered_networks()
    )


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("network: tiny_pears", "model.network = 'tiny_pears': .*did you mean tiny_pairs"),
        ("network: tiny_pairs, widht: 3", "model.widht = 3: .*did you mean model.width"),
        ("network: tiny_pairs, width: 0", "model.width = 0: it must be at least 1"),
        ("network: tiny_pairs, width: wide", "model.width = 'wide': .*integer"),
        (
            "network: tiny_pairs, channels: 8",
            "model.channels = 8: .*has no option channels: the keys are network, preset, cutoff",
        ),
        ("network: painn, width: 8", "model.width = 8: network painn has no option width"),
    ],
)
def test_mistakes_in_the_section_model_are_one_line(tmp_path, model, message):
    (tmp_path / "config.yaml").write_text(f"model: {{{model}}}\n")
    with pytest.raises(ConfigError, match=message) as error:
        load_config(tmp_path / "config.yaml")
    assert "\n" not in str(error.value)


def no_cutoff(width: int = 3) -> nn.Module:
    return nn.Identity()


def hidden_options(cutoff: float, **options: int) -> nn.Module:
    return nn.Identity()


def without_types(cutoff, width=3) -> nn.Module:
    return nn.Identity()


def no_json(cutoff: float, activation: nn.Module | None = None) -> nn.Module:
    return nn.Identity()


@pytest.mark.parametrize(
    ("name", "network", "message"),
    [
        ("no cutoff", no_cutoff, "use letters"),
        ("no_cutoff", no_cutoff, "no argument cutoff"),
        ("hidden", hidden_options, r"takes \*\*options: int"),
        ("without_types", without_types, "width has no type"),
        ("no_json", no_json, "is no valid configuration key"),
        ("painn", TinyPairs, "already used by piwsl.models.networks.painn.PaiNN"),
        ("tiny_pairs", no_cutoff, "already used by .*TinyPairs"),
    ],
)
def test_what_cannot_be_registered_is_refused(name, network, message):
    with pytest.raises(ConfigError, match=message) as error:
        register_network(name, network)
    assert "\n" not in str(error.value)


def test_the_same_place_may_register_again():
    assert register_network("tiny_pairs", TinyPairs) is TinyPairs
    as_script = type("TinyPairs", (TinyPairs,), {"__module__": "__main__"})
    register_network("tiny_pairs", as_script)  # the module was executed as a script, and is then imported
    register_network("tiny_pairs", TinyPairs)


def test_no_force_head_and_no_neighbor_sums():
    from piwsl.models.neighbor_sums.molecule import MoleculePairs

    with pytest.raises(ConfigError, match="tiny_pairs has no force head"):
        build_network(ModelConfig(network="tiny_pairs", forces="direct"))
    with pytest.raises(ConfigError, match="tiny_pairs does not accept neighbor_sums"):
        build_network(ModelConfig(network="tiny_pairs"), MoleculePairs(5))


def test_a_registered_network_can_be_checked():
    check_network("tiny_pairs", cutoff=4.0, width=4)
    with pytest.raises(ConfigError, match=r"model\.width"):
        check_network("tiny_pairs", width=0)


@register_network("column")
class Column(TinyPairs):
    def forward(self, species, edges, edge_vectors, structure_index):
        return super().forward(species, edges, edge_vectors, structure_index).unsqueeze(1)


def test_energies_of_the_wrong_shape_are_found():
    with pytest.raises(ModelCheckError, match=r"column returns energies of shape \(17, 1\), expected one per atom"):
        check_network("column")


@pytest.mark.slow
def test_it_trains_is_saved_loaded_and_exported(tmp_path):
    config = TrainingConfig.model_validate(
        {
            "data": {"system": "aspirin", "train": 10, "validation": 5},
            "model": {"network": "tiny_pairs", "cutoff": 4.0, "width": 4, "powers": [1, 3]},
            "optimizer": {"steps": 4, "batch_size": 2, "validation_interval": 2},
            "dtype": "float64",
        }
    )
    result = train(config=config, output=tmp_path / "run")
    trained = load_trained(result.model)
    assert trained.config == config.model.model_copy(update={"walls": trained.config.walls})  # measured
    made = trained.check_frames[0]
    energies, forces = trained.potential()(*collate([made], 4.0, torch.float64).graph)
    Exporter([result.model]).general(tmp_path / "general.pt")
    evaluation = bind(load_exported(tmp_path / "general.pt"), made.species)(made.positions)
    assert evaluation.energy == pytest.approx(energies.item(), abs=1e-9)
    assert evaluation.forces == pytest.approx(forces.detach().numpy(), abs=1e-9)


def stored(tmp_path, network):
    config = ModelConfig(network=network, cutoff=4.0, width=4)
    model = trained_model()
    tensors = build_potential(config, REFERENCE_ENERGIES).network.state_dict()
    save_trained(type(model)(**{**vars(model), "config": config, "tensors": tensors}), tmp_path / "model.pt")
    return tmp_path / "model.pt"


@pytest.mark.slow
def test_what_torchscript_cannot_write_is_refused_in_one_line_and_can_be_compiled(tmp_path):
    path = stored(tmp_path, "unscriptable")
    with pytest.raises(ExportError, match=r"unscriptable cannot be written as TorchScript .*aotinductor") as error:
        Exporter([path]).general(tmp_path / "general.pt")
    assert "\n" not in str(error.value)
    potential = load_trained(path).potential(dtype="float64")
    batch = collate([frame("CH3CH2OH")], 4.0, torch.float64)
    program = edges_program(
        EdgesCore([potential], torch.float64), (batch.species, batch.edges, batch.edge_vectors().detach())
    )
    other = collate([frame("H2O")], 4.0, torch.float64)
    energies, forces, _ = program.graph(other.species, other.edges, other.edge_vectors())
    expected = potential(*other.graph)
    torch.testing.assert_close(energies[0], expected[0], rtol=0, atol=1e-10)
    torch.testing.assert_close(forces[0], expected[1].detach(), rtol=0, atol=1e-10)


@pytest.mark.slow
def test_without_neighbor_sums_openmm_gets_a_searched_form_and_no_copies(tmp_path):
    path = stored(tmp_path, "tiny_pairs")
    assert Exporter([path]).openmm(frame("CH3CH2OH"), tmp_path / "openmm.pt").passed
    for options in ({"copies": 2}, {"form": "aotinductor"}):
        with pytest.raises(ExportError, match="tiny_pairs does not accept neighbor_sums"):
            Exporter([path]).openmm(frame("CH3CH2OH"), tmp_path / "copies.pt", **options)


def test_a_file_with_an_unregistered_network_is_refused_and_imports_nothing(tmp_path):
    path = stored(tmp_path, "tiny_pairs")
    content = torch.load(path, weights_only=True)
    description = json.loads(content["description"])
    description["network"]["network"] = "json.tool"
    torch.save({**content, "description": json.dumps(description)}, path)
    with pytest.raises(UnregisteredNetworkError, match=r"model\.pt: network 'json\.tool' is not registered"):
        load_trained(path)


def test_modules_named_in_a_configuration_are_imported_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "networks_of_a_user.py").write_text(
        "from piwsl.models import SchNet, register_network\n"
        "@register_network('users_schnet')\n"
        "class Mine(SchNet):\n    pass\n"
    )
    (tmp_path / "config.yaml").write_text("model: {network: users_schnet}\nimports: [networks_of_a_user]\n")
    assert load_config(tmp_path / "config.yaml").model.network == "users_schnet"
    (tmp_path / "config.yaml").write_text("imports: [networks_of_nobody]\n")
    with pytest.raises(ConfigError, match="'networks_of_nobody' cannot be imported"):
        load_config(tmp_path / "config.yaml")
    (tmp_path / "broken_network.py").write_text("1 / 0\n")
    with pytest.raises(ConfigError, match=r"'broken_network' cannot be imported .*division by zero"):
        import_modules(["broken_network"])


def test_invalid_options_are_an_error_of_pydantic_in_python():
    with pytest.raises(ValidationError, match=r"did you mean model\.width"):
        ModelConfig(network="tiny_pairs", widht=3)


@pytest.mark.slow
def test_training_works_without_numba():
    program = (
        "import sys; sys.modules['numba'] = None\n"
        "import torch, piwsl.training.run\n"
        "from piwsl.models.training_loops import training_neighbor_sums\n"
        "print(training_neighbor_sums(torch.device('cpu'))[1])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert "piwsl[fast]" in done.stdout


@pytest.mark.parametrize(
    ("options", "accepted"),
    [
        ({"hidden_degrees": (0,)}, True),
        ({}, False),
        ({"hidden_degrees": (0,), "interaction": "density"}, False),
        ({"hidden_degrees": (0,), "pair_repulsion": True}, False),
    ],
)
def test_options_may_decide_whether_a_network_takes_neighbor_sums(options, accepted):
    config = ModelConfig(network="mace", elements=(1, 8), channels=4, **options)
    assert registered_network("mace").takes_neighbor_sums(config.options) is accepted
    if not accepted:
        with pytest.raises(ConfigError, match="does not accept neighbor_sums"):
            build_network(config, MoleculePairs(3))
