"""ZBL repulsion: the published formula, its derivatives and its end below the length of a bond, in every form."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.data import covalent_radii
from pydantic import ValidationError

from piwsl.data.batch import collate
from piwsl.export.evaluation import bind
from piwsl.export.exported_file import load_exported
from piwsl.export.exporter import Exporter
from piwsl.export.trained_file import load_trained, save_trained
from piwsl.models import ModelConfig, build_potential
from piwsl.models.neighbor_sums.compiled import FusedEdgeList
from piwsl.models.neighbor_sums.edge_list import use_neighbor_sums
from piwsl.models.priors.zbl import ZBL
from piwsl.testing import check_network
from tests.support.models_for_tests import trained_file, trained_model
from tests.support.molecules import frame

ELEMENTS = [1, 6, 8, 78]
PAIRS = [(1, 1), (1, 6), (6, 8), (8, 6), (78, 1), (78, 78)]


def energies_of_pair(first, second, distances, cutoff=5.0):
    count = len(distances)
    edges = torch.tensor([[0] * count, [1] * count])
    return ZBL(ELEMENTS, cutoff)(torch.tensor([first, second]), edges, distances)


def in_plain_python(first, second, distance):
    """Published formula, in eV and angstrom."""
    reduced = distance * (first**0.23 + second**0.23) / (0.8854 * 0.529177)
    parts = ((0.18175, 3.1998), (0.50986, 0.94229), (0.28022, 0.4029), (0.02817, 0.20162))
    screening = sum(weight * math.exp(-exponent * reduced) for weight, exponent in parts)
    x = distance / (0.8 * (covalent_radii[first] + covalent_radii[second]))
    switch = 1 - 28 * x**6 + 48 * x**7 - 21 * x**8 if x < 1 else 0.0
    return 14.399645 * first * second / distance * screening * switch


@pytest.mark.parametrize("pair", PAIRS)
def test_the_energy_is_that_of_the_published_formula(pair):
    distances = np.linspace(0.1, 3.5, 200)
    expected = [in_plain_python(*pair, float(distance)) for distance in distances]
    found = energies_of_pair(*pair, torch.from_numpy(distances))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("pair", PAIRS)
def test_the_energy_falls_with_the_distance_and_ends_with_two_continuous_derivatives(pair):
    end = 0.8 * float(covalent_radii[pair[0]] + covalent_radii[pair[1]])
    distances = torch.linspace(0.05, end + 0.2, 2000, dtype=torch.float64, requires_grad=True)
    energies = energies_of_pair(*pair, distances)
    (slopes,) = torch.autograd.grad(energies.sum(), distances, create_graph=True)
    inside = distances.detach() < end - 1e-3
    assert bool((slopes[inside] < 0).all())
    assert bool((energies[distances > end] == 0).all())
    near = torch.tensor([end - 1e-3, end - 2e-3], dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(energies_of_pair(*pair, near).sum(), near, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), near)
    # The energy ends as the third power of the distance to the end, so the second derivative is linear in it.
    assert float(second[1] / second[0]) == pytest.approx(2.0, abs=0.03)
    assert float(first.detach()[1] / first.detach()[0]) == pytest.approx(4.0, abs=0.03)


def test_slopes_are_the_derivatives_of_the_energies():
    distances = torch.linspace(0.2, 2.0, 300, dtype=torch.float64, requires_grad=True)
    edges = torch.tensor([[0] * 300, [1] * 300])
    term, species = ZBL(ELEMENTS, 5.0), torch.tensor([6, 8])
    (slopes,) = torch.autograd.grad(term(species, edges, distances).sum(), distances)
    torch.testing.assert_close(term.slopes(species, edges, distances), slopes, rtol=1e-10, atol=1e-10)


def test_the_range_never_exceeds_the_cutoff():
    assert ZBL([78], 1.5).reach == 1.5
    distances = torch.tensor([1.4, 1.5, 1.6], dtype=torch.float64)
    energies = energies_of_pair(78, 78, distances, 1.5)
    assert energies[0] > 0
    assert energies[1:].tolist() == [0.0, 0.0]


def test_a_potential_adds_the_energy_and_forces_of_the_prior():
    structure = frame("CH3CH2OH", rattle=0.25, seed=3)  # some bonds are much too short
    batch = collate([structure], 4.0, torch.float64)
    results = []
    for zbl in (False, True):
        torch.manual_seed(0)
        config = ModelConfig(channels=8, layers=1, cutoff=4.0, zbl=zbl)
        potential = build_potential(config, dict.fromkeys((1, 6, 8), 0.0))
        potential.network.double()
        results.append(potential(*batch.graph))
    expected = sum(
        in_plain_python(int(structure.species[i]), int(structure.species[j]), float(distance))
        for i in range(9)
        for j in range(i)
        for distance in [np.linalg.norm(structure.positions[i] - structure.positions[j])]
    )
    assert expected > 1.0
    assert float((results[1][0] - results[0][0]).detach()) == pytest.approx(expected, rel=1e-5)
    assert float((results[1][1] - results[0][1]).abs().max()) > 1.0


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "forces"), [(torch.float32, "conservative"), (torch.float64, "direct")])
def test_laws_hold_with_the_prior(dtype, forces):
    check_network("painn", dtype, forces=forces)


def test_direct_forces_contain_those_of_the_prior():
    batch = collate([frame("CH3CH2OH", rattle=0.25, seed=3)], 4.0, torch.float64)
    torch.manual_seed(0)
    config = ModelConfig(channels=8, layers=1, cutoff=4.0, forces="direct")
    potential = build_potential(config, dict.fromkeys((1, 6, 8), 0.0))
    potential.network.double()
    _, forces = potential(*batch.graph)
    prior, potential.prior = potential.prior, None
    _, plain = potential(*batch.graph)
    positions = batch.positions.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(
        prior(batch.species, batch.edges, batch.moved(positions).edge_vectors()).sum(), positions
    )
    torch.testing.assert_close((forces - plain).detach(), -gradient, rtol=1e-9, atol=1e-9)
    assert float(gradient.abs().max()) > 1.0


@pytest.mark.slow
def test_fused_sums_of_training_give_the_same_energies():
    batch = collate([frame("CH3CH2OH", rattle=0.25, seed=3), frame("H2O")], 4.0, torch.float64)
    potential = trained_model(dtype="float64").potential()
    expected, forces = potential(*batch.graph)
    use_neighbor_sums(potential.network, FusedEdgeList())
    found, same = potential(*batch.graph)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(same, forces)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "forces", "molecule"),
    [("float32", "conservative", "C2H6"), ("float64", "conservative", "H2O"), ("float64", "direct", "CH3OH")],
)
def test_every_torchscript_form_agrees_with_the_potential_for_close_atoms(tmp_path, dtype, forces, molecule):
    structure = frame(molecule, rattle=0.1, seed=5)
    # Pull two atoms to 0.5 A, where the prior is most of the energy.
    moved = structure.positions.copy()
    moved[-1] = moved[0] + 0.5 * (moved[-1] - moved[0]) / np.linalg.norm(moved[-1] - moved[0])
    model = trained_model(dtype=dtype, forces=forces, frames=(molecule, "CH4"), layers=1, channels=8)
    save_trained(model, tmp_path / "model.pt")
    exporter = Exporter([tmp_path / "model.pt"])
    exporter.general(tmp_path / "general.pt")
    exporter.openmm(structure, tmp_path / "molecule.pt")
    exporter.openmm(structure, tmp_path / "copies.pt", copies=3)
    batch = collate([replace(structure, positions=moved)], 4.0, torch.float64)
    energy, reference = model.potential(dtype="float64")(*batch.graph)
    energy = energy.detach()
    assert float(energy) > float(
        model.potential(dtype="float64")(*collate([structure], 4.0, torch.float64).graph)[0].detach()
    )
    tolerance = 1e-5 if dtype == "float32" else 1e-10
    for name in ("general", "molecule"):
        found = bind(load_exported(tmp_path / f"{name}.pt"), structure.species)(moved)
        assert found.energy == pytest.approx(float(energy), rel=tolerance / 10, abs=tolerance * 100)
        np.testing.assert_allclose(
            found.forces, reference.detach(), rtol=0, atol=tolerance * float(reference.abs().max())
        )
    program = load_exported(tmp_path / "copies.pt").program
    energies, parts = program.evaluate(torch.from_numpy(np.concatenate([structure.positions, moved, moved])))
    assert float(energies[0, 2]) == pytest.approx(float(energy), rel=tolerance / 10, abs=tolerance * 100)
    np.testing.assert_allclose(
        parts[0, -len(moved) :], reference.detach(), rtol=0, atol=tolerance * float(reference.abs().max())
    )


def test_a_file_without_the_key_has_no_prior(tmp_path):
    """Files of earlier versions give the same bits as before."""
    model = trained_model(zbl=False)
    save_trained(model, tmp_path / "model.pt")
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    description = json.loads(content["description"])
    assert description["network"].pop("zbl") is False
    content["description"] = json.dumps(description)
    torch.save(content, tmp_path / "old.pt")
    old = load_trained(tmp_path / "old.pt")
    assert old.config.zbl is False
    assert old.potential().prior is None
    batch = collate([frame("CH3CH2OH")], 4.0)
    for found, expected in zip(old.potential()(*batch.graph), model.potential()(*batch.graph), strict=True):
        assert torch.equal(found, expected)


def test_the_file_of_a_new_model_has_the_prior(tmp_path):
    assert load_trained(trained_file(tmp_path / "model.pt")).potential().prior is not None


@pytest.mark.parametrize("network", ["so3lr", "mace"])
def test_networks_with_their_own_repulsion_refuse_it(network):
    assert ModelConfig(network=network).zbl is False
    with pytest.raises(ValidationError, match=f"network {network} has its own repulsion of nuclei: set it to false"):
        ModelConfig(network=network, zbl=True)
    elements = {"elements": (1, 6)} if network == "mace" else {}
    config = ModelConfig(network=network, zbl=False, **elements)
    assert build_potential(config, {1: 0.0, 6: 0.0}).prior is None
