"""NoisyNode and Taylor labels by hand, in physical units."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from piwsl.data.batch import collate
from piwsl.data.frames import Frame
from piwsl.losses import EnergyMAE, ForceL2MAE, NoisyNode, PointPredictions, TaylorLabels
from piwsl.losses.predictions import FIRST
from piwsl.units import KCAL_PER_MOL
from tests.support.molecules import frame


def numbers(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moved_points(batch):
    """Predictions out of the blue at the structures and at copies displaced by d."""
    shape = batch.positions.shape
    predictions = [(numbers(batch.n_structures, seed=n), numbers(*shape, seed=10 + n)) for n in range(2)]
    return PointPredictions.of(predictions, [numbers(*shape, seed=20)], batch.structure_index)


def gappy_batch():
    """All labels; an energy alone; forces alone; nothing."""
    water, ethanol, methane = (frame(name, labeled=True) for name in ("H2O", "CH3CH2OH", "CH4"))
    frames = [
        water,
        replace(ethanol, forces=np.full((9, 3), np.nan)),
        replace(methane, energy=float("nan")),
        frame("CO2"),
    ]
    return collate(frames, 5.0, torch.float64)


def test_noisy_node_compares_the_displaced_structure_with_the_labels_of_the_structure():
    batch = gappy_batch()
    points = moved_points(batch)
    values, known = NoisyNode([(EnergyMAE(FIRST), 3.0), (ForceL2MAE(FIRST), 20.0)])(points, batch)
    energies = (points.energies[1] - batch.energy).abs()
    forces = (points.forces[1] - batch.forces).norm(dim=-1)
    assert known.tolist() == [True, True, True, False]
    assert float(values[0]) == pytest.approx(float(3.0 * energies[0] + 20.0 * forces[:3].mean()))
    assert float(values[1]) == pytest.approx(float(3.0 * energies[1]))
    assert float(values[2]) == pytest.approx(float(20.0 * forces[12:17].mean()))
    assert float(values[3]) == 0.0


def test_noisy_node_has_the_coefficients_of_the_paper_by_default():
    batch = gappy_batch()
    points = moved_points(batch)
    explicit = NoisyNode([(EnergyMAE(FIRST), 1.0), (ForceL2MAE(FIRST), 100.0)])
    torch.testing.assert_close(NoisyNode()(points, batch), explicit(points, batch))


def test_taylor_labels_by_hand():
    """|E(S_d) - (E_ref - d.F_ref)|: the label falls along the force."""
    batch = gappy_batch()
    points = moved_points(batch)
    values, known = TaylorLabels()(points, batch)
    assert known.tolist() == [True, False, False, False]
    label = batch.energy[0] - (points.displacements[0][:3] * batch.forces[:3]).sum()
    assert float(values[0]) == pytest.approx(float((points.energies[1][0] - label).abs()))
    assert torch.isfinite(values).all()


def test_taylor_labels_are_formed_in_electronvolts():
    """One atom, 2 kcal/mol/A along x, moved by 0.5 A: its energy falls by 1 kcal/mol, whatever its absolute value."""
    force = np.array([[2.0 * KCAL_PER_MOL, 0.0, 0.0]])
    lone = Frame(np.array([8]), np.zeros((1, 3)), -2042.0, force)
    batch = collate([lone], 5.0, torch.float64)
    step = torch.tensor([[0.5, 0.0, 0.0]], dtype=torch.float64)
    exact = torch.tensor([-2042.0 - KCAL_PER_MOL], dtype=torch.float64)
    points = PointPredictions.of([(exact, batch.forces), (exact, batch.forces)], [step], batch.structure_index)
    assert float(TaylorLabels()(points, batch)[0]) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("term", [NoisyNode(), TaylorLabels()])
def test_missing_labels_leave_no_trace_in_the_gradient(term):
    batch = gappy_batch()
    points = moved_points(batch)
    leaves = [points.energies[1].clone().requires_grad_(True), points.forces[1].clone().requires_grad_(True)]
    predictions = [(points.energies[0], points.forces[0]), (leaves[0], leaves[1])]
    values, known = term(PointPredictions.of(predictions, points.displacements, batch.structure_index), batch)
    values[known].mean().backward()
    assert torch.isfinite(leaves[0].grad).all()
    assert leaves[0].grad[2:].tolist() == [0.0, 0.0]
    if isinstance(term, NoisyNode):
        assert torch.isfinite(leaves[1].grad).all()
        assert float(leaves[1].grad[3:12].abs().max()) == 0.0


def test_whether_a_batch_has_the_labels():
    batch = gappy_batch()
    assert NoisyNode().applies(batch)
    assert TaylorLabels().applies(batch)
    bare = collate([frame("H2O")], 5.0, torch.float64)
    assert not NoisyNode().applies(bare)
    assert not TaylorLabels().applies(bare)
    energy_alone = collate([replace(frame("H2O"), energy=1.0)], 5.0, torch.float64)
    assert NoisyNode().applies(energy_alone)
    assert not NoisyNode([(ForceL2MAE(FIRST), 1.0)]).applies(energy_alone)
    assert not TaylorLabels().applies(energy_alone)
