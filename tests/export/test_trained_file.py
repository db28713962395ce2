import json
import pickle

import numpy as np
import pytest
import torch

from piwsl.errors import ModelFileError
from piwsl.export.trained_file import load_trained
from tests.support.models_for_tests import trained_file, trained_model


def test_round_trip(tmp_path):
    model = trained_model(dtype="float64")
    loaded = load_trained(trained_file(tmp_path / "model.pt", dtype="float64"))
    assert loaded.config == model.config
    assert loaded.reference_energies == model.reference_energies
    assert (loaded.scale, loaded.dtype, loaded.training) == (model.scale, model.dtype, model.training)
    assert all(torch.equal(loaded.tensors[name], value) for name, value in model.tensors.items())
    assert np.array_equal(loaded.check_frames[0].positions, model.check_frames[0].positions)


def test_the_file_holds_no_code(tmp_path):
    content = torch.load(trained_file(tmp_path / "model.pt"), weights_only=True)
    description = json.loads(content["description"])
    for key in ("format_version", "network", "elements", "cutoff", "units", "dtype", "reference_energies", "training"):
        assert key in description


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_a_pickle_is_never_unpickled(tmp_path, how):
    touched = tmp_path / "touched"
    path = tmp_path / "evil.pt"
    if how == "pickle":
        path.write_bytes(pickle.dumps(Evil(touched)))
    else:
        torch.save(Evil(touched), path)
    with pytest.raises(ModelFileError, match=r"evil\.pt"):
        load_trained(path)
    assert not touched.exists()


def test_missing_truncated_foreign_and_newer_files(tmp_path):
    good = trained_file(tmp_path / "model.pt")
    with pytest.raises(ModelFileError, match="no such file"):
        load_trained(tmp_path / "none.pt")
    cut = tmp_path / "cut.pt"
    cut.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    with pytest.raises(ModelFileError, match="damaged"):
        load_trained(cut)
    torch.save({"weights": torch.zeros(3)}, tmp_path / "foreign.pt")
    with pytest.raises(ModelFileError, match="not a trained piwsl model"):
        load_trained(tmp_path / "foreign.pt")
    content = torch.load(good, weights_only=True)
    description = json.loads(content["description"])
    torch.save({**content, "description": json.dumps({**description, "format_version": 99})}, tmp_path / "newer.pt")
    with pytest.raises(ModelFileError, match="format version 99, but this piwsl reads version 1: update piwsl"):
        load_trained(tmp_path / "newer.pt")
    del description["scale"]
    torch.save({**content, "description": json.dumps(description)}, tmp_path / "incomplete.pt")
    with pytest.raises(ModelFileError, match="incomplete"):
        load_trained(tmp_path / "incomplete.pt")
