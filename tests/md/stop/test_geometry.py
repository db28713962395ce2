import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from piwsl.errors import ConfigError
from piwsl.md.engines.base import Snapshot
from piwsl.md.stop.close_pairs import ContactRule
from piwsl.md.stop.geometry import BondRule, CellRule, FiniteRule, IsolatedRule
from piwsl.structures.bonds import bonded_pairs
from tests.support.snapshots import at_rest


def test_bonds_of_ethanol(ethanol):
    pairs = {tuple(pair) for pair in bonded_pairs(ethanol).tolist()}
    assert pairs == {(0, 1), (1, 2), (2, 3), (0, 6), (0, 7), (0, 8), (1, 4), (1, 5)}


def test_a_long_bond_is_named_with_its_atoms(ethanol):
    snapshot = at_rest(ethanol)
    direction = ethanol.positions[3] - ethanol.positions[2]
    length = np.linalg.norm(direction)
    snapshot.positions[3] += direction / length * 0.499
    rule = BondRule(ethanol, 0.5)
    assert rule.check(snapshot, None, 70) is None
    snapshot.positions[3] += direction / length * 0.002
    violation = rule.check(snapshot, None, 70)
    assert violation is not None
    assert violation.atoms == [{"index": 2, "element": "O"}, {"index": 3, "element": "H"}]
    assert (violation.rule, violation.limit, violation.step) == ("bond", 0.5, 70)
    assert violation.value == pytest.approx(0.501)
    assert violation.message.startswith(f"step 70: bond O2-H3 is {length + 0.501:.2f} angstrom long")
    json.dumps(violation.as_dict(), allow_nan=False)


def test_a_short_bond_counts_too_and_lengths_can_be_a_reference_mean(ethanol):
    rule = BondRule(ethanol, 0.5, BondRule(ethanol, 0.5).lengths + 0.6)
    violation = rule.check(at_rest(ethanol), None, 1)
    assert violation is not None
    assert violation.value == pytest.approx(0.6)


def test_a_single_atom_has_no_bonds():
    assert BondRule(molecule("O"), 0.5).check(at_rest(molecule("O")), None, 1) is None


def test_nan_is_named(ethanol):
    snapshot = at_rest(ethanol)
    snapshot.velocities[5, 2] = np.inf
    violation = FiniteRule(ethanol).check(snapshot, None, 3)
    assert violation is not None
    assert violation.message == "step 3: position or velocity of atom H5 is not a finite number"
    json.dumps(violation.as_dict(), allow_nan=False)
    assert FiniteRule(ethanol).check(at_rest(ethanol), None, 3) is None


def test_a_bond_across_the_boundary_follows_the_box():
    """In NPT the box changes, and a bond with it."""
    atoms = Atoms("HH", [[0, 0, 0.1], [0, 0, 5.36]], cell=[6, 6, 6], pbc=True)
    rule = BondRule(atoms, 0.3)
    assert rule.lengths == pytest.approx([0.74])
    grown = Snapshot(atoms.positions * 7 / 6, atoms.positions, atoms.cell.array * 7 / 6)
    assert rule.check(grown, None, 1) is None
    assert rule.check(
        Snapshot(atoms.positions, atoms.positions, atoms.cell.array * 7 / 6), None, 1
    ).value == pytest.approx(1)


def test_an_atom_that_leaves_is_named(ethanol):
    rule = IsolatedRule(ethanol, 3.0)
    assert rule.check(at_rest(ethanol), None, 0) is None
    snapshot = at_rest(ethanol)
    away = snapshot.positions[3] - snapshot.positions[1]
    snapshot.positions[3] += 2.5 * away / np.linalg.norm(away)
    gap = np.sort(np.linalg.norm(snapshot.positions - snapshot.positions[3], axis=1))[1]
    assert gap > 3.0
    violation = rule.check(snapshot, None, 40)
    assert violation is not None
    assert violation.atoms == [{"index": 3, "element": "H"}]
    assert violation.value == pytest.approx(gap)
    assert violation.message == f"step 40: H3 is {gap:.2f} angstrom from all other atoms (limit 3)"


def test_parts_that_were_apart_may_stay_apart():
    pair = molecule("H2O") + molecule("H2O")
    pair.positions[3:] += [6.0, 0, 0]
    rule = IsolatedRule(pair, 3.0)
    snapshot = at_rest(pair)
    assert rule.check(snapshot, None, 1) is None
    snapshot.positions[3:] += [20.0, 0, 0]
    assert rule.check(snapshot, None, 2) is None
    snapshot.positions[4] += [5.0, 0, 0]
    violation = rule.check(snapshot, None, 3)
    assert [atom["index"] for atom in violation.atoms] == [4]


def test_a_molecule_that_leaves_a_cluster_is_named_as_a_whole():
    pair = molecule("H2O") + molecule("H2O")
    pair.positions[3:] += [2.9, 0, 0]
    rule = IsolatedRule(pair, 3.0)
    snapshot = at_rest(pair)
    snapshot.positions[3:] += [4.0, 0, 0]
    violation = rule.check(snapshot, None, 3)
    assert len(violation.atoms) == 3
    assert "are" in violation.message


def test_atoms_of_a_crystal_are_neighbors_across_its_boundary():
    atoms = bulk("Cu", cubic=True).repeat(2)
    rule = IsolatedRule(atoms, 3.0)
    snapshot = at_rest(atoms)
    assert rule.check(snapshot, None, 0) is None
    snapshot.positions[5] += atoms.cell.array.sum(0)  # engines do not wrap, and an atom may have gone round
    assert rule.check(snapshot, None, 1) is None
    wide = Snapshot(snapshot.positions * 1.3, snapshot.velocities, snapshot.cell * 1.3)
    assert rule.check(wide, None, 2) is not None


def test_an_atom_that_leaves_while_other_parts_meet_is_seen():
    """The number of parts stays what it was."""
    pair = molecule("H2O") + molecule("H2O")
    pair.positions[3:] += [6.0, 0, 0]
    rule = IsolatedRule(pair, 3.0)
    snapshot = at_rest(pair)
    snapshot.positions[3:] -= [3.3, 0, 0]
    assert rule.check(snapshot, None, 1) is None
    snapshot.positions[1] += [0, 9.0, 0]
    assert rule.check(snapshot, None, 2).atoms == [{"index": 1, "element": "H"}]


def test_a_part_that_was_small_from_the_start_has_not_left(ethanol):
    both = ethanol + molecule("H2")
    both.positions[9:] += [0, 0, 9.0]
    rule = IsolatedRule(both, 3.0)
    snapshot = at_rest(both)
    methyl = [0, 6, 7, 8]
    snapshot.positions[methyl] += 3.0 * (snapshot.positions[0] - snapshot.positions[1])
    violation = rule.check(snapshot, None, 2)
    assert [atom["index"] for atom in violation.atoms] == methyl
    gap = both.get_all_distances()[0, 1] * 4
    assert violation.value == pytest.approx(gap)
    assert violation.message == f"step 2: C0 H6 H7 H8 are {gap:.2f} angstrom from all other atoms (limit 3)"


def test_what_has_left_is_seen_again(ethanol):
    """A run that went back to a good state may lose the same atom once more."""
    rule = IsolatedRule(ethanol, 3.0)
    broken = at_rest(ethanol)
    broken.positions[3] += [0, 0, 9.0]
    assert rule.check(broken, None, 40) is not None
    assert rule.check(at_rest(ethanol), None, 30) is None
    assert rule.check(broken, None, 40) is not None


def test_atoms_are_followed_without_a_search_as_long_as_nothing_moves_far(ethanol, monkeypatch):
    rule = IsolatedRule(ethanol, 3.0)
    searches = []
    found = rule._fragments
    # Only counts the searches: the results of the rule do not show whether it searched.
    monkeypatch.setattr(rule, "_fragments", lambda snapshot: searches.append(1) or found(snapshot))
    snapshot = at_rest(ethanol)
    rng = np.random.default_rng(0)
    for step in range(50):
        snapshot.positions[:] = ethanol.positions + rng.uniform(-0.3, 0.3, (9, 3))
        assert rule.check(snapshot, None, step) is None
    assert not searches


def test_a_slab_keeps_to_its_plane():
    atoms = fcc111("Cu", (3, 3, 2), vacuum=6.0)
    atoms.pbc = (True, True, False)
    snapshot = at_rest(atoms)
    isolated, contact = IsolatedRule(atoms, 3.0), ContactRule(atoms, 0.9)
    assert (isolated.check(snapshot, None, 0), contact.check(snapshot, None, 0)) == (None, None)
    top = int(atoms.positions[:, 2].argmax())
    snapshot.positions[top, 2] += 4.0
    assert [atom["index"] for atom in isolated.check(snapshot, None, 1).atoms] == [top]
    snapshot = at_rest(atoms)
    snapshot.positions[top] = snapshot.positions[8] + atoms.cell.array[0] + [0.4, 0, 0]  # no bond at the start
    violation = contact.check(snapshot, None, 1)
    assert {atom["index"] for atom in violation.atoms} == {8, top}
    assert violation.value == pytest.approx(0.4)


def test_two_halves_of_a_large_crystal():
    atoms = bulk("Cu", cubic=True).repeat((6, 3, 3))
    rule = IsolatedRule(atoms, 3.0)
    snapshot = at_rest(atoms)
    long = snapshot.cell.copy()
    long[0, 0] += 8.0
    right = atoms.positions[:, 0] > 0.55 * atoms.cell[0, 0]
    snapshot.positions[right] += [4.0, 0, 0]
    violation = rule.check(Snapshot(snapshot.positions, snapshot.velocities, long), None, 1)
    assert [atom["index"] for atom in violation.atoms] == np.flatnonzero(right).tolist()
    half = atoms.cell[0, 0] / 12  # between layers, and how far the atoms of one are shifted against those of the next
    assert violation.value == pytest.approx(np.hypot(half + 4.0, half))
    assert violation.message.endswith("more are 6.08 angstrom from all other atoms (limit 3)")


def test_atoms_that_change_their_company_have_not_left():
    atoms = Atoms("Ar6", [[x, 0, 0] for x in (0, 2, 4, 6, 20, 22)])
    rule = IsolatedRule(atoms, 3.0)
    snapshot = at_rest(atoms)
    snapshot.positions[:, 0] = [0, 2, 20, 22, 4, 24]  # parts of 4 and 2, then 3 and 3
    assert rule.check(snapshot, None, 1) is None


def test_a_cell_that_collapses_or_expands():
    copper = bulk("Cu", cubic=True)
    rule = CellRule(copper, 2.0)
    for scale, limit in ((0.8, None), (1.25, None), (0.79, 0.5), (1.27, 2.0), (0.0, 0.5)):
        changed = copper.copy()
        changed.set_cell(copper.cell.array * scale, scale_atoms=True)
        violation = rule.check(at_rest(changed), None, 10)
        assert (None if violation is None else violation.limit) == limit
        if violation is not None:
            assert violation.value == pytest.approx(scale**3)
            assert violation.message.startswith("step 10: the cell volume is ")
    with pytest.raises(ConfigError, match=r"stop rule cell:0\.5: give a factor above 1 such as cell:2"):
        CellRule.parse("0.5")
    assert CellRule.parse("3") == (3.0,)
