"""Charge and spin in trained and exported files: inputs of general files, fixed in files for OpenMM."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from piwsl import export_model, load_model
from piwsl.data.batch import collate
from piwsl.data.charges import ChargeSpin
from piwsl.data.frames import FrameSet
from piwsl.errors import ConfigError
from piwsl.export.evaluation import bind
from piwsl.export.exported_file import load_exported
from piwsl.export.replica_evaluation import bind_replicas
from piwsl.export.trained_file import TrainedModel, save_trained
from piwsl.models import ModelConfig, build_potential
from tests.support.molecules import frame, oxide

ENERGIES = {1: -13.0, 6: -1030.0, 8: -2042.0}
OPTIONS = {
    "so3lr": {"cutoff": 6.0, "message_cutoff": 4.0, "channels": 8, "layers": 1, "heads": 2, "degrees": 2},
    "painn": {"cutoff": 4.0, "channels": 8, "layers": 1, "charge_embedding": True},
    "plain": {"cutoff": 4.0, "channels": 8, "layers": 1},
}
STATES = [ChargeSpin(0.0, 0.0), ChargeSpin(1.0, 1.0), ChargeSpin(-1.0, 0.0), ChargeSpin()]


def charged(stated, name="CH3CH2OH"):
    return replace(frame(name), charge=stated.charge, unpaired_electrons=stated.unpaired_electrons)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("charged")
    for kind, options in OPTIONS.items():
        torch.manual_seed(0)
        config = ModelConfig(network="painn" if kind == "plain" else kind, **options)
        tensors = build_potential(config, ENERGIES, 1.3).network.double().state_dict()
        checks = [frame("H2O"), charged(ChargeSpin(-1.0, 0.0)), oxide()]
        save_trained(TrainedModel(config, ENERGIES, 1.3, "float64", tensors, checks), folder / f"{kind}.pt")
    return folder


def general(folder, kind):
    """Return the general file of a network, made at its first use."""
    path = folder / f"{kind}-general.pt"
    if not path.exists():
        export_model(folder / f"{kind}.pt", path)
    return load_exported(path)


def eager(file, one):
    model = load_model(file)
    energies, forces = model.potential()(*collate([one], model.cutoff, torch.float64).graph)
    return float(energies.detach()), forces.detach().numpy()


def same(result, expected):
    assert result.energy == pytest.approx(expected[0], abs=1e-8)
    np.testing.assert_allclose(result.forces, expected[1], rtol=0, atol=1e-8)


def test_trained_files_keep_the_charges_of_their_structures(files):
    _, second, _ = load_model(files / "painn.pt").check_frames
    assert (second.charge, second.unpaired_electrons) == (-1.0, 0.0)


@pytest.mark.parametrize("kind", ["so3lr", "painn"])
def test_predictions_of_a_trained_file(files, kind):
    frames = [charged(stated) for stated in STATES]
    predicted = load_model(files / f"{kind}.pt").predict(FrameSet(frames))
    for one, result in zip(frames, predicted, strict=True):
        same(result, eager(files / f"{kind}.pt", one))
        assert str(result.charge_spin) == str(one.charge_spin)


@pytest.mark.parametrize("kind", [pytest.param("so3lr", marks=pytest.mark.slow), "painn"])
@pytest.mark.parametrize("stated", STATES, ids=str)
def test_general_files_take_the_charge_as_input(files, kind, stated):
    one = charged(stated)
    potential = general(files, kind)
    assert potential.takes_charge
    assert not potential.fixed_charge.is_stated
    expected = eager(files / f"{kind}.pt", one)
    same(bind(potential, one.species, one.pbc, stated)(one.positions), expected)
    values = [None if np.isnan(value) else value for value in (stated.charge, stated.unpaired_electrons)]
    tensors = torch.from_numpy(one.species), torch.from_numpy(one.positions)
    assert float(potential.program(*tensors, None, None, *values)["energy"]) == pytest.approx(expected[0], abs=1e-8)
    replicas = bind_replicas(potential, one.species, stated=stated)
    positions = torch.from_numpy(one.positions).repeat(3, 1, 1)
    assert replicas(positions).energies.tolist() == pytest.approx([expected[0]] * 3, abs=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["so3lr", "painn"])
@pytest.mark.parametrize("name", ["CH3CH2OH", "cell"])
def test_files_for_openmm_fix_the_charge(files, tmp_path, kind, name):
    structure = oxide() if name == "cell" else frame(name)
    file, exported = files / f"{kind}.pt", tmp_path / "fixed.pt"
    export_model(file, exported, target="openmm", structure=structure, charge=1, unpaired_electrons=0)
    potential, stated = load_exported(exported), ChargeSpin(1.0, 0.0)
    assert potential.fixed_charge == stated
    assert not potential.takes_charge
    cell = structure.cell if any(structure.pbc) else None
    expected = eager(file, replace(structure, charge=1.0, unpaired_electrons=0.0))
    for given in (ChargeSpin(), stated, ChargeSpin(1.0)):
        same(bind(potential, structure.species, structure.pbc, given)(structure.positions, cell), expected)
    with pytest.raises(ConfigError, match=r"exported for charge \+1, 0 unpaired electrons, but the structure has"):
        bind(potential, structure.species, structure.pbc, ChargeSpin(0.0))


@pytest.mark.slow
def test_the_charge_of_the_structure_is_fixed_without_arguments(files, tmp_path):
    structure = charged(ChargeSpin(-1.0, 1.0))
    export_model(files / "painn.pt", tmp_path / "own.pt", target="openmm", structure=structure)
    assert load_exported(tmp_path / "own.pt").fixed_charge == ChargeSpin(-1.0, 1.0)
    export_model(files / "painn.pt", tmp_path / "other.pt", target="openmm", structure=structure, charge=1)
    assert load_exported(tmp_path / "other.pt").fixed_charge == ChargeSpin(1.0, 1.0)
    export_model(files / "painn.pt", tmp_path / "none.pt", target="openmm", structure=frame("H2O"))
    assert load_exported(tmp_path / "none.pt").fixed_charge == ChargeSpin(0.0, 0.0)


@pytest.mark.slow
def test_copies_of_a_charged_molecule(files, tmp_path):
    one = charged(ChargeSpin(1.0, 1.0))
    export_model(files / "painn.pt", tmp_path / "copies.pt", target="openmm", structure=one, copies=3)
    potential = load_exported(tmp_path / "copies.pt")
    result = bind_replicas(potential, one.species, stated=ChargeSpin(1.0))(torch.from_numpy(one.positions[None]))
    assert float(result.energies[0]) == pytest.approx(eager(files / "painn.pt", one)[0], abs=1e-8)
    with pytest.raises(ConfigError, match="export it with charge=0"):
        bind_replicas(potential, one.species, stated=ChargeSpin(0.0))


@pytest.mark.compile
def test_compiled_files(files, tmp_path):
    """A file for OpenMM is compiled in `tests/cli/test_export.py`."""
    one = charged(ChargeSpin(1.0, 1.0), "H2O")
    export_model(files / "painn.pt", tmp_path / "made.pt2", format="aotinductor")
    potential = load_exported(tmp_path / "made.pt2")
    for stated in STATES:
        expected = eager(files / "painn.pt", charged(stated, "H2O"))
        same(bind(potential, one.species, one.pbc, stated)(one.positions), expected)


@pytest.mark.slow
def test_networks_that_ignore_charges(files, tmp_path):
    potential = general(files, "plain")
    assert not potential.takes_charge
    assert "default_charge_spin" not in dict(potential.program.named_buffers())
    one = charged(ChargeSpin(1.0, 1.0))
    same(bind(potential, one.species, one.pbc, one.charge_spin)(one.positions), eager(files / "plain.pt", one))
    tensors = torch.from_numpy(one.species), torch.from_numpy(one.positions)
    potential.program(*tensors, None, None, 0.0, None)
    with pytest.raises(Exception, match="ignores the charge and the spin"):
        potential.program(*tensors, None, None, 1.0, None)
    refused = "charge=1: network painn ignores charge and spin: leave this out"
    with pytest.raises(ConfigError, match=refused):
        export_model(files / "plain.pt", tmp_path / "no.pt", target="openmm", structure=one, charge=1)
    with pytest.raises(ConfigError, match="require target='openmm': a general file takes the charge of each structure"):
        export_model(files / "painn.pt", tmp_path / "no.pt", charge=1)
    assert not (tmp_path / "no.pt").exists()
