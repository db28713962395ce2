import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from piwsl.md.engines.base import Snapshot
from piwsl.md.stop.geometry import BondRule, ContactRule, FiniteRule, IsolatedRule
from piwsl.md.structure import bonded_pairs


def at_rest(atoms):
    cell = atoms.cell.array.copy() if atoms.pbc.any() else None
    return Snapshot(atoms.positions.copy(), np.zeros((len(atoms), 3)), cell)


def test_bonds_of_ethanol(ethanol):
    pairs = {tuple(pair) for pair in bonded_pairs(ethanol).tolist()}
    assert pairs == {(0, 1), (1, 2), (2, 3), (0, 6), (0, 7), (0, 8), (1, 4), (1, 5)}


def test_a_long_bond_is_named_with_its_atoms(ethanol):
    snapshot = at_rest(ethanol)
    direction = ethanol.positions[3] - ethanol.positions[2]
    length = np.linalg.norm(direction)
    snapshot.positions[3] += direction / length * 0.499
    rule = BondRule(ethanol, 0.5)
    assert rule.check(snapshot, 70) is None
    snapshot.positions[3] += direction / length * 0.002
    violation = rule.check(snapshot, 70)
    assert violation is not None
    assert violation.atoms == [{"index": 2, "element": "O"}, {"index": 3, "element": "H"}]
    assert (violation.rule, violation.limit, violation.step) == ("bond", 0.5, 70)
    assert violation.value == pytest.approx(0.501)
    assert violation.message.startswith(f"step 70: bond O2-H3 is {length + 0.501:.2f} angstrom long")
    json.dumps(violation.as_dict(), allow_nan=False)


def test_a_collapse_is_seen_although_all_bonds_hold(ethanol):
    """Two hydrogens of the methyl group fall onto each other, as a potential trained in minutes once did."""
    rule = ContactRule(ethanol, 1.0)
    assert {frozenset(pair) for pair in rule._pairs.tolist()}.isdisjoint(map(frozenset, bonded_pairs(ethanol).tolist()))
    assert len(rule._pairs) + len(bonded_pairs(ethanol)) == 9 * 8 // 2
    snapshot = at_rest(ethanol)
    carbon, length = ethanol.positions[0], np.linalg.norm(ethanol.positions[7] - ethanol.positions[0])
    direction = 0.75 * (ethanol.positions[6] - carbon) + 0.25 * (ethanol.positions[7] - carbon)
    snapshot.positions[7] = carbon + direction / np.linalg.norm(direction) * length
    assert BondRule(ethanol, 0.5).check(snapshot, 30) is None
    violation = rule.check(snapshot, 30)
    assert violation is not None
    assert {atom["index"] for atom in violation.atoms} == {6, 7}
    assert violation.limit == pytest.approx(0.62)
    assert violation.message.startswith("step 30: atoms H6 and H7, which are not bonded, are 0.")
    assert ContactRule(ethanol, 0.5).check(snapshot, 30) is None


def test_contacts_across_a_cell_boundary_count():
    atoms = molecule("H2")
    atoms.positions[:, 2] = [0.2, 5.0]
    atoms.set_cell([6.0, 6.0, 6.0])
    atoms.pbc = True
    rule = ContactRule(atoms, 1.0)
    snapshot = at_rest(atoms)
    assert rule.check(snapshot, 1) is None
    snapshot.positions[1, 2] = 5.9
    assert rule.check(snapshot, 1).value == pytest.approx(0.3)


def test_a_short_bond_counts_too_and_lengths_can_be_a_reference_mean(ethanol):
    rule = BondRule(ethanol, 0.5, BondRule(ethanol, 0.5).lengths + 0.6)
    violation = rule.check(at_rest(ethanol), 1)
    assert violation is not None
    assert violation.value == pytest.approx(0.6)


def test_a_single_atom_has_no_bonds():
    assert BondRule(molecule("O"), 0.5).check(at_rest(molecule("O")), 1) is None


def test_nan_is_named(ethanol):
    snapshot = at_rest(ethanol)
    snapshot.velocities[5, 2] = np.inf
    violation = FiniteRule(ethanol).check(snapshot, 3)
    assert violation is not None
    assert violation.message == "step 3: position or velocity of atom H5 is not a finite number"
    json.dumps(violation.as_dict(), allow_nan=False)
    assert FiniteRule(ethanol).check(at_rest(ethanol), 3) is None


def test_a_bond_across_the_boundary_follows_the_box():
    """In NPT the box changes, and a bond with it."""
    atoms = Atoms("HH", [[0, 0, 0.1], [0, 0, 5.36]], cell=[6, 6, 6], pbc=True)
    rule = BondRule(atoms, 0.3)
    assert rule.lengths == pytest.approx([0.74])
    grown = Snapshot(atoms.positions * 7 / 6, atoms.positions, atoms.cell.array * 7 / 6)
    assert rule.check(grown, 1) is None
    assert rule.check(Snapshot(atoms.positions, atoms.positions, atoms.cell.array * 7 / 6), 1).value == pytest.approx(1)


def test_contacts_of_a_large_structure_are_searched():
    atoms = bulk("Cu", cubic=True).repeat(5)  # 500 atoms
    rule, small = ContactRule(atoms, 1.0), ContactRule(atoms[:100], 1.0)
    assert len(rule._pairs) == 0
    assert len(small._pairs) > 0
    assert rule.check(at_rest(atoms), 1) is None
    far = np.linalg.norm(atoms.positions - atoms.positions[7], axis=1).argmax()
    snapshot = at_rest(atoms)
    snapshot.positions[far] = snapshot.positions[7] + [0.5, 0, 0] + atoms.cell.array[0]
    violation = rule.check(snapshot, 2)
    assert violation is not None
    assert {atom["index"] for atom in violation.atoms} == {7, int(far)}
    assert violation.value == pytest.approx(0.5)
    assert violation.limit == pytest.approx(2.64)


def test_an_atom_that_leaves_is_named(ethanol):
    rule = IsolatedRule(ethanol, 3.0)
    assert rule.check(at_rest(ethanol), 0) is None
    snapshot = at_rest(ethanol)
    away = snapshot.positions[3] - snapshot.positions[1]
    snapshot.positions[3] += 2.5 * away / np.linalg.norm(away)
    gap = np.sort(np.linalg.norm(snapshot.positions - snapshot.positions[3], axis=1))[1]
    assert gap > 3.0
    violation = rule.check(snapshot, 40)
    assert violation is not None
    assert violation.atoms == [{"index": 3, "element": "H"}]
    assert violation.value == pytest.approx(gap)
    assert violation.message == f"step 40: H3 is {gap:.2f} angstrom from all others (limit 3)"


def test_parts_that_were_apart_may_stay_apart():
    pair = molecule("H2O") + molecule("H2O")
    pair.positions[3:] += [6.0, 0, 0]
    rule = IsolatedRule(pair, 3.0)
    snapshot = at_rest(pair)
    assert rule.check(snapshot, 1) is None
    snapshot.positions[3:] += [20.0, 0, 0]
    assert rule.check(snapshot, 2) is None
    snapshot.positions[4] += [5.0, 0, 0]
    violation = rule.check(snapshot, 3)
    assert [atom["index"] for atom in violation.atoms] == [4]


def test_a_molecule_that_leaves_a_cluster_is_named_as_a_whole():
    pair = molecule("H2O") + molecule("H2O")
    pair.positions[3:] += [2.9, 0, 0]
    rule = IsolatedRule(pair, 3.0)
    snapshot = at_rest(pair)
    snapshot.positions[3:] += [4.0, 0, 0]
    violation = rule.check(snapshot, 3)
    assert len(violation.atoms) == 3
    assert "are" in violation.message


def test_atoms_of_a_crystal_are_neighbours_across_its_boundary():
    atoms = bulk("Cu", cubic=True).repeat(2)
    rule = IsolatedRule(atoms, 3.0)
    snapshot = at_rest(atoms)
    assert rule.check(snapshot, 0) is None
    snapshot.positions[5] += atoms.cell.array.sum(0)  # engines do not wrap, and an atom may have gone round
    assert rule.check(snapshot, 1) is None
    wide = Snapshot(snapshot.positions * 1.3, snapshot.velocities, snapshot.cell * 1.3)
    assert rule.check(wide, 2) is not None
