"""Charge and spin through the ASE calculator, OpenMM forces, openmm-ml and molecular dynamics."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.io import write

from piwsl import PiwslCalculator, export_model, load_model, run_md
from piwsl.data.batch import collate
from piwsl.data.domain import TrainingDomain
from piwsl.data.frames import Frame, FrameSet
from piwsl.errors import ConfigError, DataError, RunDirectoryError
from piwsl.export.trained_file import TrainedModel, save_trained
from piwsl.models import ModelConfig, build_potential
from tests.support.molecules import frame

ENERGIES = {1: -13.0, 8: -2042.0}


def charged(charge, unpaired=np.nan):
    return replace(frame("H2O"), charge=float(charge), unpaired_electrons=float(unpaired))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A network with and one without the charge as input, trained on neutral and singly charged water."""
    folder = tmp_path_factory.mktemp("charged")
    for name, embedding in (("charged.pt", True), ("plain.pt", False)):
        torch.manual_seed(0)
        config = ModelConfig(cutoff=4.0, channels=8, layers=1, charge_embedding=embedding)
        tensors = build_potential(config, ENERGIES, 0.3).network.double().state_dict()
        frames = FrameSet([charged(0, 0), charged(1, 1), frame("H2O")])
        domain = TrainingDomain.of(frames, 4.0, default_charge=config.default_charge)
        save_trained(
            TrainedModel(config, ENERGIES, 0.3, "float64", tensors, [frame("H2O")], {}, domain=domain), folder / name
        )
    export_model(folder / "charged.pt", folder / "cation.pt", target="openmm", structure=charged(1, 1))
    export_model(folder / "charged.pt", folder / "general.pt")
    return folder


def energy(files, charge, unpaired=np.nan):
    model = load_model(files / "charged.pt")
    batch = collate([charged(charge, unpaired)], model.cutoff, torch.float64)
    return float(model.potential().energies(*batch.graph))


@pytest.mark.slow
def test_the_calculator_reads_the_info_of_atoms(files):
    atoms = frame("H2O").atoms()
    atoms.calc = PiwslCalculator(files / "general.pt")
    for info, expected in (
        ({}, (0, 0)),
        ({"charge": 1, "spin": 2}, (1, 1)),
        ({"charge": 1, "unpaired_electrons": 1}, (1, 1)),
        ({"total_charge": 1, "multiplicity": 3}, (1, 2)),
        ({"charge": 1}, (1, 0)),
        ({}, (0, 0)),
    ):
        atoms.info = info
        assert atoms.get_potential_energy() == pytest.approx(energy(files, *expected), abs=1e-8)
    atoms.info = {"charge": 0.5}
    with pytest.raises(DataError, match=r"structure: charge is 0.5; expected an integer"):
        atoms.get_potential_energy()


def test_initial_charges_are_not_the_charge_of_a_structure(files, caplog):
    """Other calculators take their sum, such as that of tblite."""
    for file, info, warns in (("charged.pt", {}, True), ("charged.pt", {"charge": 1}, False), ("plain.pt", {}, False)):
        atoms = frame("H2O").atoms()
        atoms.info = info
        atoms.set_initial_charges([0.4, 0.3, 0.3])
        atoms.calc = PiwslCalculator(files / file)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            atoms.get_potential_energy()
        assert ("initial charges with a sum of +1 e, which are not read" in caplog.text) == warns, (file, info)


@pytest.mark.slow
def test_arguments_of_the_calculator_take_precedence(files):
    atoms = frame("H2O").atoms()
    atoms.info = {"charge": 0, "unpaired_electrons": 0}
    atoms.calc = PiwslCalculator(files / "charged.pt", charge=1, unpaired_electrons=1)
    assert atoms.get_potential_energy() == pytest.approx(energy(files, 1, 1), abs=1e-8)
    with pytest.raises(ConfigError, match="charge=1: network painn ignores charge and spin"):
        PiwslCalculator(files / "plain.pt", charge=1)
    with pytest.raises(ConfigError, match=r"charge=0.5: give an integer"):
        PiwslCalculator(files / "charged.pt", charge=0.5)
    PiwslCalculator(files / "plain.pt", charge=0)


@pytest.mark.slow
def test_other_charges_than_in_training_are_reported(files, caplog):
    atoms = frame("H2O").atoms()
    atoms.info = {"charge": -1, "unpaired_electrons": 1}
    atoms.calc = PiwslCalculator(files / "general.pt")
    with caplog.at_level(logging.WARNING, "piwsl"):
        atoms.get_potential_energy()
    assert "the structure has a charge of -1, which does not occur in the training data" in caplog.text
    atoms.calc = PiwslCalculator(files / "general.pt", strict=True)
    with pytest.raises(DataError, match="a charge of -1"):
        atoms.get_potential_energy()
    atoms.info = {"charge": 1, "unpaired_electrons": 3}
    with pytest.raises(DataError, match="has 3 unpaired electrons, which does not occur"):
        atoms.get_potential_energy()
    atoms.info = {"charge": 1, "unpaired_electrons": 1}
    atoms.get_potential_energy()


@pytest.mark.slow
def test_openmm_forces(files):
    openmm = pytest.importorskip("openmm")
    from piwsl import openmm_force

    def evaluate(file, **options):
        system = openmm.System()
        for _ in range(3):
            system.addParticle(10.0)
        system.addForce(openmm_force(files / file, [8, 1, 1], device="cpu", **options))
        context = openmm.Context(system, openmm.VerletIntegrator(1e-3), openmm.Platform.getPlatformByName("Reference"))
        context.setPositions(frame("H2O").positions / 10.0)
        value = context.getState(energy=True).getPotentialEnergy()
        return value.value_in_unit(openmm.unit.kilojoule_per_mole) / 96.48533212331002

    for file, options, expected in (
        ("charged.pt", {"charge": 1, "unpaired_electrons": 1}, (1, 1)),
        ("charged.pt", {}, (0, 0)),
        ("general.pt", {"charge": 1}, (1, 0)),
        ("cation.pt", {}, (1, 1)),
        ("cation.pt", {"charge": 1}, (1, 1)),
    ):
        assert evaluate(file, **options) == pytest.approx(energy(files, *expected), abs=1e-6)
    with pytest.raises(
        ConfigError, match=r"exported for charge \+1, 1 unpaired electron, but the structure has charge 0"
    ):
        evaluate("cation.pt", charge=0)
    with pytest.raises(ConfigError, match="ignores charge and spin"):
        evaluate("plain.pt", charge=1)
    with pytest.raises(DataError, match="a charge of -1"):
        evaluate("charged.pt", charge=-1, unpaired_electrons=1, strict=True)


SHORT = {"steps": 4, "ensemble": "nve", "trajectory_interval": 2, "report_interval": 2, "stop": ("none",)}


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"engine": "ase"}, {"replicas": 2}])
def test_dynamics(files, tmp_path, options):
    def final(name, structure=None, model="charged.pt", **more):
        run = run_md(
            frame("H2O") if structure is None else structure,
            files / model,
            output=tmp_path / name,
            **{**SHORT, **options, **more},
        )
        folder = run.directory / ("replica-001" if "replicas" in options else ".")
        return np.loadtxt(folder / "thermo.csv", delimiter=",", skiprows=1)

    cation = final("cation", charge=1, unpaired_electrons=1)
    write(tmp_path / "cation.extxyz", charged(1, 1).atoms())
    stated = final("stated", tmp_path / "cation.extxyz")
    columns = slice(0, 4)
    np.testing.assert_array_equal(cation[:, columns], stated[:, columns])
    again = final("cation", restart=True, charge=1, unpaired_electrons=1, steps=8)
    assert len(again) > len(cation)
    if options:
        return
    neutral = final("neutral")
    assert np.abs(cation[:, columns] - neutral[:, columns]).max() > 1e-3
    with pytest.raises(RunDirectoryError, match="charge"):
        final("cation", restart=True, charge=0, unpaired_electrons=1, steps=12)
    with pytest.raises(ConfigError, match="charge=1: network painn ignores charge and spin"):
        final("refused", model="plain.pt", charge=1)
    with pytest.raises(DataError, match="a charge of -1"):
        final("strict", charge=-1, unpaired_electrons=1, strict=True)


def test_a_frame_states_its_charge_to_other_functions():
    atoms = charged(-1, 1).atoms()
    assert atoms.info == {"charge": -1, "unpaired_electrons": 1}
    assert Frame.from_atoms(atoms).charge_spin == charged(-1, 1).charge_spin
