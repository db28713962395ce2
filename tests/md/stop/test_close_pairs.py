import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.spacegroup import crystal

from piwsl.md.engines.base import Snapshot
from piwsl.md.stop.close_pairs import CloseContacts, ContactRule
from piwsl.md.stop.geometry import BondRule
from piwsl.structures.bonds import bonded_pairs
from tests.support.snapshots import at_rest


def test_a_collapse_is_seen_although_all_bonds_hold(ethanol):
    """Two hydrogens of the methyl group fall onto each other, as a potential trained in minutes once did."""
    rule = ContactRule(ethanol, 1.0)
    snapshot = at_rest(ethanol)
    pairs = rule._candidates(snapshot)[0]
    assert {frozenset(pair) for pair in pairs.tolist()}.isdisjoint(map(frozenset, bonded_pairs(ethanol).tolist()))
    assert len(pairs) + len(bonded_pairs(ethanol)) == 9 * 8 // 2
    carbon, length = ethanol.positions[0], np.linalg.norm(ethanol.positions[7] - ethanol.positions[0])
    direction = 0.75 * (ethanol.positions[6] - carbon) + 0.25 * (ethanol.positions[7] - carbon)
    snapshot.positions[7] = carbon + direction / np.linalg.norm(direction) * length
    assert BondRule(ethanol, 0.5).check(snapshot, None, 30) is None
    violation = rule.check(snapshot, None, 30)
    assert violation is not None
    assert {atom["index"] for atom in violation.atoms} == {6, 7}
    assert violation.limit == pytest.approx(0.62)
    assert violation.message.startswith("step 30: atoms H6 and H7, which are not bonded, are 0.")
    assert ContactRule(ethanol, 0.5).check(snapshot, None, 30) is None


def test_contacts_across_a_cell_boundary_count():
    atoms = molecule("H2")
    atoms.positions[:, 2] = [0.2, 5.0]
    atoms.set_cell([6.0, 6.0, 6.0])
    atoms.pbc = True
    rule = ContactRule(atoms, 1.0)
    snapshot = at_rest(atoms)
    assert rule.check(snapshot, None, 1) is None
    snapshot.positions[1, 2] = 5.9
    assert rule.check(snapshot, None, 1).value == pytest.approx(0.3)


def test_contacts_of_a_large_structure_are_searched():
    atoms = bulk("Cu", cubic=True).repeat(5)  # 500 atoms
    rule = ContactRule(atoms, 1.0)
    assert rule.check(at_rest(atoms), None, 1) is None
    far = np.linalg.norm(atoms.positions - atoms.positions[7], axis=1).argmax()
    snapshot = at_rest(atoms)
    snapshot.positions[far] = snapshot.positions[7] + [0.5, 0, 0] + atoms.cell.array[0]
    violation = rule.check(snapshot, None, 2)
    assert violation is not None
    assert {atom["index"] for atom in violation.atoms} == {7, int(far)}
    assert violation.value == pytest.approx(0.5)
    assert violation.limit == pytest.approx(0.6 * 2.64)  # metals may come closer


def test_molecules_in_cells_are_searched_too():
    """The nearest images of all pairs would take longer than a step."""
    atoms = molecule("CH3CH2OH")
    atoms.set_cell([12.0, 12.0, 12.0])
    atoms.pbc = True
    free, periodic = ContactRule(molecule("CH3CH2OH"), 1.0), ContactRule(atoms, 1.0)
    snapshot = at_rest(atoms)
    assert periodic.check(snapshot, None, 1) is None
    snapshot.positions[7] = snapshot.positions[6] + [0.0, 0.0, 0.5]
    inside = periodic.check(snapshot, None, 1)
    assert inside == free.check(Snapshot(snapshot.positions, snapshot.velocities), None, 1)
    snapshot.positions[7] += 12.0
    across = periodic.check(snapshot, None, 1)
    assert across.atoms == inside.atoms
    assert across.value == pytest.approx(0.5)
    assert isinstance(periodic._candidates, CloseContacts)


def test_metals_in_cells_have_room_to_hop_but_not_to_collapse():
    """Bonds of metals have no length that must hold in a crystal; those of silicon and carbon have."""
    places, lengths = [(0, 0, 0), (0.305, 0.305, 0)], [4.594, 4.594, 2.959, 90, 90, 90]
    rutile = crystal(["Ti", "O"], places, spacegroup=136, cellpar=lengths) * (2, 2, 2)
    bonds, contacts = BondRule(rutile, 0.5), ContactRule(rutile, 1.0)
    assert len(bonds.bonds) == 0
    snapshot = at_rest(rutile)
    assert contacts.check(snapshot, None, 0) is None  # although two Ti are closer than the sum of their radii
    snapshot.positions[0, 0] += 0.6
    assert bonds.check(snapshot, None, 1) is None
    assert contacts.check(snapshot, None, 1) is None
    oxygen = int(np.flatnonzero(rutile.numbers == 8)[0])
    snapshot.positions[0] = snapshot.positions[oxygen] + [0.0, 0.0, 1.2]
    found = contacts.check(snapshot, None, 2)
    assert found.value < found.limit
    assert "bonded" not in found.message
    assert found.limit == pytest.approx(0.6 * (1.60 + 1.60))  # to another Ti, which is closer for its size
    carbide = bulk("SiC", "zincblende", a=4.36, cubic=True) * (2, 2, 2)
    assert len(BondRule(carbide, 0.5).bonds) == 32 * 4
