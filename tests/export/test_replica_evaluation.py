"""Files that evaluate several copies of a molecule, and what serves any number of replicas."""

import shutil

import numpy as np
import pytest
import torch

from piwsl.data.batch import collate
from piwsl.data.frames import Frame
from piwsl.errors import ConfigError, ElementError, EngineError, ExportError
from piwsl.export import exporter as make
from piwsl.export.evaluation import bind
from piwsl.export.exported_file import load_exported, read_exported_info
from piwsl.export.exporter import Exporter
from piwsl.export.replica_evaluation import bind_replicas
from piwsl.export.trained_file import load_trained
from piwsl.units import KJ_PER_MOL, NANOMETER
from tests.support.exports import SMALL
from tests.support.models_for_tests import trained_file
from tests.support.molecules import frame, oxide

pytestmark = pytest.mark.compile

ETHANOL = frame("CH3CH2OH")
NO_CELL = (False, False, False)


def several(count, seed=0):
    """Ethanols (R, n, 3), each displaced in its own way."""
    return ETHANOL.positions + np.random.default_rng(seed).normal(0.0, 0.05, (count, *ETHANOL.positions.shape))


def eager(paths, positions):
    """Energies (M, R) and forces (M, R, n, 3) of the models themselves."""
    frames = [Frame(ETHANOL.species, one, np.nan, one * np.nan) for one in positions]
    energies, forces = [], []
    for path in paths:
        model = load_trained(path)
        found = model.potential()(*collate(frames, model.config.cutoff, torch.float64).graph)
        energies.append(found[0].detach().numpy())
        forces.append(found[1].detach().numpy().reshape(positions.shape))
    return np.array(energies), np.array(forces)


def assert_same(found, energies, forces):
    assert np.allclose(found.energies.numpy(), energies, rtol=0, atol=1e-8)
    assert np.allclose(found.forces.numpy(), forces, rtol=0, atol=1e-8)


@pytest.fixture(scope="module")
def files(exports, tmp_path_factory):
    """A trained file, and what is made of it: one copy, three, compiled for three, and the general form."""
    folder = tmp_path_factory.mktemp("replicas")
    for name, path in (
        ("model.pt", exports.trained(**SMALL)), ("one.pt", exports.openmm(**SMALL)),
        ("three.pt", exports.openmm(copies=3, **SMALL)), ("three.pt2", exports.compiled_molecule(copies=3)),
        ("general.pt", exports.general(**SMALL)),
    ):  # fmt: skip
        shutil.copy(path, folder / name)
    assert read_exported_info(folder / "three.pt")["verification"]["structures"] == 2
    return folder


@pytest.mark.parametrize("name", ["one.pt", "three.pt", "three.pt2", "general.pt"])
@pytest.mark.parametrize("threads", [1, 2])
def test_any_number_of_replicas(files, name, threads):
    bound = bind_replicas(load_exported(files / name), ETHANOL.species, threads=threads)
    assert bound.threads == threads
    for count in (1, 3, 5, 64, 2):
        positions = several(count, seed=count)
        energies, forces = eager([files / "model.pt"], positions)
        found = bound(torch.from_numpy(positions))
        assert_same(found, energies[0], forces[0])
        assert found.forces_std is None


@pytest.mark.parametrize("name", ["three.pt", "three.pt2", "general.pt"])
def test_a_replica_that_is_nowhere_spoils_no_other(files, name):
    bound = bind_replicas(load_exported(files / name), ETHANOL.species)
    positions = several(4)
    energies, forces = eager([files / "model.pt"], positions)
    positions[1, 2, 0] = np.nan
    found = bound(torch.from_numpy(positions))
    assert bool(found.energies[1].isnan())
    assert bool(found.forces[1].isnan().any())
    others = [0, 2, 3]
    assert np.allclose(found.energies.numpy()[others], energies[0, others], rtol=0, atol=1e-8)
    assert np.allclose(found.forces.numpy()[others], forces[0, others], rtol=0, atol=1e-8)


def test_openmm_gets_the_sum_of_all_copies(files):
    positions = several(3)
    energies, forces = eager([files / "model.pt"], positions)
    rows = positions.reshape(-1, 3)
    energy, pull = load_exported(files / "three.pt").program(torch.from_numpy(rows / NANOMETER))
    assert float(energy) * KJ_PER_MOL == pytest.approx(energies.sum(), abs=1e-8)
    assert np.allclose(pull.numpy() * KJ_PER_MOL / NANOMETER, forces.reshape(-1, 3), atol=1e-8)
    for name in ("three.pt", "three.pt2"):
        exported = load_exported(files / name)
        assert (exported.copies, exported.molecule) == (3, ETHANOL.species.tolist())
        found = bind(exported, np.tile(ETHANOL.species, 3))(rows)
        assert found.energy == pytest.approx(energies.sum(), abs=1e-8)
        assert np.allclose(found.forces, forces.reshape(-1, 3), atol=1e-8)


def test_copies_in_a_box_each_see_their_own_nearest_images(files):
    cell = np.array([[9.0, 0.0, 0.0], [2.0, 9.5, 0.0], [-1.0, 3.0, 9.2]])
    positions = several(3)
    energies, forces = eager([files / "model.pt"], positions)
    cut = positions - np.floor(positions @ np.linalg.inv(cell) + 0.1) @ cell
    assert np.abs(cut - positions).max() > 5.0
    for name in ("three.pt", "three.pt2", "general.pt"):
        bound = bind_replicas(load_exported(files / name), ETHANOL.species, (True, True, True), cell)
        assert_same(bound(torch.from_numpy(cut)), energies[0], forces[0])
    with pytest.raises(EngineError, match=r"box is 6\.9 angstrom wide"):
        bind_replicas(load_exported(files / "three.pt"), ETHANOL.species, (True, True, True), 0.8 * cell)
    with pytest.raises(EngineError, match="slabs and wires: export with target='general'"):
        bind_replicas(load_exported(files / "three.pt"), ETHANOL.species, (True, True, False), cell)


def test_replicas_of_a_periodic_structure(files):
    made = oxide()
    potential = load_exported(files / "general.pt")
    bound = bind_replicas(potential, made.species, made.pbc, made.cell)
    single = bind(potential, made.species, made.pbc)
    positions = made.positions + np.random.default_rng(0).normal(0.0, 0.05, (90, 3, 3))
    assert bound.chunk < 90
    for step in (0.0, 0.1, 0.5):  # within the skin of the lists, and beyond
        found = bound(torch.from_numpy(positions + step * made.cell[0]))
        for replica in (0, 50, 89):
            expected = single(positions[replica], made.cell)
            assert float(found.energies[replica]) == pytest.approx(expected.energy, abs=1e-8)
            assert np.allclose(found.forces[replica].numpy(), expected.forces, atol=1e-8)


@pytest.mark.parametrize(
    ("network", "dtype"),
    [
        *((name, "float32") for name in ("painn", "tensornet", "ace", "escn", "equiformer_v2", "spinconv", "mace")),
        ("painn", "float64"),
    ],
)
def test_all_networks_are_verified_with_copies(tmp_path, network, dtype):
    path = trained_file(tmp_path / "model.pt", network=network, dtype=dtype, layers=1)
    assert Exporter([path]).openmm(ETHANOL, tmp_path / "copies.pt", copies=2).passed


@pytest.mark.parametrize("forces", ["conservative", "direct"])
def test_an_ensemble_of_copies(tmp_path, forces):
    options = {"dtype": "float64", "layers": 1, "channels": 8, "forces": forces}
    paths = [trained_file(tmp_path / f"{seed}.pt", seed=seed, **options) for seed in range(3)]
    Exporter(paths).openmm(ETHANOL, tmp_path / "copies.pt", copies=3)
    Exporter(paths).general(tmp_path / "general.pt")
    positions = several(4)
    energies, expected = eager(paths, positions)
    for name in ("copies", "general"):
        found = bind_replicas(load_exported(tmp_path / f"{name}.pt"), ETHANOL.species)(torch.from_numpy(positions))
        assert_same(found, energies.mean(0), expected.mean(0))
        assert np.allclose(found.forces_std.numpy(), expected.std(0, ddof=1), atol=1e-8)
    positions = positions[:3]
    together = bind(load_exported(tmp_path / "copies.pt"))(positions.reshape(-1, 3))
    assert together.energy == pytest.approx(energies[:, :3].mean(0).sum(), abs=1e-8)
    assert np.allclose(together.forces_std, expected[:, :3].std(0, ddof=1).reshape(-1, 3), atol=1e-8)


def test_copies_that_change_places_are_not_written(tmp_path, monkeypatch):
    path = trained_file(tmp_path / "model.pt", dtype="float64", layers=1, channels=8)

    class Wrong(make.CopiesForm):
        def __init__(self, graph, images, *arguments):
            images.first, images.second = (one.roll(1) for one in (images.first, images.second))
            super().__init__(graph, images, *arguments)

    # Patched in place: a choice of the form would be an argument that no caller of the exporter uses.
    monkeypatch.setattr(make, "CopiesForm", Wrong)
    with pytest.raises(ExportError, match="nothing is written"):
        Exporter([path]).openmm(ETHANOL, tmp_path / "copies.pt", copies=3)
    assert not (tmp_path / "copies.pt").exists()


def test_refusals(files, tmp_path):
    exporter = Exporter([files / "model.pt"])
    with pytest.raises(
        ConfigError, match=r"copies=N supports only molecules of 2 to 200 atoms without a cell: .*general"
    ):
        exporter.openmm(oxide(), tmp_path / "out.pt", copies=2)
    with pytest.raises(ConfigError, match="copies=0"):
        exporter.openmm(ETHANOL, tmp_path / "out.pt", copies=0)
    exporter.openmm(oxide(), tmp_path / "cell.pt")
    advice = r"use the trained model\.pt, or export with target='general', or export a molecule with target='openmm'"
    with pytest.raises(EngineError, match=advice):
        bind_replicas(load_exported(tmp_path / "cell.pt"), oxide().species, oxide().pbc, oxide().cell)
    with pytest.raises(ElementError, match="exported for 9 atoms, but the structure has 3"):
        bind_replicas(load_exported(files / "three.pt"), frame("H2O").species)
    with pytest.raises(ElementError, match="not trained on Cl"):
        bind_replicas(load_exported(files / "general.pt"), frame("CH3Cl").species)


def test_a_package_without_its_interface_runs_in_one_thread(files, monkeypatch, caplog):
    # Patched in place: the library is chosen from the installed PyTorch and has no argument.
    monkeypatch.setattr("piwsl.compat.aotinductor._library", lambda name: "none.so")
    bound = bind_replicas(load_exported(files / "three.pt2"), ETHANOL.species, threads=2)
    assert bound.threads == 1
    assert "three.pt2: replicas are evaluated with a single thread" in caplog.text
    positions = several(4)
    energies, forces = eager([files / "model.pt"], positions)
    assert_same(bound(torch.from_numpy(positions)), energies[0], forces[0])
