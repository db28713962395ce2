import numpy as np
import pytest
import torch

from piwsl.data.batch import collate
from piwsl.data.frames import Frame
from piwsl.errors import ElementError, ExportError, ModelFileError
from piwsl.export import torchscript
from piwsl.export.exported import load_exported, read_exported_info
from piwsl.export.torchscript import export_general, export_openmm
from piwsl.export.trained import load_trained
from piwsl.export.verify import verify
from piwsl.units import KJ_PER_MOL, NANOMETER
from tests.models_for_tests import trained_file
from tests.molecules import frame

ETHANOL = frame("CH3CH2OH").species.tolist()


def eager(path, made, dtype=torch.float64):
    model = load_trained(path)
    batch = collate([made], model.config.cutoff, dtype)
    energies, forces = model.potential(dtype=str(dtype).removeprefix("torch."))(
        batch.species, batch.positions, batch.edges, batch.edge_shifts, batch.structure_index, 1
    )
    return energies.item(), forces.numpy()


@pytest.mark.parametrize("network", ["painn", "schnet"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_openmm_form_equals_the_model(tmp_path, network, dtype):
    path = trained_file(tmp_path / "model.pt", network=network, dtype=dtype)
    result = export_openmm(path, ETHANOL, tmp_path / "openmm.pt")
    assert result.passed
    assert result.frames == 1  # the other check frame is another molecule
    exported = load_exported(tmp_path / "openmm.pt")
    assert exported.species == ETHANOL
    made = frame("CH3CH2OH", seed=7)
    reference_energy, reference_forces = eager(path, made)
    limit = 1e-4 if dtype == "float32" else 1e-8
    for shift in (0.0, 300.0):
        energy, forces = exported.module(torch.from_numpy((made.positions + shift) / NANOMETER))
        assert float(energy) * KJ_PER_MOL == pytest.approx(reference_energy, abs=limit)
        assert np.allclose(forces.numpy() * KJ_PER_MOL / NANOMETER, reference_forces, atol=limit)


@pytest.mark.parametrize("network", ["painn", "schnet"])
def test_general_form_equals_the_model_for_any_molecule(tmp_path, network):
    path = trained_file(tmp_path / "model.pt", network=network, dtype="float64")
    export_general(path, tmp_path / "general.pt")
    module = load_exported(tmp_path / "general.pt").module
    for name in ("C6H6", "H2O", "CH3CH2OH"):
        made = frame(name, seed=3)
        reference_energy, reference_forces = eager(path, made)
        energy, forces = module(torch.from_numpy(made.species), torch.from_numpy(made.positions))
        assert energy.item() == pytest.approx(reference_energy, abs=1e-8)
        assert np.allclose(forces.numpy(), reference_forces, atol=1e-8)


@pytest.mark.parametrize("edge", [2.1, 6.0])
def test_general_form_in_cells_smaller_and_larger_than_the_cutoff(tmp_path, edge):
    path = trained_file(tmp_path / "model.pt", dtype="float64")
    export_general(path, tmp_path / "general.pt")
    module = load_exported(tmp_path / "general.pt").module
    rng = np.random.default_rng(0)
    cell = edge * np.array([[1.0, 0.0, 0.0], [0.3, 1.1, 0.0], [-0.2, 0.1, 0.9]])
    positions = rng.uniform(-2, 3, size=(4, 3)) @ cell
    made = Frame(np.array([8, 1, 6, 1]), positions, np.nan, np.full((4, 3), np.nan), cell, (True, True, True))
    reference_energy, reference_forces = eager(path, made)
    energy, forces = module(torch.from_numpy(made.species), torch.from_numpy(positions), torch.from_numpy(cell))
    assert energy.item() == pytest.approx(reference_energy, abs=1e-8)
    assert np.allclose(forces.numpy(), reference_forces, atol=1e-8)


def test_unknown_elements_are_refused(tmp_path):
    path = trained_file(tmp_path / "model.pt")
    with pytest.raises(ElementError, match="Cl: it knows H C O"):
        export_openmm(path, [6, 1, 1, 1, 17], tmp_path / "openmm.pt")
    export_general(path, tmp_path / "general.pt")
    module = load_exported(tmp_path / "general.pt").module
    with pytest.raises(torch.jit.Error, match="not among those"):
        module(torch.tensor([17, 17]), torch.eye(3)[:2])


def test_a_form_that_lies_is_not_written(tmp_path, monkeypatch):
    path = trained_file(tmp_path / "model.pt")

    class Wrong(torchscript.OpenMMForm):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.energy = 1.001 * self.energy

    monkeypatch.setattr(torchscript, "OpenMMForm", Wrong)
    with pytest.raises(ExportError, match="not written"):
        export_openmm(path, ETHANOL, tmp_path / "openmm.pt")
    assert not (tmp_path / "openmm.pt").exists()


def test_nan_never_passes():
    made = frame("H2O")

    def nan(_):
        return float("nan"), np.full((3, 3), np.nan)

    def zero(_):
        return 0.0, np.zeros((3, 3))

    with pytest.raises(ExportError):
        verify(nan, zero, [made], "float32")
    with pytest.raises(ExportError, match="no frames"):
        verify(zero, zero, [], "float32")


def test_the_description_is_inside(tmp_path):
    path = trained_file(tmp_path / "model.pt")
    export_general(path, tmp_path / "general.pt", dtype="float64")
    info = read_exported_info(tmp_path / "general.pt")
    assert (info["form"], info["dtype"], info["cutoff"]) == ("general", "float64", 4.0)
    assert info["units"] == {"energy": "eV", "length": "angstrom", "force": "eV/angstrom"}
    assert info["verification"]["force"] <= info["verification"]["tolerance"]["force"]


def test_files_that_are_not_ours(tmp_path):
    torch.jit.save(torchscript.script(torch.nn.Linear(2, 2)), str(tmp_path / "foreign.pt"))
    with pytest.raises(ModelFileError, match="not an exported piwsl potential"):
        load_exported(tmp_path / "foreign.pt")
    with pytest.raises(ModelFileError, match="not an exported piwsl potential"):
        load_exported(trained_file(tmp_path / "model.pt"))
    export_general(tmp_path / "model.pt", tmp_path / "general.pt")
    data = (tmp_path / "general.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelFileError, match="damaged"):
        load_exported(tmp_path / "cut.pt")
    with pytest.raises(ModelFileError, match="no such file"):
        load_exported(tmp_path / "none.pt")
