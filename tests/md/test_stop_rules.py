import json

import numpy as np
import pytest
from ase.build import molecule

from piwsl.errors import DataError
from piwsl.md.engines.base import Snapshot
from piwsl.md.protocol import MDProtocol
from piwsl.md.stop_rules import BondRule, ContactRule, TemperatureRule, bonded_pairs, check_start, stop_rules
from piwsl.md.structure import thermal_velocities


def at_rest(atoms):
    return Snapshot(atoms.positions.copy(), np.zeros((len(atoms), 3)))


def test_bonds_of_ethanol(ethanol):
    pairs = {tuple(pair) for pair in bonded_pairs(ethanol).tolist()}
    assert pairs == {(0, 1), (1, 2), (2, 3), (0, 6), (0, 7), (0, 8), (1, 4), (1, 5)}


def test_a_start_structure_violates_nothing(ethanol):
    assert [rule.check(at_rest(ethanol), 0) for rule in stop_rules(ethanol, MDProtocol())] == [None] * 4


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
    assert {frozenset(pair) for pair in rule.pairs.tolist()}.isdisjoint(map(frozenset, bonded_pairs(ethanol).tolist()))
    assert len(rule.pairs) + len(bonded_pairs(ethanol)) == 9 * 8 // 2
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
    violation = stop_rules(ethanol, MDProtocol())[0].check(snapshot, 3)
    assert violation is not None
    assert violation.message == "step 3: position or velocity of atom H5 is not a finite number"
    json.dumps(violation.as_dict(), allow_nan=False)


def test_temperature_bounds(ethanol):
    hot = Snapshot(ethanol.positions, thermal_velocities(ethanol, 6000, np.random.default_rng(0)))
    violation = TemperatureRule(ethanol, "nvt", 0, 3000).check(hot, 9)
    assert violation is not None
    assert "is above 3000 K; most energy in atom" in violation.message
    cold = TemperatureRule(ethanol, "nvt", 10, 3000).check(at_rest(ethanol), 9)
    assert cold is not None
    assert "temperature 0 K is below 10 K" in cold.message


def test_the_start_is_looked_at(ethanol):
    forces = np.zeros((9, 3))
    assert check_start(ethanol, 0.0, forces) is None
    forces[2, 0] = 20
    warning = check_start(ethanol, 0.0, forces)
    assert warning is not None
    assert "force of 20 eV/angstrom on atom O2" in warning
    forces[4, 0] = -200
    with pytest.raises(DataError, match="200 eV/angstrom on atom H4"):
        check_start(ethanol, 0.0, forces)
    forces[1, 1] = np.nan
    with pytest.raises(DataError, match="force on atom C1 is not a finite number"):
        check_start(ethanol, 0.0, forces)
    with pytest.raises(DataError, match="energy is not a finite number"):
        check_start(ethanol, float("inf"), np.zeros((9, 3)))
