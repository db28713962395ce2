"""`piwsl export --head` and `piwsl evaluate --head` as typed, and what the commands print about levels."""

import json
from pathlib import Path

import numpy as np
import pytest

from piwsl.data.batch import collate
from piwsl.data.write import write_extxyz
from piwsl.export.exported_file import read_exported_info
from piwsl.export.trained_file import load_model
from piwsl.interfaces.ase import PiwslCalculator
from tests.support.models_for_tests import file_with_heads
from tests.support.molecules import frame

WATERS = [frame("H2O", seed=seed, labeled=True) for seed in range(3)]


@pytest.fixture
def water(cli):
    """A trained file with the levels `high` and `low`, and labeled frames, in the working directory."""
    file_with_heads(Path("model.pt"), network="schnet", layers=1, channels=8)
    write_extxyz(Path("water.extxyz"), WATERS)


def energies(level):
    model = load_model("model.pt", level=level)
    return model.potential()(*collate(WATERS, model.cutoff).graph)[0].detach().numpy()


def test_evaluate_a_head(cli, water):
    labels = np.array([one.energy for one in WATERS])
    for options, level in (((), "high"), (("--head", "high"), "high"), (("--head", "low"), "low")):
        called = cli("evaluate", "model.pt", "water.extxyz", "--json", "--force", *options)
        assert called.code == 0, called.errors
        error = json.loads(called.out)["energy_mae"]
        assert error == pytest.approx(np.abs(energies(level) - labels).mean(), rel=1e-5)
    called = cli("evaluate", "model.pt", "water.extxyz", "--force")
    assert "note: errors of the head high; the model also has low" in called.out.splitlines()
    wrong = cli("evaluate", "model.pt", "water.extxyz", "--force", "--head", "medium")
    assert (wrong.code, wrong.errors) == (
        2,
        ["piwsl: model.pt: the model has no head 'medium': choose one of high, low"],
    )


@pytest.mark.slow
def test_export_a_head(cli, water):
    info = json.loads(cli("export", "--info", "model.pt").out)
    assert [head["name"] for head in info["heads"]] == ["low"]
    assert info["training"]["head"] == "high"
    made = cli("export", "model.pt", "--head", "low", "--output", "low.pt")
    assert made.code == 0, made.errors
    described = read_exported_info(Path("low.pt"))
    assert described["training"][0]["head"] == "low"
    assert described["elements"] == [1, 8]
    found = []
    for one in WATERS:
        atoms = one.atoms()
        atoms.calc = PiwslCalculator("low.pt")
        found.append(atoms.get_potential_energy())
    assert found == pytest.approx(energies("low"), abs=1e-4)
    refused = cli("evaluate", "low.pt", "water.extxyz", "--head", "low", "--force")
    assert refused.errors == ["piwsl: low.pt is an exported file, which contains a single head: omit --head low"]
    # Calculators use the main level of a trained file.
    atoms = WATERS[0].atoms()
    atoms.calc = PiwslCalculator("model.pt")
    assert atoms.get_potential_energy() == pytest.approx(energies("high")[0], abs=1e-4)
