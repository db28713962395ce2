import pickle
import re
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import openmm
import pytest
import torch
from ase.build import molecule

from piwsl import PiwslCalculator
from piwsl.data.frames import Frame
from piwsl.errors import ElementError, EngineError, ModelFileError
from piwsl.export.evaluation import bind
from piwsl.export.exported_file import load_exported
from piwsl.export.exporter import Exporter
from piwsl.interfaces.openmm.force import choose_force, python_force, torch_force
from piwsl.interfaces.openmm.probe import FORCE_PROBES, Probe, probe_torchforce
from piwsl.units import KJ_PER_MOL, NANOMETER


def in_openmm(force, atoms):
    """Energy (eV) and forces (eV/angstrom) that OpenMM gets from a force."""
    system = openmm.System()
    for mass in atoms.get_masses():
        system.addParticle(mass)
    system.addForce(force)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(atoms.positions / NANOMETER)
    for _ in range(3):  # TorchScript specializes after the first calls
        state = context.getState(energy=True, forces=True)
    forces = state.getForces(asNumpy=True)._value * KJ_PER_MOL / NANOMETER
    return state.getPotentialEnergy()._value * KJ_PER_MOL, forces, system


def test_calculator_forces_are_the_derivative_of_its_energy(ethanol, make_model):
    calculator = PiwslCalculator(make_model(ethanol))
    ethanol.rattle(0.1, seed=1)
    ethanol.calc = calculator
    forces, step = ethanol.get_forces(), 1e-4
    assert np.abs(forces).max() > 1
    for atom, axis in ((0, 0), (3, 2), (8, 1)):
        energies = []
        for sign in (1, -1):
            moved = ethanol.copy()
            moved.calc = calculator
            moved.positions[atom, axis] += sign * step
            energies.append(moved.get_potential_energy())
        assert forces[atom, axis] == pytest.approx((energies[1] - energies[0]) / (2 * step), abs=1e-5)
    assert ethanol.get_potential_energy(force_consistent=True) == ethanol.get_potential_energy()


@pytest.mark.torchforce
@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "atoms"),
    [
        *((network, "CH3CH2OH") for network in ("painn", "schnet", "tensornet", "ace", "escn", "equiformer_v2")),
        ("spinconv", "CH3CH2OH"),
        ("painn", "C6H6"),
    ],
)
def test_real_networks_give_the_same_in_openmm(network, atoms, exports, tmp_path):
    """TorchForce freezes modules, and PyTorch's joining of `mm` fails there: the reason for `linear` in the graphs."""
    structure = molecule(atoms)
    structure.rattle(0.05, seed=1)
    if atoms == "CH3CH2OH":
        path = exports.openmm(network=network, layers=2)
    else:
        path = tmp_path / "openmm.pt"
        Exporter([exports.trained(network=network, layers=2)]).openmm(Frame.from_atoms(structure), path)
    direct = bind(load_exported(path))(structure.positions)
    for force in (torch_force(load_exported(path)), python_force(load_exported(path), structure.numbers)):
        energy, forces, _ = in_openmm(force, structure)
        assert energy == pytest.approx(direct.energy, abs=1e-9)
        assert np.abs(forces - direct.forces).max() < 1e-9


def test_calculator_sees_every_change(ethanol, make_model):
    ethanol.rattle(0.1, seed=1)
    ethanol.calc = PiwslCalculator(make_model(molecule("CH3CH2OH")))
    first = ethanol.get_potential_energy()
    calls = []
    evaluate = ethanol.calc._bound
    ethanol.calc._bound = lambda *arguments: calls.append(1) or evaluate(*arguments)
    ethanol.get_forces()
    assert calls == []
    ethanol.positions[0, 0] += 1e-9
    assert ethanol.get_potential_energy() != first
    assert calls == [1]


def test_both_forms_agree_in_the_calculator(ethanol, make_model):
    openmm_form, general_form = make_model(ethanol), make_model(ethanol, "general.pt", form="general")
    ethanol.rattle(0.1, seed=1)
    results = []
    for path in (openmm_form, general_form):
        ethanol.calc = PiwslCalculator(path)
        results.append((ethanol.get_potential_energy(), ethanol.get_forces()))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-10)
    assert np.abs(results[0][1] - results[1][1]).max() < 1e-10


def test_the_openmm_form_refuses_other_atoms_and_cells(ethanol, make_model):
    calculator = PiwslCalculator(make_model(ethanol))
    other = ethanol[::-1]
    other.calc = calculator
    with pytest.raises(ElementError, match="the order of the atoms differs"):
        other.get_potential_energy()
    ethanol.set_cell([5, 9, 9])
    ethanol.pbc = True
    ethanol.calc = calculator
    with pytest.raises(EngineError, match=r"5\.0 angstrom wide"):
        ethanol.get_potential_energy()


def test_a_file_that_is_not_ours(tmp_path: Path):
    with pytest.raises(ModelFileError, match="no such file"):
        PiwslCalculator(tmp_path / "missing.pt")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ModelFileError, match="not an exported file"):
        PiwslCalculator(tmp_path / "pickle.pt")


@pytest.mark.parametrize("form", ["openmm", "general"])
def test_a_python_force_survives_serialization(form, ethanol, make_model):
    path = make_model(ethanol, form=form)
    ethanol.rattle(0.1, seed=1)
    energy, forces, system = in_openmm(python_force(load_exported(path), ethanol.numbers), ethanol)
    path.unlink()
    copy = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(system))
    assert copy.getNumForces() == 1
    again_energy, again_forces, _ = in_openmm(openmm.XmlSerializer.clone(copy.getForce(0)), ethanol)
    assert again_energy == pytest.approx(energy, abs=1e-9)
    assert np.abs(again_forces - forces).max() < 1e-9


@pytest.mark.torchforce
def test_a_torch_force_serves_one_system_after_another(ethanol, make_model):
    path = make_model(ethanol)
    ethanol.rattle(0.1, seed=1)
    first = in_openmm(torch_force(load_exported(path)), ethanol)[1]
    assert np.array_equal(in_openmm(torch_force(load_exported(path)), ethanol)[1], first)


@pytest.mark.torchforce
def test_torchforce_is_chosen_where_it_works(ethanol, make_model):
    assert probe_torchforce() == Probe(True, "works on Reference")
    chosen = choose_force(load_exported(make_model(ethanol)), ethanol.numbers)
    assert (chosen.kind, type(chosen.force).__name__) == ("TorchForce", "TorchForce")


def test_the_general_form_goes_through_python_and_says_why(ethanol, make_model):
    path = make_model(ethanol, form="general")
    chosen = choose_force(load_exported(path), ethanol.numbers)
    assert chosen.kind == "PythonForce"
    assert "springs.pt has the target general" in chosen.reason
    ethanol.rattle(0.1, seed=1)
    direct = bind(load_exported(path), ethanol.numbers)(ethanol.positions).forces
    assert np.abs(in_openmm(chosen.force, ethanol)[1] - direct).max() < 1e-9


def test_without_openmm_torch_the_run_goes_through_python(ethanol, make_model, monkeypatch):
    monkeypatch.setitem(sys.modules, "openmmtorch", None)  # as if it were not installed
    probe_torchforce.cache_clear()
    try:
        chosen = choose_force(load_exported(make_model(ethanol)), ethanol.numbers)
    finally:
        probe_torchforce.cache_clear()
    assert (chosen.kind, chosen.reason) == ("PythonForce", "openmm-torch is not installed")


def test_a_plugin_that_fails_in_its_context_is_worked_around(ethanol, make_model, monkeypatch):
    class FailsInContext(openmm.CustomExternalForce):
        def __init__(self, model):
            super().__init__("no such expression")

        def setOutputsForces(self, outputs):
            pass

    monkeypatch.setitem(sys.modules, "openmmtorch", SimpleNamespace(TorchForce=FailsInContext))
    probe_torchforce.cache_clear()
    try:
        probe = probe_torchforce()
    finally:
        probe_torchforce.cache_clear()
    assert not probe.works
    assert probe.reason.startswith("TorchForce fails on Reference with openmm-torch ")
    assert f"and torch {torch.__version__}" in probe.reason
    assert "no such expression" in probe.reason


@pytest.mark.torchforce
def test_a_plugin_for_another_torch_is_named_with_both_versions(ethanol, make_model):
    def undefined_symbol():
        raise ImportError("libOpenMMTorch.so: undefined symbol: _ZN5torch3jit4load")

    probes = {**FORCE_PROBES, "TorchForce": partial(probe_torchforce, import_plugin=undefined_symbol)}
    with pytest.raises(EngineError) as caught:
        choose_force(load_exported(make_model(ethanol)), ethanol.numbers, kind="torch", probes=probes)
    versions = rf"openmm-torch \d[\w.]* and torch {re.escape(torch.__version__)} are not compatible"
    assert re.search(versions, str(caught.value))
    assert str(caught.value).endswith("undefined symbol: _ZN5torch3jit4load: choose kind='auto' or kind='python'")


def test_where_nothing_works_both_reasons_are_given(ethanol, make_model):
    probes = {
        "TorchForce": lambda platform: Probe(False, "first reason"),
        "PythonForce": lambda platform: Probe(False, "second reason"),
    }
    with pytest.raises(EngineError, match="first reason; second reason"):
        choose_force(load_exported(make_model(ethanol)), ethanol.numbers, probes=probes)
