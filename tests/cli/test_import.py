"""`piwsl import` as typed: foundation models as trained files, with which everything else works."""

import gzip
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.io import write

import piwsl
from tests.support.foundation_files import Command, program_of, write_archive
from tests.support.molecules import frame

FILES = Path(__file__).parents[1] / "models" / "foundation"


@pytest.fixture
def files(cli):
    """Files of foundation models in the working directory."""
    shutil.copy(FILES / "so3lr_small.model", "small.model")
    for name in ("residual", "agnostic_heads"):
        Path(f"mace_{name}.model").write_bytes(gzip.decompress((FILES / f"mace_{name}.model.gz").read_bytes()))


def wheel(path, entry="so3krates_torch/pretrained/so3lr/so3lr.model"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write("small.model", entry)
    return path


def test_so3lr_from_a_wheel_prints_its_license(cli, files):
    wheel("so3krates_torch-0.2.1-py3-none-any.whl")
    made = cli("import", "so3krates_torch-0.2.1-py3-none-any.whl", "--charge", "1", "--unpaired-electrons", "1")
    assert made.code == 0, made.errors
    assert "license    MIT, as stated by so3krates-torch" in made.out
    assert "cite       A. Kabylda et al." in made.out
    assert "written: so3lr.pt" in made.out
    model = piwsl.load_model("so3lr.pt")
    assert (model.config.charge, model.config.unpaired_electrons) == (1, 1)
    assert model.level == "PBE0+MBD"
    assert model.training["foundation"]["license"].startswith("MIT")
    assert len(model.training["foundation"]["sha256"]) == 64
    again = cli("import", "so3krates_torch-0.2.1-py3-none-any.whl")
    assert again.code == 2
    assert again.errors == ["piwsl: so3lr.pt exists: replace it with --force, or choose another output"]


def test_heads_license_and_level_of_a_mace_file(cli, files):
    made = cli("import", "mace_agnostic_heads.model", "--head", "high", "--license", "CC0", "--level", "CCSD(T)")
    assert made.code == 0, made.errors
    assert "license    CC0" in made.out
    assert "level      CCSD(T)" in made.out
    assert piwsl.load_model("mace_agnostic_heads.pt").training["foundation"]["license"] == "CC0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.model"], "nothing.model: no such file"),
        (["nothing.whl"], "nothing.whl: no such file"),
        (["mace_agnostic_heads.model"], "its heads are low, high: choose one with --head NAME"),
        (["mace_residual.model", "--charge", "1"], "--charge 1: mace_residual.model is a MACE model, which ignores"),
        (["small.model", "--head", "high"], "--head high: small.model has no heads: leave it out"),
    ],
)
def test_refusals_are_one_line(cli, files, arguments, message):
    refused = cli("import", *arguments)
    assert refused.code == 2
    assert len(refused.errors) == 1
    assert message in refused.errors[0]
    assert not list(Path().glob("*.pt"))


def test_a_file_that_runs_a_command(cli):
    import os

    write_archive(Path("evil.model"), program_of(Command(os.system, "touch ran")))
    refused = cli("import", "evil.model")
    assert refused.code == 2
    assert refused.errors == ["piwsl: evil.model: contains posix.system, which is no part of such a model: refused"]
    assert not Path("ran").exists()


def test_wheels_of_another_kind(cli, files):
    wheel("other.whl", entry="other.model")
    assert "other.whl: has no so3krates_torch/pretrained" in cli("import", "other.whl").errors[0]
    Path("broken.whl").write_bytes(b"nothing")
    assert "broken.whl: damaged" in cli("import", "broken.whl").errors[0]


def test_so3lr_without_its_package(cli, monkeypatch):
    from importlib.metadata import PackageNotFoundError

    from piwsl.export import import_model

    def missing(name):
        raise PackageNotFoundError(name)

    # The package may be installed where the tests run.
    monkeypatch.setattr(import_model, "distribution", missing)
    refused = cli("import", "so3lr")
    assert refused.code == 2
    assert "pip install 'piwsl[so3lr]'" in refused.errors[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["small", "mace_residual"])
def test_evaluate_fine_tune_export_and_dynamics(cli, files, name):
    assert cli("import", f"{name}.model").code == 0
    rng = np.random.default_rng(0)
    labeled = []
    for number in range(12):
        one = frame("CH3CH2OH", seed=number).atoms()
        one.info.update(energy=float(rng.normal()), level="made up")
        labeled.append(one)
    write("few.xyz", labeled)
    measured = cli("evaluate", f"{name}.pt", "few.xyz")
    assert measured.code == 0, measured.errors
    options = ["-o", "data.train=8", "-o", "data.validation=4", "-o", "optimizer.steps=3", "--output", "tuned"]
    trained = cli("train", "--init-from", f"{name}.pt", "--data", "few.xyz", *options)
    assert trained.code == 0, trained.errors
    assert "license of its weights" in trained.out + Path("tuned/train.log").read_text()
    tuned = piwsl.load_model("tuned/model.pt")
    assert tuned.training["foundation"] == piwsl.load_model(f"{name}.pt").training["foundation"]
    exported = piwsl.export_model("tuned/model.pt", "tuned.pt")
    atoms = molecule("CH3CH2OH")
    atoms.calc = piwsl.PiwslCalculator(exported)
    (predicted,) = tuned.predict([atoms])
    assert atoms.get_potential_energy() == pytest.approx(predicted.energy, abs=1e-4)
    write("ethanol.xyz", molecule("CH3CH2OH"))
    for_openmm = cli("export", f"{name}.pt", "--target", "openmm", "--structure", "ethanol.xyz")
    assert for_openmm.code == 0, for_openmm.errors
    arguments = ["--structure", "ethanol.xyz", "--model", f"{name}-openmm.pt", "--steps", "10", "--temperature", "10"]
    run = cli("md", *arguments, "--no-minimize", "--output", "run")
    assert "10 steps" in run.out, run.errors
    assert piwsl.load_model(f"{name}.pt").training["foundation"]["license"] in str(exported_info("tuned.pt"))


def exported_info(path):
    from piwsl.export.exported_file import read_exported_info

    return read_exported_info(Path(path))
