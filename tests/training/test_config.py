from pathlib import Path

import pytest
import yaml

import piwsl
from piwsl.errors import ConfigError
from piwsl.runs.config import to_yaml
from piwsl.training.config import TrainingConfig, load_config, template


def test_template_is_the_defaults_with_words():
    assert yaml.safe_load(template()) == TrainingConfig().model_dump(mode="json")
    assert all("#" in line for line in template().splitlines() if line.startswith("  "))


def test_dump_round_trip(tmp_path):
    config = load_config(None, ["data.system=aspirin", "loss.pitc=0.25", "optimizer.learning_rate=1e-4", "seed=7"])
    assert config.optimizer.learning_rate == 1e-4
    (tmp_path / "c.yaml").write_text(to_yaml(config))
    assert load_config(tmp_path / "c.yaml") == config


def test_overrides_win_over_the_file(tmp_path):
    (tmp_path / "c.yaml").write_text("loss: {pitc: 3, pisc: 4}\n")
    config = load_config(tmp_path / "c.yaml", ["loss.pitc=5"])
    assert (config.loss.pitc, config.loss.pisc) == (5, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loss: {pict: 1}", "unknown key loss.pict: did you mean loss.pitc?"),
        ("optimizr: {steps: 3}", "did you mean optimizer"),
        ("loss: {mixing: 0.7}", "loss.mixing = 0.7: it must be at most 0.5"),
        ("optimiser: {steps: 3}", "unknown key optimiser: it is now optimizer"),  # codespell:ignore
        ("learning_rate: 3", "unknown key learning_rate: did you mean optimizer.learning_rate?"),
        ("loss: {pitc: {shap: linear}}", "unknown key loss.pitc.shap: did you mean loss.pitc.shape?"),
        ("loss: {4: 3}", "the key 4 in loss is not text"),
        ("loss: {no: 3}", "the key False in loss is not text"),
        ("displacement: {zzz: 3}", "unknown key displacement.zzz: known keys are direction, length"),
        ("optimizer: {steps: -5}", "optimizer.steps = -5"),
        ("model: {network: transformer}", "model.network"),
        ("[1, 2", "not valid YAML"),
        ("- 3", "expected keys with values, not a list"),
    ],
)
def test_mistakes_are_one_line(tmp_path, text, message):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        load_config(tmp_path / "c.yaml")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_override_without_value():
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        load_config(None, ["loss.pitc"])


@pytest.mark.parametrize(
    "path", sorted(Path(piwsl.__file__).with_name("resources").glob("*.yaml")), ids=lambda path: path.name
)
def test_bundled_configurations_are_valid(path):
    assert load_config(path).data.system == "aspirin"
