"""Compiled packages. Compiling takes long: all networks in all forms are in benchmarks/exported_forms.py."""

import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch

from piwsl.data.batch import collate
from piwsl.data.frames import Frame
from piwsl.errors import DataError, EngineError, ExportError, ModelFileError
from piwsl.export.evaluation import bind
from piwsl.export.exported_file import (
    INFO_ENTRY,
    compiled_for,
    load_exported,
    read_exported_info,
    with_description,
)
from piwsl.export.exporter import Exporter
from piwsl.export.trained_file import load_trained
from tests.support.models_for_tests import trained_file
from tests.support.molecules import frame, oxide

pytestmark = pytest.mark.compile

MOLECULE = frame("CH3CH2OH")


@pytest.fixture(scope="module")
def files(exports):
    """The folder of a trained file and what is compiled of it, for any structure and for one molecule."""
    exports.compiled_general()
    return exports.compiled_molecule().parent


def eager(folder, made):
    model = load_trained(folder / "model.pt")
    energies, forces = model.potential()(*collate([made], model.config.cutoff, torch.float64).graph)
    return energies.item(), forces.detach().numpy()


def assert_same(found, expected):
    assert found.energy == pytest.approx(expected[0], abs=1e-8)
    assert np.allclose(found.forces, expected[1], atol=1e-8)


def test_the_general_form_equals_the_model(files):
    potential = load_exported(files / "general.pt2")
    assert (potential.format, potential.target) == ("aotinductor", "general")
    far = Frame(np.array([8, 1]), np.array([[0.0, 0.0, 0.0], [20.0, 0.0, 0.0]]), np.nan, np.full((2, 3), np.nan))
    for made in (frame("C6H6", seed=3), MOLECULE, frame("CH3CH2OH", seed=5), oxide(), far):
        bound = bind(potential, made.species, made.pbc)
        for threads in (1, 2):
            torch.set_num_threads(threads)
            assert_same(bound(made.positions, made.cell), eager(files, made))
    with pytest.raises(EngineError, match="at least two atoms"):
        bind(potential, np.array([8]))


def test_the_molecule_form_equals_the_model(files):
    bound = bind(load_exported(files / "ethanol-1.pt2"))
    for seed in (7, 8):
        made = frame("CH3CH2OH", seed=seed)
        assert_same(bound(made.positions), eager(files, made))
    with pytest.raises(DataError, match="exported for 9 atoms, got 3 positions"):
        bound(frame("H2O").positions)
    cell = np.diag([9.0, 9.5, 10.0])
    periodic = bind(load_exported(files / "ethanol-1.pt2"), MOLECULE.species, (True, True, True))
    torn = MOLECULE.positions + np.random.default_rng(0).integers(-2, 3, (9, 3)) * np.diag(cell)
    assert_same(periodic(torn, cell), eager(files, MOLECULE))
    with pytest.raises(EngineError, match="wide"):
        periodic(torn, 0.8 * cell)


@pytest.fixture
def package(files):
    return files / "ethanol-1.pt2"


@pytest.mark.parametrize("what", ["device", "processor", "PyTorch"])
def test_a_package_made_for_something_else(package, tmp_path, what):
    info, here = read_exported_info(package), compiled_for("cpu")
    content = BytesIO()
    with zipfile.ZipFile(package) as archive, zipfile.ZipFile(content, "w") as copy:
        for name in archive.namelist():
            if not name.endswith(INFO_ENTRY):
                copy.writestr(name, archive.read(name))
    other = {**info, "compiled_for": {**here, what: "other"}}
    (tmp_path / "other.pt2").write_bytes(with_description(content.getvalue(), other))
    with pytest.raises(ModelFileError, match=rf"compiled for {what} other, but this machine has {here[what]}: compile"):
        load_exported(tmp_path / "other.pt2")


def test_truncated_packages(package, tmp_path):
    data = package.read_bytes()
    for share in (0.1, 0.5, 0.99):
        (tmp_path / "cut.pt2").write_bytes(data[: int(share * len(data))])
        with pytest.raises(ModelFileError, match=r"cut\.pt2: damaged"):
            load_exported(tmp_path / "cut.pt2")


def test_no_compiler(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExportError, match=r"requires a C\+\+ compiler.*format='torchscript'"):
        Exporter([trained_file(tmp_path / "model.pt")]).general(tmp_path / "out.pt2", "aotinductor")
    assert not (tmp_path / "out.pt2").exists()


def test_a_compiler_that_fails(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("\ng++: internal compiler error\nmore")

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", fail)
    with pytest.raises(ExportError, match=r"could not compile the potential \(g\+\+: internal compiler error\)"):
        Exporter([trained_file(tmp_path / "model.pt")]).openmm(MOLECULE, tmp_path / "out.pt2", "aotinductor")
    assert not (tmp_path / "out.pt2").exists()


def test_a_package_that_is_wrong_is_not_written(package, tmp_path, monkeypatch):
    """The compiled code of one model, verified against another."""
    other = trained_file(tmp_path / "model.pt", network="schnet", layers=1, channels=8, dtype="float64", seed=1)

    def another(program, output):
        output.write_bytes(package.read_bytes())

    # Patched in place: compilers do not fail in this way on request.
    monkeypatch.setattr("piwsl.export.exporter.compile_package", another)
    with pytest.raises(ExportError, match="disagrees with the model, so nothing is written"):
        Exporter([other]).openmm(MOLECULE, tmp_path / "out.pt2", "aotinductor")
    assert not (tmp_path / "out.pt2").exists()


def test_molecules_and_cells_that_have_no_compiled_form(tmp_path):
    exporter = Exporter([trained_file(tmp_path / "model.pt")])
    lone = replace(MOLECULE, species=np.array([8]), positions=np.zeros((1, 3)), forces=np.zeros((1, 3)))
    for made in (lone, oxide()):
        with pytest.raises(
            ExportError, match="supports only molecules of 2 to 200 atoms without a cell: use target='general'"
        ):
            exporter.openmm(made, tmp_path / "out.pt2", "aotinductor")


def test_the_description_is_read_without_loading(package, monkeypatch):
    monkeypatch.setattr(torch._C._aoti, "AOTIModelPackageLoader", None)
    info = read_exported_info(package)
    assert info["compiled_for"]["device"] == "cpu"
    assert info["verification"]["structures"] == 2


def test_loading_runs_no_code_from_a_folder_with_a_predictable_name(package, tmp_path):
    """The loader of `torch._inductor` runs programs from a folder torchinductor_USER, and compiles them first."""
    temporary, private = tmp_path / "temporary", tmp_path / "private"
    temporary.mkdir()
    code = (
        "import sys; from pathlib import Path; from piwsl.export.exported_file import *; "
        f"load_exported(Path({str(package)!r})); assert 'torch._inductor.codecache' not in sys.modules"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TORCHINDUCTOR_")}
    environment |= {"TMPDIR": str(temporary), "PIWSL_CACHE_DIR": str(private)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert [file for folder in (temporary, private) for file in folder.rglob("*") if file.is_file()] == []
