import numpy as np
import pytest
import torch
from ase import Atoms

from piwsl.data.batch import collate
from piwsl.data.frames import Frame
from piwsl.errors import ConfigError, ElementError, ExportError
from piwsl.export import exporter as make
from piwsl.export.evaluation import bind
from piwsl.export.exported_file import load_exported, read_exported_info
from piwsl.export.exporter import Exporter
from piwsl.export.trained_file import load_trained
from piwsl.units import KJ_PER_MOL, NANOMETER
from tests.support.models_for_tests import trained_file
from tests.support.molecules import frame, oxide

ETHANOL = frame("CH3CH2OH")
LIMITS = {"float32": 1e-4, "float64": 1e-8}
NETWORKS = ["painn", "schnet", "tensornet", "ace", "escn", "equiformer_v2", "spinconv", "mace"]


def eager(path, made, dtype="float64"):
    model = load_trained(path)
    batch = collate([made], model.config.cutoff, getattr(torch, dtype))
    energies, forces = model.potential(dtype=dtype)(*batch.graph)
    return energies.item(), forces.detach().numpy()


def openmm_call(potential, made, shift=0.0):
    """What OpenMM would get, in eV and angstrom."""
    inputs = [torch.from_numpy((made.positions + shift) / NANOMETER)]
    if any(made.pbc):
        inputs.append(torch.from_numpy(made.cell / NANOMETER))
    energy, forces = potential.program(*inputs)
    return float(energy) * KJ_PER_MOL, forces.numpy() * KJ_PER_MOL / NANOMETER


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "dtype"), [*((network, "float64") for network in NETWORKS), ("painn", "float32"), ("schnet", "float32")]
)
def test_the_molecule_form_equals_the_model(exports, network, dtype):
    """The copies in `test_replica_evaluation.py` are those of each network in float32."""
    path = exports.trained(network=network, dtype=dtype, layers=2)
    exported = load_exported(exports.openmm(network=network, dtype=dtype, layers=2))
    # The check frame that is ethanol, and the structure; not water.
    assert exported.info["verification"]["structures"] == 2
    assert exported.species == ETHANOL.species.tolist()
    assert exported.is_molecule
    made = frame("CH3CH2OH", seed=7)
    energy, forces = eager(path, made, dtype)
    for shift in (0.0, 300.0):
        found = openmm_call(exported, made, shift)
        assert found[0] == pytest.approx(energy, abs=LIMITS[dtype])
        assert np.allclose(found[1], forces, atol=LIMITS[dtype])


@pytest.mark.slow
def test_a_molecule_in_a_box_is_seen_whole_where_the_box_cuts_it(exports):
    exported = load_exported(exports.openmm())
    energy, forces = eager(exports.trained(), ETHANOL)
    cell = np.array([[9.0, 0.0, 0.0], [2.0, 9.5, 0.0], [-1.0, 3.0, 9.2]])
    wrapped = ETHANOL.positions - np.floor(ETHANOL.positions @ np.linalg.inv(cell) + 0.1) @ cell
    assert np.abs(wrapped - ETHANOL.positions).max() > 5.0
    made = Frame(ETHANOL.species, wrapped, np.nan, ETHANOL.forces, cell, (True, True, True))
    found = openmm_call(exported, made)
    assert found[0] == pytest.approx(energy, abs=1e-8)
    assert np.allclose(found[1], forces, atol=1e-8)
    narrow = Frame(ETHANOL.species, wrapped, np.nan, ETHANOL.forces, 0.8 * cell, (True, True, True))
    assert np.isnan(openmm_call(exported, narrow)[0])


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_the_general_form_equals_the_model_for_any_structure(exports, network):
    path = exports.trained(network=network, layers=2)
    exported = load_exported(exports.general(network=network, layers=2))
    assert exported.info["verification"]["structures"] == 4  # two check frames, with and without their last atoms
    lone = Frame(np.array([8]), np.zeros((1, 3)), np.nan, np.full((1, 3), np.nan))
    for made in (frame("C6H6", seed=3), frame("H2O"), ETHANOL, oxide(), lone):
        energy, forces = eager(path, made)
        cell, pbc = (torch.from_numpy(made.cell), torch.tensor(made.pbc)) if any(made.pbc) else (None, None)
        said = exported.program(torch.from_numpy(made.species), torch.from_numpy(made.positions), cell, pbc)
        found = bind(exported, made.species, made.pbc)(made.positions, made.cell)
        for other_energy, other_forces, virial in (
            (said["energy"].item(), said["forces"].numpy(), said["virial"].numpy()),
            (found.energy, found.forces, found.virial),
        ):
            assert other_energy == pytest.approx(energy, abs=1e-8)
            assert np.allclose(other_forces, forces, atol=1e-8)
            assert np.allclose(virial, virial.T, atol=1e-8)


@pytest.mark.slow
def test_virial_is_minus_the_derivative_by_strain(exports):
    made = oxide()
    bound = bind(load_exported(exports.general()), made.species, made.pbc)
    virial = bound(made.positions, made.cell).virial
    for row, column in ((0, 0), (1, 2), (2, 1)):
        strain = np.zeros((3, 3))
        strain[row, column] = 1e-5
        ahead, behind = (
            bound(made.positions @ (np.eye(3) + sign * strain), made.cell @ (np.eye(3) + sign * strain)).energy
            for sign in (1, -1)
        )
        assert virial[row, column] == pytest.approx(-(ahead - behind) / 2e-5, abs=1e-5)
    assert np.abs(virial).max() > 0.01


@pytest.mark.slow
def test_a_periodic_structure_for_openmm(exports):
    made = oxide()
    exported = load_exported(exports.cell())
    assert exported.info["verification"]["structures"] == 1
    assert not exported.is_molecule
    energy, forces = eager(exports.trained(), made)
    found = openmm_call(exported, made)
    assert found[0] == pytest.approx(energy, abs=1e-8)
    assert np.allclose(found[1], forces, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize(("network", "is_graph"), [("painn", True), ("escn", False)])
def test_larger_molecules_have_lists_of_neighbors_where_all_pairs_are_expensive(tmp_path, network, is_graph):
    path = trained_file(tmp_path / "model.pt", network=network, channels=4, layers=1, dtype="float64")
    made = Frame.from_atoms(Atoms("H48", np.random.default_rng(0).permutation(64)[:48, None] // [1, 4, 16] % 4 * 1.4))
    Exporter([path]).openmm(made, tmp_path / "openmm.pt")
    exported = load_exported(tmp_path / "openmm.pt")
    assert exported.is_molecule == is_graph
    energy, forces = eager(path, made)
    found = openmm_call(exported, made)
    assert found[0] == pytest.approx(energy, abs=1e-8)
    assert np.allclose(found[1], forces, atol=1e-8)


@pytest.mark.slow
def test_direct_forces_have_no_stress_and_are_not_compared_with_differences(tmp_path):
    path = trained_file(tmp_path / "model.pt", dtype="float64", forces="direct")
    for target, result in (
        ("general", Exporter([path]).general(tmp_path / "general.pt")),
        ("openmm", Exporter([path]).openmm(ETHANOL, tmp_path / "openmm.pt")),
    ):
        assert result.passed
        assert result.finite_difference is None
        exported = load_exported(tmp_path / f"{target}.pt")
        assert not exported.has_stress
        energy, forces = eager(path, ETHANOL)
        found = bind(exported, ETHANOL.species)(ETHANOL.positions)
        assert found.energy == pytest.approx(energy, abs=1e-8)
        assert np.allclose(found.forces, forces, atol=1e-8)
        assert found.virial is None


@pytest.mark.slow
def test_an_ensemble_gives_means_and_the_deviation_of_forces(tmp_path):
    options = {"dtype": "float64", "layers": 1, "channels": 4}
    paths = [trained_file(tmp_path / f"{seed}.pt", seed=seed, **options) for seed in range(3)]
    exporter = Exporter(paths)
    exporter.general(tmp_path / "general.pt")
    exporter.openmm(ETHANOL, tmp_path / "openmm.pt")
    each = [eager(path, ETHANOL) for path in paths]
    energy = np.mean([one for one, _ in each])
    mean, deviation = np.mean([one for _, one in each], 0), np.std([one for _, one in each], 0, ddof=1)
    assert deviation.max() > 1e-3
    for name in ("general", "openmm"):
        exported = load_exported(tmp_path / f"{name}.pt")
        assert exported.members == 3
        found = bind(exported, ETHANOL.species)(ETHANOL.positions)
        assert found.energy == pytest.approx(energy, abs=1e-8)
        assert np.allclose(found.forces, mean, atol=1e-8)
        assert np.allclose(found.forces_std, deviation, atol=1e-8)
    said = load_exported(tmp_path / "general.pt").program(
        torch.from_numpy(ETHANOL.species), torch.from_numpy(ETHANOL.positions)
    )
    assert np.allclose(said["forces_std"].numpy(), deviation, atol=1e-8)
    assert np.allclose(openmm_call(exported, ETHANOL)[1], mean, atol=1e-8)


def test_models_that_are_no_ensemble(tmp_path):
    paths = [trained_file(tmp_path / "a.pt"), trained_file(tmp_path / "b.pt", cutoff=3.5)]
    with pytest.raises(ConfigError, match=r"b\.pt and .*a\.pt differ in cutoff \(3\.5 and 4\.0\)"):
        Exporter(paths)


@pytest.mark.slow
def test_unknown_elements_are_refused(exports, tmp_path):
    with pytest.raises(ElementError, match="Cl, only on H C O"):
        Exporter([exports.trained()]).openmm(frame("CH3Cl"), tmp_path / "openmm.pt")
    exported = load_exported(exports.general())
    with pytest.raises(torch.jit.Error, match="not trained on"):
        exported.program(torch.tensor([17, 17]), torch.eye(3)[:2])
    with pytest.raises(ElementError, match="not trained on Cl"):
        bind(exported, frame("CH3Cl").species)


@pytest.mark.slow
def test_a_form_that_lies_is_not_written(tmp_path, monkeypatch):
    path = trained_file(tmp_path / "model.pt")

    class Wrong(make.MoleculeForm):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.energy = 1.001 * self.energy  # the core is right, what OpenMM gets is not

    # Patched in place: a choice of the form would be an argument that no caller of the exporter uses.
    monkeypatch.setattr(make, "MoleculeForm", Wrong)
    with pytest.raises(ExportError, match="nothing is written"):
        Exporter([path]).openmm(ETHANOL, tmp_path / "openmm.pt")
    assert not (tmp_path / "openmm.pt").exists()


@pytest.mark.slow
def test_the_description_is_inside(tmp_path):
    path = trained_file(tmp_path / "model.pt")
    Exporter([path], dtype="float64").general(tmp_path / "general.pt")
    info = read_exported_info(tmp_path / "general.pt")
    assert (info["target"], info["dtype"], info["cutoff"], info["members"]) == ("general", "float64", 4.0, 1)
    assert info["units"] == {"energy": "eV", "length": "angstrom", "force": "eV/angstrom"}
    assert info["verification"]["force"] <= info["verification"]["tolerance"]["force"]
    assert len(info["check"]) == 2
