import numpy as np
import pytest

from piwsl.analysis.compare_run import compare_run
from piwsl.analysis.reference import Reference
from piwsl.analysis.run_directory import read_run
from piwsl.analysis.verdict import judge
from piwsl.structures.contacts import ContactWatch, unbonded_pairs

HCCH = np.array([1, 6, 6, 1])
BONDS = np.array([[0, 1], [1, 2], [2, 3]])


def line(distance, frames=2500, collapsed=2100):
    """Frames of a straight H-C-C-H whose hydrogens come within ``distance`` from one frame on."""
    positions = np.zeros((frames, 4, 3))
    positions[:, :, 0] = [0.0, 1.1, 2.3, 3.4]
    positions[collapsed:, 3] = [distance, 0.0, 0.0]
    return positions, 10.0 * np.arange(1, frames + 1)


def first_contact(positions, times, species, bonds):
    return ContactWatch(species, bonds).find(positions, 0, times)


def test_pairs_and_limits():
    pairs, limits = unbonded_pairs(HCCH, BONDS)
    assert pairs.tolist() == [[0, 2], [0, 3], [1, 3]]
    assert limits == pytest.approx([1.07, 0.62, 1.07])


def test_a_known_collapse():
    contact = first_contact(*line(0.6), HCCH, BONDS)
    assert (contact.frame, contact.time, contact.atoms, contact.kind) == (2100, 21010.0, (1, 3), "C-H")
    assert contact.distance == pytest.approx(0.5)
    assert first_contact(*line(3.4), HCCH, BONDS) is None


def test_a_molecule_without_unbonded_pairs():
    assert first_contact(np.zeros((3, 2, 3)), np.arange(3.0), np.array([1, 1]), np.array([[0, 1]])) is None


def test_a_collapsed_run_is_not_called_stable(runs, tmp_path):
    reference = Reference.of_frames("mine", runs.ETHANOL.numbers, runs.shaking(500, seed=100), 50.0 * np.arange(500))
    positions = runs.shaking(400, seed=1)
    carbon = positions[250:, 0]
    mean = 0.75 * (positions[250:, 6] - carbon) + 0.25 * (positions[250:, 7] - carbon)
    positions[250:, 7] = carbon + 1.09 * mean / np.linalg.norm(mean, axis=1, keepdims=True)
    found = compare_run(read_run(runs.write_run(tmp_path / "run", positions)), reference)
    assert found.stability.broken is None
    assert not found.stable
    assert found.stability.contact.frame == 250
    assert found.stable_time.value == found.stability.contact.time
    assert judge(found).stability.startswith("Not stable: collapsed at")
    assert any("250 frames before" in note for note in found.notes)
    assert found.as_dict()["contact"]["kind"] == "H-H"
