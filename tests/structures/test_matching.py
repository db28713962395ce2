import numpy as np
import pytest
from ase.build import molecule

from piwsl.analysis.compare_run import compare_run
from piwsl.analysis.reference import Reference
from piwsl.analysis.run_directory import read_run
from piwsl.errors import DataError
from piwsl.structures.bonds import find_bonds
from piwsl.structures.matching import map_atoms


@pytest.fixture(scope="module")
def reference(runs):
    return Reference.of_frames("mine", runs.ETHANOL.numbers, runs.shaking(400, seed=100), 50.0 * np.arange(400))


def shuffled(atoms, seed):
    order = np.random.default_rng(seed).permutation(len(atoms))
    return order, atoms.numbers[order], atoms.positions[order]


@pytest.mark.parametrize("seed", range(5))
def test_bonds_tell_the_order(runs, seed):
    atoms = runs.ETHANOL
    bonds = find_bonds(atoms.numbers, atoms.positions[None])
    order, numbers, positions = shuffled(atoms, seed)
    mapping = map_atoms(numbers, positions, atoms.numbers, bonds)
    found = order[mapping]  # the atom of the reference that stands in each place
    assert numbers[mapping].tolist() == atoms.numbers.tolist()
    heavy = atoms.numbers > 1
    assert found[heavy].tolist() == np.flatnonzero(heavy).tolist()  # no symmetry among them
    neighbors = {int(j): int(i) for i, j in bonds.pairs if not heavy[j]}
    for place in np.flatnonzero(~heavy):
        assert neighbors[int(found[place])] == neighbors[int(place)]  # at the same heavy atom


def test_the_same_order_stays(runs):
    atoms = runs.ETHANOL
    bonds = find_bonds(atoms.numbers, atoms.positions[None])
    assert map_atoms(atoms.numbers, atoms.positions, atoms.numbers, bonds).tolist() == list(range(9))


def test_an_isomer_has_no_mapping(runs):
    atoms, ether = runs.ETHANOL, molecule("CH3OCH3")
    bonds = find_bonds(atoms.numbers, atoms.positions[None])
    assert map_atoms(ether.numbers, ether.positions, atoms.numbers, bonds) is None
    assert map_atoms(atoms.numbers, atoms.positions * np.nan, atoms.numbers, bonds) is None


@pytest.mark.slow
def test_the_mapping_is_offered_and_accepted(runs, tmp_path, reference):
    positions = runs.shaking(300, seed=1)
    order = np.array([8, 7, 6, 5, 4, 3, 2, 1, 0])
    path = runs.write_run(tmp_path / "run", positions[:, order], numbers=runs.ETHANOL.numbers[order])
    run = read_run(path)
    with pytest.raises(DataError, match=r"different orders: atom 0 is H in the run, C in .*accept_mapping=True"):
        compare_run(run, reference)
    found = compare_run(run, reference, accept_mapping=True)
    straight = compare_run(read_run(runs.write_run(tmp_path / "straight", positions)), reference)
    assert found.run.species.tolist() == runs.ETHANOL.numbers.tolist()
    assert any("order of mine" in note for note in found.notes)
    np.testing.assert_allclose(
        found["h_of_r"].all_pairs.run.density, straight["h_of_r"].all_pairs.run.density, atol=1e-3
    )
    for ours, theirs in zip(found["bonds"], straight["bonds"], strict=True):
        assert ours.mean.value == pytest.approx(theirs.mean.value, abs=1e-5)


def test_another_order_of_the_same_elements_is_noticed(runs, tmp_path, reference):
    positions = runs.shaking(50, seed=2)
    order = np.array([1, 0, 2, 3, 4, 5, 6, 7, 8])  # the two carbons change places: elements say nothing
    run = read_run(runs.write_run(tmp_path / "run", positions[:, order]))
    refused = compare_run(run, reference)
    assert any("accept_mapping=True" in note for note in refused.notes)
    assert refused.stability.frames == 0
    assert compare_run(run, reference, accept_mapping=True).stability.broken is None


def test_an_isomer_in_another_order_is_refused_without_an_offer(runs, tmp_path, reference):
    ether = molecule("CH3OCH3")
    path = runs.write_run(tmp_path / "run", np.tile(ether.positions, (3, 1, 1)), numbers=ether.numbers)
    with pytest.raises(DataError, match=r"different orders.*reorder the atoms of the run or of the reference"):
        compare_run(read_run(path), reference)


def test_elements_tell_the_ends_of_a_chain():
    numbers, positions = np.array([1, 6, 7]), np.array([[0.0, 0, 0], [1.07, 0, 0], [2.22, 0, 0]])
    bonds = find_bonds(numbers, positions[None])
    assert map_atoms(numbers[::-1], positions[::-1], numbers, bonds).tolist() == [2, 1, 0]
