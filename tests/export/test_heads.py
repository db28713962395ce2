"""Trained files with several heads: round trip, the model of one level, and files that contradict themselves."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from piwsl.errors import ConfigError, ModelFileError
from piwsl.export.trained_file import load_model, load_trained, save_trained
from tests.support.models_for_tests import file_with_heads, model_with_heads, trained_file, trained_model


def test_round_trip(tmp_path):
    model = model_with_heads(dtype="float64")
    loaded = load_trained(file_with_heads(tmp_path / "model.pt", dtype="float64"))
    assert loaded.levels == ["high", "low"]
    (low,), (expected,) = loaded.heads, model.heads
    assert (low.name, low.reference_energies, low.training) == ("low", {1: -13.0, 8: -2030.0}, expected.training)
    assert all(torch.equal(low.tensors[name], value) for name, value in expected.tensors.items())
    assert np.array_equal(low.check_frames[0].positions, expected.check_frames[0].positions)
    save_trained(loaded, tmp_path / "again.pt")
    contents = [torch.load(tmp_path / name, weights_only=True) for name in ("model.pt", "again.pt")]
    assert contents[0]["description"] == contents[1]["description"]


def test_the_main_level_is_the_default(tmp_path):
    path = file_with_heads(tmp_path / "model.pt")
    main, plain = load_model(path), trained_model()
    assert main.elements == [1, 6, 8]
    assert all(torch.equal(value, main.tensors[name]) for name, value in plain.tensors.items())
    assert main.at_level("high").heads == ()
    assert main.at_level("high").levels == ["high"]


def test_the_model_of_one_level_is_an_ordinary_model(tmp_path):
    low = load_model(file_with_heads(tmp_path / "model.pt"), level="low")
    assert (low.elements, low.level, low.levels, low.heads) == ([1, 8], "PBE", ["low"], ())
    assert low.training == {
        "data": "low.npz",
        "level": "PBE",
        "train_frames": 7,
        "head": "low",
        "validation": None,
        "test": None,
    }
    assert not torch.equal(
        low.tensors["readout.0.weight"], load_model(tmp_path / "model.pt").tensors["readout.0.weight"]
    )
    save_trained(low, tmp_path / "low.pt")
    assert "heads" not in torch.load(tmp_path / "low.pt", weights_only=True)
    assert load_model(tmp_path / "low.pt", level="low").reference_energies == low.reference_energies
    with pytest.raises(ConfigError, match=r"low\.pt: the model has no head 'high': choose one of low"):
        load_model(tmp_path / "low.pt", level="high")


def test_files_with_one_head_are_unchanged(tmp_path):
    content = torch.load(trained_file(tmp_path / "model.pt"), weights_only=True)
    assert set(content) == {"description", "tensors", "check_frames"}
    assert "heads" not in json.loads(content["description"])
    assert load_trained(tmp_path / "model.pt").levels == []


def with_head(**changes):
    model = model_with_heads()
    return replace(model, heads=(replace(model.heads[0], **changes),))


WEIGHT = "readout.0.weight"


@pytest.mark.parametrize(
    "model",
    [
        with_head(tensors={"nothing.weight": torch.zeros(3)}),
        with_head(tensors={WEIGHT: torch.zeros(3)}),
        with_head(tensors={WEIGHT: torch.zeros(8, 16, dtype=torch.float64)}),
        with_head(tensors={WEIGHT: torch.zeros(8, 16).to_sparse()}),
        with_head(tensors={WEIGHT: "text"}),
        with_head(tensors=["list"]),
        with_head(reference_energies={400: 0.0}),
        with_head(reference_energies={1: 1e300}),
        with_head(reference_energies={}),
        with_head(training=["list"]),
        with_head(name="high"),
        with_head(name=""),
        with_head(name="two\nlines"),
        with_head(name="n" * 101),
        replace(model_with_heads(), training={}),
        replace(model_with_heads(), training={"head": ["list"]}),
        replace(model_with_heads(), heads=model_with_heads().heads * 2),
    ],
)
def test_contradictions_are_one_line(tmp_path, model):
    save_trained(model, tmp_path / "model.pt")
    with pytest.raises(ModelFileError, match=r"model\.pt: (incomplete or )?damaged") as caught:
        load_trained(tmp_path / "model.pt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("heads", [None, [], "text", [1], [{"tensors": {}}], [{"tensors": {}, "check_frames": [3]}]])
def test_descriptions_without_their_weights(tmp_path, heads):
    content = torch.load(file_with_heads(tmp_path / "model.pt"), weights_only=True)
    torch.save({**content, "heads": heads}, tmp_path / "other.pt")
    with pytest.raises(ModelFileError, match=r"other\.pt: incomplete or damaged description"):
        load_trained(tmp_path / "other.pt")
