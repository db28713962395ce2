"""Walls: no energy within the ranges, one that rises outside, with continuous derivatives, in every form."""

from dataclasses import replace

import numpy as np
import openmm
import pytest
import torch
from pydantic import ValidationError

import piwsl
from piwsl.cli.main import run
from piwsl.data.batch import collate
from piwsl.data.frames import FrameSet
from piwsl.errors import ConfigError, ElementError
from piwsl.export.evaluation import bind
from piwsl.export.exported_file import load_exported
from piwsl.export.exporter import Exporter
from piwsl.export.replica_evaluation import bind_replicas
from piwsl.export.supported import trained_order
from piwsl.export.trained_file import load_trained, save_trained
from piwsl.interfaces.ase import PiwslCalculator
from piwsl.interfaces.openmm import openmm_force
from piwsl.models import ModelConfig, build_potential
from piwsl.models.neighbor_sums.molecule import MoleculePairs
from piwsl.models.priors.prior import Prior
from piwsl.models.priors.walls import WallRanges, Walls
from piwsl.training.predictors import predictor_of
from piwsl.training.walls import ranges_of_molecule
from piwsl.units import KJ_PER_MOL, NANOMETER
from tests.support.models_for_tests import trained_model
from tests.support.molecules import frame

CUTOFF = 4.0
# Methanol: C0, O1, H3 of the hydroxyl group, H2, H4 and H5 of the methyl group.
METHANOL = frame("CH3OH")
BONDS = [(0, 1), (0, 2), (0, 4), (0, 5), (1, 3)]
ANGLES = [(0, 3), (1, 2), (1, 4), (1, 5), (2, 4), (2, 5), (4, 5)]


def distance(i, j):
    return float(np.linalg.norm(METHANOL.positions[i] - METHANOL.positions[j]))


def around(pairs, share=0.05):
    return [(i, j, (1 - share) * distance(i, j), (1 + share) * distance(i, j)) for i, j in pairs]


MOLECULE = WallRanges(
    shortest={"C-H": 2.5, "H-H": 2.2},
    molecule=METHANOL.species.tolist(),
    bonds=around(BONDS),
    angles=around(ANGLES),
)
ELEMENTS = WallRanges(shortest={"C-H": 0.9, "C-O": 1.2, "H-H": 1.4, "H-O": 0.8})


def energy_of_pair(ranges, pair, distances):
    """Energy of a pair of atoms of methanol at some distances, of which no other pair is a part."""
    term = Walls(ranges, [1, 6, 8], CUTOFF)
    edges = torch.tensor(pair)[:, None].expand(2, len(distances))
    return term(torch.from_numpy(METHANOL.species), edges, distances), term


def total(prior, structure):
    batch = collate([structure], CUTOFF, torch.float64)
    return float(prior(batch.species, batch.edges, batch.edge_vectors()).sum()) + prior.offset * len(structure.species)


def moved(pair, length):
    """Methanol with the second atom of a pair moved along the pair."""
    i, j = pair
    positions = METHANOL.positions.copy()
    positions[j] = positions[i] + length / distance(i, j) * (positions[j] - positions[i])
    return replace(METHANOL, positions=positions)


@pytest.mark.parametrize("ranges", [MOLECULE, ELEMENTS])
def test_within_the_ranges_there_is_no_energy(ranges):
    prior = Prior([Walls(ranges, [1, 6, 8], CUTOFF)])
    assert total(prior, METHANOL) == pytest.approx(0.0, abs=1e-9)
    batch = collate([METHANOL], CUTOFF, torch.float64)
    _, forces = prior.energies_and_forces(batch.species, batch.edges, batch.edge_vectors())
    assert float(forces.abs().max()) == 0.0


@pytest.mark.parametrize("pair", BONDS + ANGLES)
def test_the_energy_of_a_pair_rises_on_both_sides_up_to_the_cutoff(pair):
    i, j = pair
    grid = torch.linspace(0.1, CUTOFF - 1e-3, 3000, dtype=torch.float64)
    energies, _ = energy_of_pair(MOLECULE, pair, grid)
    slopes = energies.diff()
    low, high = 0.95 * distance(i, j), 1.05 * distance(i, j)
    assert bool((slopes[grid[1:] < low] < 0).all())
    assert bool((slopes[grid[:-1] > high] > 0).all())
    assert float(energies.max()) > 60.0 + float(energies.min()) - 1e-9 or low < 1.2
    # Twice its length costs several eV, an excess of 0.2 A more than a network of few labels gives back.
    excess, _ = energy_of_pair(
        MOLECULE, pair, torch.tensor([high, high + 0.2, 2 * distance(i, j)], dtype=torch.float64)
    )
    assert float(excess[1] - excess[0]) > 0.5
    assert 2 * distance(i, j) > CUTOFF or float(excess[2] - excess[0]) > 20.0


def test_a_bond_that_leaves_the_cutoff_changes_nothing():
    """At the cutoff, the edge of a pair vanishes; the energy is continuous there."""
    prior = Prior([Walls(MOLECULE, [1, 6, 8], CUTOFF)])
    inside, outside = (total(prior, moved((1, 3), CUTOFF + shift)) for shift in (-1e-4, 1e-4))
    # The other pairs of the moved atom are near their end, too.
    assert inside == pytest.approx(outside, abs=1e-3)
    assert inside > 60.0


@pytest.mark.parametrize("pair", [(0, 1), (2, 4), (0, 3)])
def test_two_derivatives_are_continuous_where_walls_begin(pair):
    i, j = pair
    for start, side in ((0.95 * distance(i, j), -1), (1.05 * distance(i, j), 1)):
        near = torch.tensor([start + side * 1e-4, start + side * 2e-4], dtype=torch.float64, requires_grad=True)
        energies, _ = energy_of_pair(MOLECULE, pair, near)
        (first,) = torch.autograd.grad(energies.sum(), near, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), near)
        assert float(second[0]) > 0
        # The energy begins as the third power, so the second derivative is linear in the distance to the beginning.
        assert float(second[1] / second[0]) == pytest.approx(2.0, abs=0.03)
        assert float((first[1] / first[0]).detach()) == pytest.approx(4.0, abs=0.03)


@pytest.mark.parametrize(
    ("ranges", "pair"), [(MOLECULE, (0, 1)), (MOLECULE, (2, 5)), (MOLECULE, (2, 3)), (ELEMENTS, (0, 2))]
)
def test_slopes_are_the_derivatives_of_the_energies(ranges, pair):
    grid = torch.linspace(0.2, CUTOFF + 0.5, 400, dtype=torch.float64, requires_grad=True)
    energies, term = energy_of_pair(ranges, pair, grid)
    (slopes,) = torch.autograd.grad(energies.sum(), grid)
    edges = torch.tensor(pair)[:, None].expand(2, 400)
    found = term.slopes(torch.from_numpy(METHANOL.species), edges, grid)
    torch.testing.assert_close(found, slopes, rtol=1e-9, atol=1e-9)


def test_single_precision_resolves_the_energy_near_the_range():
    """The constant of 64 eV of each bond would cost digits in float32."""
    stretched = replace(METHANOL, positions=1.08 * METHANOL.positions)
    prior = Prior([Walls(MOLECULE, [1, 6, 8], CUTOFF)])
    batch = collate([stretched], CUTOFF, torch.float32)
    rounded = float(prior(batch.species, batch.edges, batch.edge_vectors()).sum()) + prior.offset * 6
    assert 0.01 < rounded < 1.0
    assert rounded == pytest.approx(total(prior, stretched), abs=1e-6)


def test_equal_elements_have_ranges_of_their_own():
    """The hydrogens of a methyl group may be closer than others; atoms of the same element differ."""
    near = torch.tensor([1.9], dtype=torch.float64)
    apart, _ = energy_of_pair(MOLECULE, (2, 3), near)
    methyl, term = energy_of_pair(MOLECULE, (2, 4), torch.tensor([distance(2, 4)], dtype=torch.float64))
    assert float(apart) > 0.5
    assert float(methyl) == -float(term.table[:, 3].max())


def test_molecules_in_a_batch_have_the_same_energy_as_alone():
    shaken = [frame("CH3OH", rattle=0.15, seed=seed) for seed in range(3)]
    torch.manual_seed(0)
    config = ModelConfig(channels=8, layers=1, cutoff=CUTOFF, walls=MOLECULE)
    potential = build_potential(config, dict.fromkeys((1, 6, 8), 0.0))
    together, forces = potential(*collate(shaken, CUTOFF).graph)
    for number, one in enumerate(shaken):
        alone, own = potential(*collate([one], CUTOFF).graph)
        assert float(together[number].detach()) == pytest.approx(float(alone.detach()), abs=1e-4)
        torch.testing.assert_close(forces[6 * number : 6 * number + 6], own, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("copies", [1, 3])
def test_the_pairs_of_a_molecule_give_the_same_energies(copies):
    shaken = [frame("CH3OH", rattle=0.15, seed=seed) for seed in range(copies)]
    pairs = MoleculePairs(6, copies)
    expected = sum(total(Prior([Walls(MOLECULE, [1, 6, 8], CUTOFF)]), one) for one in shaken)
    positions = torch.from_numpy(np.stack([one.positions for one in shaken], axis=1).reshape(-1, 3))
    edges = pairs.pair_edges()
    prior = Prior([Walls(MOLECULE, [1, 6, 8], CUTOFF, pairs)], pairs)
    species = torch.from_numpy(METHANOL.species).repeat_interleave(copies)
    energies = prior(species, edges, positions[edges[1]] - positions[edges[0]])
    assert float(energies.sum()) + prior.offset * len(species) == pytest.approx(expected, rel=1e-9)
    assert expected > 1.0


def test_direct_forces_contain_those_of_the_walls():
    batch = collate([frame("CH3OH", rattle=0.2, seed=3)], CUTOFF, torch.float64)
    torch.manual_seed(0)
    config = ModelConfig(channels=8, layers=1, cutoff=CUTOFF, forces="direct", zbl=False, walls=MOLECULE)
    potential = build_potential(config, dict.fromkeys((1, 6, 8), 0.0))
    potential.network.double()
    energy, forces = potential(*batch.graph)
    prior, potential.prior = potential.prior, None
    bare, plain = potential(*batch.graph)
    positions = batch.positions.clone().requires_grad_(True)
    of_walls = prior(batch.species, batch.edges, batch.moved(positions).edge_vectors()).sum()
    (gradient,) = torch.autograd.grad(of_walls, positions)
    torch.testing.assert_close((forces - plain).detach(), -gradient, rtol=1e-9, atol=1e-9)
    assert float((energy - bare).detach()) == pytest.approx(float(of_walls.detach()) + 6 * prior.offset, rel=1e-9)
    assert float(gradient.abs().max()) > 1.0


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "forces"), [("float32", "conservative"), ("float64", "direct")])
def test_every_torchscript_form_agrees_with_the_potential_outside_the_ranges(tmp_path, dtype, forces):
    structure, outside = METHANOL, moved((0, 1), 2.2)
    model = trained_model(dtype=dtype, forces=forces, frames=("CH3OH",), layers=1, channels=8, walls=MOLECULE)
    save_trained(model, tmp_path / "model.pt")
    exporter = Exporter([tmp_path / "model.pt"])
    exporter.openmm(structure, tmp_path / "molecule.pt")
    exporter.openmm(structure, tmp_path / "edges.pt", largest_molecule=3)
    exporter.openmm(structure, tmp_path / "copies.pt", copies=2)
    batch = collate([outside], CUTOFF, torch.float64)
    energy, reference = (part.detach() for part in model.potential(dtype="float64")(*batch.graph))
    inside = model.potential(dtype="float64")(*collate([structure], CUTOFF, torch.float64).graph)[0].detach()
    assert float(energy) > float(inside) + 10.0
    tolerance = 1e-5 if dtype == "float32" else 1e-10
    for name in ("molecule", "edges"):
        found = bind(load_exported(tmp_path / f"{name}.pt"), structure.species)(outside.positions)
        assert found.energy == pytest.approx(float(energy), rel=tolerance / 10, abs=tolerance * 100)
        np.testing.assert_allclose(found.forces, reference, rtol=0, atol=tolerance * float(reference.abs().max()))
    program = load_exported(tmp_path / "copies.pt").program
    energies, _ = program.evaluate(torch.from_numpy(np.concatenate([structure.positions, outside.positions])))
    assert float(energies[0, 1]) == pytest.approx(float(energy), rel=tolerance / 10, abs=tolerance * 100)


@pytest.mark.compile
def test_the_compiled_form_agrees_with_the_potential_outside_the_ranges(tmp_path):
    outside = moved((0, 1), 2.2)
    save_trained(trained_model(frames=("CH3OH",), layers=1, channels=8, walls=MOLECULE), tmp_path / "model.pt")
    Exporter([tmp_path / "model.pt"]).openmm(METHANOL, tmp_path / "molecule.pt2", "aotinductor")
    batch = collate([outside], CUTOFF, torch.float64)
    potential = load_trained(tmp_path / "model.pt").potential(dtype="float64")
    energy, reference = (part.detach() for part in potential(*batch.graph))
    found = bind(load_exported(tmp_path / "molecule.pt2"), METHANOL.species)(outside.positions)
    assert found.energy == pytest.approx(float(energy), rel=1e-6, abs=1e-3)
    np.testing.assert_allclose(found.forces, reference, rtol=0, atol=1e-5 * float(reference.abs().max()))


def test_the_file_keeps_the_ranges(tmp_path):
    save_trained(trained_model(walls=MOLECULE, frames=("CH3OH",)), tmp_path / "model.pt")
    model = load_trained(tmp_path / "model.pt")
    assert model.config.walls == MOLECULE
    assert model.config.shown()["walls"] == "molecule"
    assert "walls molecule" in model._repr_html_()


def saved(folder):
    """A model with the walls of one frame, in which equivalent hydrogens have the same ranges."""
    walls = ranges_of_molecule(FrameSet([METHANOL]))
    save_trained(trained_model(walls=walls, frames=("CH3OH",), layers=1, channels=8), folder / "model.pt")
    return folder / "model.pt"


def in_order(structure, order):
    return structure.reordered(np.array(order))


@pytest.mark.parametrize(
    ("structure", "message"),
    [
        (frame("CH3CH2OH"), "CH4O, with the atoms in the order of its training data.*, and got C2H6O"),
        (replace(METHANOL, cell=20.0 * np.eye(3), pbc=(True, True, True)), "and the structure is periodic"),
    ],
)
def test_other_structures_are_refused_everywhere(tmp_path, capsys, structure, message):
    path = saved(tmp_path)
    with pytest.raises(ElementError, match=message):
        load_trained(path).predict(FrameSet([structure]))
    with pytest.raises(ElementError, match=message):
        Exporter([path]).openmm(structure, tmp_path / "out.pt")
    Exporter([path]).general(tmp_path / "general.pt")
    general = load_exported(tmp_path / "general.pt")
    with pytest.raises(ElementError, match=message):
        bind(general, structure.species, structure.pbc)
    with pytest.raises(ElementError, match=message):
        bind_replicas(general, structure.species, structure.pbc, structure.cell)
    structure.atoms().write(tmp_path / "one.extxyz")
    for command in (
        ["evaluate", str(path), str(tmp_path / "one.extxyz")],
        [
            "md",
            "--structure",
            str(tmp_path / "one.extxyz"),
            "--model",
            str(path),
            "--steps",
            "2",
            "--output",
            str(tmp_path / "run"),
        ],
    ):
        with pytest.raises(SystemExit) as stop:
            run(command)
        assert stop.value.code == 2
        assert "the model has walls for one molecule" in capsys.readouterr().err
    assert not (tmp_path / "out.pt").exists()


@pytest.mark.parametrize("species", [frame("CH3CH2OH").species, METHANOL.species[::-1]])
def test_openmm_refuses_other_atoms(tmp_path, species):
    with pytest.raises(ElementError, match="the model has walls for one molecule, CH4O"):
        openmm_force(saved(tmp_path), species)


def test_openmm_refuses_a_box_for_a_file_with_a_neighbor_search(tmp_path):
    """The search would find images of the molecule, for which the ranges of its bonds do not hold."""
    Exporter([saved(tmp_path)]).openmm(METHANOL, tmp_path / "edges.pt", largest_molecule=3)
    with pytest.raises(ElementError, match="and the structure is periodic"):
        openmm_force(tmp_path / "edges.pt", METHANOL.species, periodic=True)


def test_openmm_evaluates_the_molecule_in_a_box(tmp_path):
    """As in a solvent: the box is wide, and each pair has its nearest image."""
    path = saved(tmp_path)
    outside = moved((0, 1), 1.15 * distance(0, 1))
    energy, forces = (part.detach().numpy().squeeze() for part in potential_of(path)(*collate([outside], CUTOFF).graph))
    positions = outside.positions.copy()
    positions[3] += [20.0, 0.0, -20.0]
    system = openmm.System()
    for _ in positions:
        system.addParticle(1.0)
    system.setDefaultPeriodicBoxVectors(*(2.0 * np.eye(3)))
    system.addForce(openmm_force(path, outside.species, periodic=True))
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(positions / NANOMETER)
    state = context.getState(getEnergy=True, getForces=True)
    assert state.getPotentialEnergy()._value * KJ_PER_MOL == pytest.approx(float(energy), rel=1e-6, abs=1e-4)
    np.testing.assert_allclose(np.array(state.getForces()._value) * KJ_PER_MOL / NANOMETER, forces, rtol=0, atol=1e-3)


# The second order exchanges hydrogens of the methyl and the hydroxyl group only: the elements stay in their order.
@pytest.mark.slow
@pytest.mark.parametrize("order", [[3, 1, 5, 2, 4, 0], [0, 1, 3, 2, 4, 5]])
@pytest.mark.parametrize("shift", [1.0, 1.15], ids=["inside", "outside"])
def test_any_order_of_the_atoms_that_the_bonds_determine_gives_the_same_results(tmp_path, order, shift):
    path = saved(tmp_path)
    trained = moved((0, 1), shift * distance(0, 1))
    energy, forces = (part.detach().numpy().squeeze() for part in potential_of(path)(*collate([trained], CUTOFF).graph))
    structure = in_order(trained, order)
    exporter = Exporter([path])
    exporter.openmm(structure, tmp_path / "openmm.pt")
    exporter.openmm(structure, tmp_path / "edges.pt", largest_molecule=3)
    exporter.general(tmp_path / "general.pt")
    for name in ("openmm", "edges", "general"):
        found = bind(load_exported(tmp_path / f"{name}.pt"), structure.species)(structure.positions)
        assert found.energy == pytest.approx(float(energy), rel=1e-6, abs=1e-5)
        np.testing.assert_allclose(found.forces, forces[order], rtol=0, atol=1e-4)
    check = load_exported(tmp_path / "openmm.pt").info["check"]
    inside = potential_of(path)(*collate(load_trained(path).check_frames, CUTOFF).graph)[0]
    assert [entry["energy"] for entry in check[:1]] == pytest.approx(inside[:1].tolist(), rel=1e-6)
    atoms = structure.atoms()
    atoms.calc = PiwslCalculator(path)
    np.testing.assert_allclose(atoms.get_forces(), forces[order], rtol=0, atol=1e-4)
    # The trained order afterwards: an exporter does not remember the order of another structure.
    exporter.openmm(trained, tmp_path / "again.pt")
    found = bind(load_exported(tmp_path / "again.pt"), trained.species)(trained.positions)
    np.testing.assert_allclose(found.forces, forces, rtol=0, atol=1e-4)


def potential_of(path):
    return load_trained(path).potential()


def test_dynamics_start_in_any_order(tmp_path):
    structure = in_order(METHANOL, [0, 1, 3, 2, 4, 5])
    summary = piwsl.run_md(structure.atoms(), model=saved(tmp_path), steps=5, output=tmp_path / "run").summary
    assert summary.result == "completed"


@pytest.mark.parametrize("order", [[3, 1, 5, 2, 4, 0], [0, 1, 3, 2, 4, 5]])
def test_frames_in_any_order_are_predicted_and_evaluated(tmp_path, order):
    path = saved(tmp_path)
    one = frame("CH3OH", rattle=0.02, seed=3, labeled=True)
    frames = FrameSet([in_order(one, order), one, in_order(one, order)])
    energy, forces = (part.detach().numpy().squeeze() for part in potential_of(path)(*collate([one], CUTOFF).graph))
    predicted = load_trained(path).predict(frames, batch_size=2)
    for found, expected in zip(predicted, (forces[order], forces, forces[order]), strict=True):
        assert found.energy == pytest.approx(float(energy), rel=1e-6)
        np.testing.assert_allclose(found.forces, expected, rtol=0, atol=1e-4)
    (portion,) = predictor_of(path).portions(frames)
    np.testing.assert_array_equal(portion.species, np.concatenate([entry.species for entry in frames]))
    np.testing.assert_allclose(portion.force_labels, np.concatenate([entry.forces for entry in frames]), atol=1e-5)
    np.testing.assert_allclose(portion.forces[:6], forces[order], rtol=0, atol=1e-4)
    np.testing.assert_allclose(portion.forces[6:12], forces, rtol=0, atol=1e-4)


def test_a_broken_bond_or_an_isomer_has_the_order_of_its_species(tmp_path):
    """The bonds determine nothing: the order is that of the training data, or an error."""
    torn = moved((0, 1), 3.0)
    assert trained_order(MOLECULE, torn.species.tolist(), torn.positions, False) is None
    other = in_order(torn, [1, 0, 2, 3, 4, 5])
    with pytest.raises(ElementError, match="the order of its atoms differs"):
        trained_order(MOLECULE, other.species.tolist(), other.positions, False)


def test_a_general_file_checks_its_only_molecule_itself(tmp_path):
    """Programs that load the file without piwsl get an error, too."""
    Exporter([saved(tmp_path)]).general(tmp_path / "general.pt")
    program = torch.jit.load(tmp_path / "general.pt")
    species, positions = torch.from_numpy(METHANOL.species), torch.from_numpy(METHANOL.positions)
    results = program(species, positions, torch.eye(3), torch.tensor([False, False, False]))
    assert bool(results["energy"].isfinite())
    with pytest.raises(torch.jit.Error, match="others or in another order"):
        program(species.flip(0), positions.flip(0))
    with pytest.raises(torch.jit.Error, match="must not be periodic"):
        program(species, positions, 20.0 * torch.eye(3, dtype=torch.float64))


@pytest.mark.compile
def test_a_compiled_general_file_agrees_with_the_potential(tmp_path):
    path = saved(tmp_path)
    Exporter([path]).general(tmp_path / "general.pt2", "aotinductor")
    outside = moved((0, 1), 1.15 * distance(0, 1))
    energy, forces = (part.detach().numpy().squeeze() for part in potential_of(path)(*collate([outside], CUTOFF).graph))
    order = [3, 1, 5, 2, 4, 0]
    structure = in_order(outside, order)
    found = bind(load_exported(tmp_path / "general.pt2"), structure.species)(structure.positions)
    assert found.energy == pytest.approx(float(energy), rel=1e-6, abs=1e-5)
    np.testing.assert_allclose(found.forces, forces[order], rtol=0, atol=1e-4)


@pytest.mark.slow
def test_walls_of_elements_hold_for_any_structure(tmp_path):
    save_trained(trained_model(walls=ELEMENTS, frames=("CH3OH", "H2O"), layers=1, channels=8), tmp_path / "model.pt")
    Exporter([tmp_path / "model.pt"]).general(tmp_path / "general.pt")
    water = frame("H2O")
    close = replace(water, positions=0.7 * water.positions)
    potential = load_trained(tmp_path / "model.pt").potential()
    energy, forces = (part.detach() for part in potential(*collate([close], CUTOFF).graph))
    found = bind(load_exported(tmp_path / "general.pt"), water.species)(close.positions)
    assert found.energy == pytest.approx(float(energy), rel=1e-6)
    np.testing.assert_allclose(found.forces, forces, atol=1e-3)


def test_a_configuration_without_measured_ranges_builds_no_potential():
    with pytest.raises(ConfigError, match="walls: molecule has no ranges yet: training measures them"):
        build_potential(ModelConfig(walls="molecule"), {1: 0.0})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shortest": {"C-H": -1.0}}, "greater than 0"),
        ({"shortest": {"CH": 1.0}}, "'CH' is not a pair of elements"),
        ({"shortest": {"C-Q": 1.0}}, "'C-Q' is not a pair of elements"),
        ({"shortest": {}, "molecule": [6, 8], "bonds": [[0, 2, 1.0, 2.0]]}, "atoms 0 and 2 are not a pair of atoms"),
        ({"shortest": {}, "molecule": [6, 8], "angles": [[1, 1, 1.0, 2.0]]}, "atoms 1 and 1 are not a pair of atoms"),
        ({"shortest": {}, "molecule": [6, 8], "bonds": [[0, 1, 2.0, 1.0]]}, "no range from a shorter to a longer"),
        ({"shortest": {}, "bonds": [[0, 1, 1.0, 2.0]]}, "are not a pair of atoms of the molecule"),
        ({"shortest": {}, "molecule": [0]}, "greater than or equal to 1"),
        ({"shortest": {}, "longest": {}}, "Extra inputs"),
    ],
)
def test_ranges_are_checked(values, message):
    with pytest.raises(ValidationError, match=message):
        WallRanges(**values)


def test_wider_ranges_contain_both():
    shifted = [(i, j, low + 0.1, high + 0.1) for i, j, low, high in MOLECULE.bonds]
    other = MOLECULE.model_copy(update={"bonds": shifted[::-1], "shortest": {"C-H": 2.0, "H-O": 1.9}})
    wider = MOLECULE.widened(other)
    assert wider.shortest == {"C-H": 2.0, "H-H": 2.2, "H-O": 1.9}
    for i, j, low, high in wider.bonds:
        assert (low, high) == (0.95 * distance(i, j), 1.05 * distance(i, j) + 0.1)
    with pytest.raises(ValueError, match="the bonds differ"):
        MOLECULE.widened(ELEMENTS)
