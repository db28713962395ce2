from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

import piwsl
from piwsl.errors import ConfigError
from piwsl.learning.settings import LearnSettings
from piwsl.md.protocol import MDProtocol
from piwsl.runs.config import to_yaml
from piwsl.training.config import TrainingConfig, check_seeds, load_config, template
from piwsl.training.data_config import LevelConfig
from piwsl.training.tuning.settings import TuneConfig


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


def test_the_template_lists_the_choices_of_each_key():
    lines = {line.split(":")[0].strip(): line for line in template().splitlines() if "#" in line}
    assert lines["schedule"].endswith("(one of cosine, plateau, step, constant)")
    assert lines["dtype"].endswith("(one of float32, float64, bf16-mixed)")
    assert "(one of painn, schnet, tensornet, ace" in lines["network"]


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1, y: 2}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join(['*' + before] * 10)}]}}\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "more than 20000 values or 50 levels"),
        ("a: &a [*a]", "more than 20000 values or 50 levels"),
        ("a: " + "[" * 1000 + "]" * 1000, "more than 50 levels"),
        (MERGES, "merge keys add more than 20000 values"),
        ("a: &a {b: 1, c: 2}\nd:\n" + "- {<<: *a}\n" * 20_000, "merge keys add more than 20000 values"),
        ("a: &a {<<: *a}", "more than 50 levels"),
        ("seed: " + "1" * 5000, "a number of more than 1000 digits in line 1"),
        ("seed: 0x" + "1" * 5000, "a number of more than 1000 digits in line 1"),
        ("seed: 1" + ":59" * 100_000, "a number of more than 1000 digits in line 1"),
        ("seed: !!python/object:os.system x", "could not determine a constructor"),
        ("seed: 2020-99-99", "month must be in 1..12"),
        ("seed: !!int ''", "not valid YAML"),
        ("seed: !!bool x", "not valid YAML"),
        ("1: 3", "the key 1 is not text"),
        ("? [a]\n: 3", "unhashable key"),
        ("seed: " + "z" * 5000, "it must be a valid integer"),
        ('data: {file: "a\\0b"}', "data.file contains a NUL character"),
        ("seed: 99999999999999999999999999", "seed = 99999999999999999999999999: it must be at most 2147483647"),
        ("optimizer: {steps: 1" + "0" * 400 + "}", "it must be at most 1000000000000"),
        ("optimizer: {steps: 1" + ":59" * 100 + "}", "it must be at most 1000000000000"),
        ("optimizer: {steps: '1" + "0" * 400 + "'}", "it must be at most 1000000000000"),
        ("optimizer: {validation_interval: 1.0e+15}", "it must be at most 1000000000000"),
        ("optimizer: {validation_interval: 1.0e+23}", "optimizer.validation_interval = "),
        ("optimizer: {learning_rate: 1" + "0" * 400 + "}", "optimizer.learning_rate = 1000"),
        ("#" * 2**21, "larger than 1024 kB"),
        ("optimizer: {learning_rate: .inf}", "it must be a finite number"),
    ],
)
def test_files_that_are_meant_to_harm_are_one_short_line(text, message, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def _integers(model):
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel):
            yield from ((f"{name}.{key}", kind) for key, kind in _integers(type(field.default)))
        schema = model.model_json_schema()["properties"][name]
        yield from ((name, kind) for kind in schema.get("anyOf", [schema]) if kind.get("type") == "integer")


@pytest.mark.parametrize("model", [TrainingConfig, LevelConfig, TuneConfig, LearnSettings, MDProtocol])
def test_every_integer_has_a_limit(model):
    limits = {name: kind.get("maximum", kind.get("exclusiveMaximum")) for name, kind in _integers(model)}
    assert limits
    assert not [name for name, limit in limits.items() if limit is None]


def test_seeds_of_an_ensemble():
    check_seeds([0, 2**31 - 1])
    for seeds in ([], [1, 1], [-1, 2], [1, 2**31], [10**300, 1]):
        with pytest.raises(ConfigError, match="the seeds must be distinct integers from 0 to 2147483647") as error:
            check_seeds(seeds)
        assert len(str(error.value)) < 200


def test_merge_keys(tmp_path):
    (tmp_path / "c.yaml").write_text("loss: {<<: [{pitc: 3, pisc: 4}, {pitc: 7}], pisc: 5}\n")
    loss = load_config(tmp_path / "c.yaml").loss
    assert (loss.pitc, loss.pisc) == (3, 5)
    assert load_config(None, ["loss={<<: {pitc: 3, pisc: 4}, pisc: 5}"]).loss == loss
    with pytest.raises(ConfigError, match=r"loss = '\{a:"):
        load_config(None, ["loss={" + MERGES.strip().replace("\n", ", ") + "}"])
