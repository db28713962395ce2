"""Features of atoms and structures, and the choice of points far from each other."""

import numpy as np
import pytest
from ase.build import molecule
from torch import nn

from piwsl.data.batch import collate
from piwsl.data.frames import Frame
from piwsl.errors import ConfigError
from piwsl.models import Potential
from piwsl.models.features import AtomFeatures, farthest_points, structure_features
from tests.support.models_for_tests import trained_model


@pytest.mark.parametrize("network", ["painn", "schnet", "ace"])
def test_features_of_a_structure_do_not_depend_on_the_order_of_its_atoms(network):
    model = trained_model(network)
    potential, atoms = model.potential(), molecule("CH3CH2OH")
    order = np.random.default_rng(0).permutation(len(atoms))
    results = []
    with AtomFeatures(potential) as features:
        for one in (atoms, atoms[order]):
            frame = Frame.from_atoms(one)
            potential(*collate([frame], model.cutoff).graph)
            results.append(structure_features(frame.species, features.take(), [1, 6, 7, 8]))
    assert results[0] == pytest.approx(results[1], abs=1e-5)
    width = len(results[0]) // 4
    assert np.all(results[0][2 * width : 3 * width] == 0)  # no nitrogen
    assert np.any(results[0][: 2 * width] != 0)


def test_nothing_is_recorded_after_the_block():
    model = trained_model()
    potential = model.potential()
    batch = collate([Frame.from_atoms(molecule("H2O"))], model.cutoff)
    with AtomFeatures(potential) as features:
        potential(*batch.graph)
    before = features.take().copy()
    moved = collate([Frame.from_atoms(molecule("CH3CH2OH"))], model.cutoff)
    potential(*moved.graph)
    assert np.array_equal(features.take(), before)


def test_a_network_without_a_readout_is_refused():
    class Nothing(nn.Module):
        def forward(self, species, edges, edge_vectors, structure_index):
            return edge_vectors.new_zeros(len(species))

    with pytest.raises(ConfigError, match="no module named readout"):
        AtomFeatures(Potential(Nothing(), [1], [0.0]))


def test_points_are_chosen_far_from_known_points_and_from_each_other():
    candidates = np.array([[0.0], [0.1], [5.0], [5.1], [9.0]])
    assert farthest_points(candidates, np.array([[0.0]]), 2) == [4, 2]
    assert farthest_points(candidates, np.array([[9.0]]), 3) == [0, 2, 1]


def test_without_known_points_the_middle_comes_first():
    candidates = np.array([[0.0], [4.0], [9.0]])
    assert farthest_points(candidates, np.empty((0, 1)), 2) == [1, 2]


def test_equal_points_are_chosen_once():
    assert farthest_points(np.array([[1.0], [1.0], [2.0]]), np.array([[2.0]]), 3) == [0]
    assert farthest_points(np.empty((0, 1)), np.empty((0, 1)), 3) == []
