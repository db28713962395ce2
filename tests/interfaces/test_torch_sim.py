import sys
from dataclasses import replace
from importlib import import_module
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from piwsl.errors import DataError, ElementError, EngineError, MissingDependencyError, ModelFileError
from piwsl.export.evaluation import bind
from piwsl.export.exported_file import load_exported
from piwsl.export.exporter import Exporter
from piwsl.export.trained_file import save_trained
from tests.support.argon import argon_model
from tests.support.domains import with_domain
from tests.support.models_for_tests import trained_file, trained_model
from tests.support.molecules import frame, oxide


def test_absent_torch_sim_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_sim", None)
    monkeypatch.delitem(sys.modules, "piwsl.interfaces.torch_sim", raising=False)
    with pytest.raises(MissingDependencyError, match=r"Python 3\.12.*pip install 'piwsl\[torch-sim\]'"):
        import_module("piwsl.interfaces.torch_sim")


def test_every_call_compares_distances_with_the_training_data(exports, tmp_path, monkeypatch, caplog):
    """With a stand-in for the base class, because torch-sim needs Python 3.12."""
    interface = ModuleType("torch_sim.models.interface")
    interface.ModelInterface = torch.nn.Module
    for name in ("torch_sim", "torch_sim.models"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    monkeypatch.delitem(sys.modules, "piwsl.interfaces.torch_sim", raising=False)
    model_class = import_module("piwsl.interfaces.torch_sim").PiwslModel
    monkeypatch.delitem(sys.modules, "piwsl.interfaces.torch_sim")
    ethanol = molecule("CH3CH2OH")
    path = with_domain(exports.general(), tmp_path / "seen.pt", ethanol)
    state = SimpleNamespace(
        positions=torch.from_numpy(np.tile(ethanol.positions, (2, 1))),
        atomic_numbers=torch.from_numpy(np.tile(ethanol.numbers, 2)),
        cell=torch.zeros(2, 3, 3, dtype=torch.float64),
        pbc=torch.zeros(3, dtype=torch.bool),
        system_idx=torch.tensor([0] * 9 + [1] * 9),
        n_systems=2,
    )
    model, strict = model_class(path), model_class(path, strict=True)
    for one in (model, strict):
        one(state)
    assert "in training" not in caplog.text
    ethanol.set_distance(2, 3, 0.6, fix=0)
    state.positions[9:] = torch.from_numpy(ethanol.positions)
    for _ in range(2):
        model(state)
        with pytest.raises(DataError, match=r"atoms O2 and H3 are 0\.60 angstrom apart"):
            strict(state)
    assert caplog.text.count("in training H-O were") == 1


@pytest.fixture(scope="module")
def ts():
    return pytest.importorskip("torch_sim", reason="torch-sim is not installed (it needs Python 3.12 or newer)")


@pytest.fixture
def model_class(ts):
    return import_module("piwsl.interfaces.torch_sim").PiwslModel


def general(path, **options):
    """An exported file for any structure of H, C and O, with random weights."""
    Exporter([trained_file(path.with_suffix(".trained.pt"), **options)]).general(path)
    return path


@pytest.fixture
def exported(exports):
    return exports.general()


def direct(path, atoms):
    return bind(load_exported(path), atoms.numbers, tuple(map(bool, atoms.pbc)))(atoms.positions, atoms.cell.array)


def compare(path, model, ts, structures, tolerance=1e-9):
    """Results for a batch of structures, which are those of each alone."""
    found = model(ts.io.atoms_to_state(structures, model.device, model.dtype))
    assert not any(values.requires_grad for values in found.values())
    assert all(values.dtype == model.dtype for values in found.values())
    expected = [direct(path, atoms) for atoms in structures]
    assert np.allclose(found["energy"], [one.energy for one in expected], rtol=0, atol=tolerance)
    assert np.allclose(found["forces"], np.concatenate([one.forces for one in expected]), rtol=0, atol=tolerance)
    if model.compute_stress:
        stresses = [-one.virial / atoms.get_volume() for one, atoms in zip(expected, structures, strict=True)]
        assert np.allclose(found["stress"], stresses, rtol=0, atol=tolerance)
    return found


def coal(seed=0, edge=2.1):
    """A triclinic cell much smaller than the cutoff, atoms also outside of it."""
    rng = np.random.default_rng(seed)
    lattice = edge * np.array([[1.0, 0.0, 0.0], [0.3, 1.1, 0.0], [-0.2, 0.1, 0.9]])
    return Atoms("OHCH", rng.uniform(-2, 3, size=(4, 3)) @ lattice, cell=lattice, pbc=True)


@pytest.mark.parametrize("network", ["painn", "schnet"])
def test_molecules(ts, model_class, tmp_path, network):
    path = general(tmp_path / "general.pt", network=network, dtype="float64")
    structures = [frame(name, seed=3).atoms() for name in ("C6H6", "H2O", "CH3CH2OH")] + [Atoms("H")]
    found = compare(path, model_class(path), ts, structures)
    assert set(found) == {"energy", "forces"}


def test_cells(ts, model_class, exported):
    model = model_class(exported, compute_stress=True)
    structures = [oxide().atoms(), coal(), coal(1, edge=6.0), coal(2, edge=1.3), Atoms("C", cell=[2.5] * 3, pbc=True)]
    found = compare(exported, model, ts, structures)
    assert found["stress"].abs().amax(dim=(1, 2)).min() > 1e-3


@pytest.mark.parametrize("pbc", [(True, True, False), (False, True, False)])
def test_slabs_and_wires(ts, model_class, exported, pbc):
    structures = [coal(), coal(1, edge=6.0), fcc111("C", (2, 1, 3), a=3.0, vacuum=None)]
    for atoms in structures:
        atoms.pbc = pbc
    compare(exported, model_class(exported), ts, structures)


def test_the_stress_is_the_derivative_of_the_energy(ts, model_class, exported):
    model = model_class(exported, compute_stress=True)
    atoms, step = oxide().atoms(), 1e-5
    found = model(ts.io.atoms_to_state(atoms, dtype=model.dtype))["stress"][0]
    for a, b in ((0, 0), (2, 1)):
        energies = []
        for sign in (1.0, -1.0):
            strain = np.eye(3)
            strain[a, b] += sign * step / 2
            strain[b, a] += sign * step / 2
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            energies.append(direct(exported, strained).energy)
        slope = (energies[0] - energies[1]) / (2 * step * atoms.get_volume())
        assert float(found[a, b]) == pytest.approx(slope, abs=1e-6)


def test_torch_sim_accepts_the_model(ts, model_class, tmp_path):
    known = dict.fromkeys((1, 6, 12, 14, 26), 0.0)
    frames = [frame("CH4"), frame("SiH4")]
    trained = replace(trained_model(dtype="float64"), reference_energies=known, check_frames=frames)
    save_trained(trained, tmp_path / "model.pt")
    model = model_class(tmp_path / "model.pt")
    validate = import_module("torch_sim.models.interface").validate_model_outputs
    validate(model, torch.device("cpu"), torch.float64)


def test_float_types(ts, model_class, tmp_path):
    path = general(tmp_path / "general.pt", dtype="float32")
    structures = [frame("CH3CH2OH").atoms(), frame("H2O").atoms()]
    compare(path, model_class(path), ts, structures, tolerance=1e-5)
    compare(path, model_class(path, dtype=torch.float32), ts, structures, tolerance=1e-3)


def test_an_ensemble_gives_means_and_deviations(ts, model_class, tmp_path):
    members = [trained_model(dtype="float64")]
    tensors = {name: 1.05 * values for name, values in members[0].tensors.items()}
    members.append(replace(members[0], tensors=tensors))
    paths = [tmp_path / f"member{index}.pt" for index in range(2)]
    for member, path in zip(members, paths, strict=True):
        save_trained(member, path)
    Exporter(paths).general(tmp_path / "ensemble.pt")
    structures = [frame("CH3CH2OH").atoms(), frame("H2O").atoms()]
    model = model_class(tmp_path / "ensemble.pt")
    found = compare(tmp_path / "ensemble.pt", model, ts, structures)
    expected = np.concatenate([direct(tmp_path / "ensemble.pt", atoms).forces_std for atoms in structures])
    assert expected.min() > 0.0
    assert np.allclose(found["forces_std"], expected, rtol=0, atol=1e-9)
    moved = ts.integrate(structures, model, integrator=ts.Integrator.nve, n_steps=2, temperature=300, timestep=5e-4)
    assert moved.forces_std.shape == (12, 3)


def test_what_is_refused(ts, model_class, tmp_path, exported):
    trained = trained_file(tmp_path / "model.pt")
    Exporter([trained]).openmm(frame("H2O"), tmp_path / "openmm.pt")
    with pytest.raises(EngineError, match=r"target openmm.*target='general'"):
        model_class(tmp_path / "openmm.pt")
    with pytest.raises(ModelFileError, match="no such file"):
        model_class(tmp_path / "none.pt")
    state = ts.io.atoms_to_state([molecule("CH3OH"), molecule("CH3Cl")], dtype=torch.float64)
    with pytest.raises(ElementError, match="the model was trained on H C O, not on Cl"):
        model_class(exported)(state)
    slab = coal()
    slab.pbc = (True, True, False)
    for atoms in (slab, molecule("H2O")):
        with pytest.raises(EngineError, match="stress requires systems that are periodic"):
            model_class(exported, compute_stress=True)(ts.io.atoms_to_state(atoms, dtype=torch.float64))


def test_compiled_packages_are_refused(model_class, exported, monkeypatch):
    module = import_module("piwsl.interfaces.torch_sim")
    info = {**load_exported(exported).info, "format_of_program": "aotinductor"}
    # Compiling a real package takes half a minute and needs a compiler.
    monkeypatch.setattr(module, "read_exported_info", lambda path: info)
    with pytest.raises(EngineError, match=r"aotinductor.*format='torchscript'"):
        model_class(exported)


def test_direct_forces_run_and_give_no_stress(ts, model_class, tmp_path):
    path = general(tmp_path / "direct.pt", dtype="float64", forces="direct")
    compare(path, model_class(path), ts, [frame("CH3CH2OH").atoms(), frame("H2O").atoms()])
    with pytest.raises(EngineError, match="no stress is available"):
        model_class(path, compute_stress=True)


def test_a_lost_system_is_nan_and_the_others_are_not(ts, model_class, exported):
    structures = [oxide().atoms(), coal(), coal(1)]
    model = model_class(exported, compute_stress=True)
    state = ts.io.atoms_to_state(structures, dtype=torch.float64)
    before = model(state)
    state.positions[4, 1] = float("inf")
    found = model(state)
    kept = [0, 2]
    for name in ("energy", "stress"):
        assert found[name][1].isnan().all()
        assert torch.allclose(found[name][kept], before[name][kept])
    assert found["forces"][4].isnan().any()
    others = state.system_idx != 1
    assert torch.allclose(found["forces"][others], before["forces"][others])


@pytest.fixture(scope="module")
def argon(tmp_path_factory):
    return argon_model(tmp_path_factory.mktemp("argon") / "argon.pt")


def crystals():
    return [bulk("Ar", "fcc", a=5.4, cubic=True).repeat(repeat) for repeat in ((2, 1, 1), (2, 2, 1))]


def test_the_energy_is_conserved(ts, model_class, argon):
    model = model_class(argon)
    state = ts.nve_init(
        ts.io.atoms_to_state(crystals(), dtype=torch.float64),
        model,
        kT=torch.tensor(40.0 * ts.units.MetalUnits.temperature),
    )
    totals = []
    for _ in range(200):
        state = ts.nve_step(state, model, dt=torch.tensor(0.004 * ts.units.MetalUnits.time))
        kinetic = ts.calc_kinetic_energy(masses=state.masses, momenta=state.momenta, system_idx=state.system_idx)
        totals.append(state.energy + kinetic)
    totals = torch.stack(totals)
    assert float(kinetic.min()) > 0.01
    assert float((totals - totals[0]).abs().max()) < 2e-3 * float(kinetic.min())
    # One list of neighbors serves many steps.
    assert 2 <= model.neighbors.searches < 60


def test_dynamics_at_constant_temperature_and_pressure(ts, model_class, argon):
    model = model_class(argon, compute_stress=True)
    state = ts.integrate(
        crystals(), model, integrator=ts.Integrator.nvt_langevin, n_steps=100, temperature=40, timestep=0.004
    )
    temperatures = ts.calc_temperature(masses=state.masses, momenta=state.momenta, system_idx=state.system_idx)
    assert ((temperatures > 15) & (temperatures < 80)).all()
    before = state.cell.clone()
    state = ts.integrate(
        state,
        model,
        integrator=ts.Integrator.npt_crescale_isotropic,
        n_steps=50,
        temperature=40,
        timestep=0.004,
        external_pressure=0.0,
    )
    assert not torch.allclose(state.cell, before, atol=1e-6)
    compare(argon, model, ts, ts.io.state_to_atoms(state))


def test_optimization_of_atoms_and_cell(ts, model_class, argon):
    structures = crystals()
    rng = np.random.default_rng(0)
    for atoms in structures:
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0.0, 0.02, (3, 3))), scale_atoms=True)
        atoms.positions += rng.normal(0.0, 0.1, atoms.positions.shape)
    model = model_class(argon, compute_stress=True)
    state = ts.optimize(
        structures,
        model,
        optimizer=ts.Optimizer.fire,
        convergence_fn=ts.generate_force_convergence_fn(1e-4, include_cell_forces=True),
        init_kwargs={"cell_filter": ts.CellFilter.frechet},
        max_steps=500,
    )
    found = compare(argon, model, ts, ts.io.state_to_atoms(state))
    assert float(found["forces"].norm(dim=1).max()) < 1e-4
    assert float(found["stress"].abs().max()) < 1e-5
    # Both are the same crystal: cubic closest packing.
    energies = found["energy"] / torch.tensor([len(atoms) for atoms in structures])
    assert float(energies[0]) == pytest.approx(float(energies[1]), abs=1e-6)


def test_systems_that_come_and_go(ts, model_class, argon):
    """torch-sim takes systems that have converged out of a batch and puts others in."""
    rng = np.random.default_rng(1)
    clusters = [
        Atoms(f"Ar{size}", 3.8 * np.argwhere(np.ones((2, 2, 2)))[:size] + rng.normal(0.0, 0.2, (size, 3)))
        for size in (2, 5, 4, 8, 3)
    ]
    model = model_class(argon)
    state = ts.optimize(
        clusters,
        model,
        optimizer=ts.Optimizer.fire,
        convergence_fn=ts.generate_force_convergence_fn(1e-4),
        autobatcher=ts.InFlightAutoBatcher(model, memory_scales_with="n_atoms", max_memory_scaler=12),
        max_steps=1000,
    )
    assert state.n_systems == len(clusters)
    found = compare(argon, model, ts, ts.io.state_to_atoms(state))
    assert float(found["forces"].norm(dim=1).max()) < 1e-4
    assert [len(atoms) for atoms in ts.io.state_to_atoms(state)] == [2, 5, 4, 8, 3]


def test_single_points(ts, model_class, exported):
    structures = [frame(name).atoms() for name in ("CH3CH2OH", "H2O")]
    found = ts.static(structures, model_class(exported))
    for one, atoms in zip(found, structures, strict=True):
        expected = direct(exported, atoms)
        assert float(one["potential_energy"]) == pytest.approx(expected.energy, abs=1e-9)
        assert np.allclose(one["forces"], expected.forces, atol=1e-9)
