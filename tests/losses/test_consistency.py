"""PITC and PISC on analytic potentials, and the mistakes that implementations make."""

import numpy as np
import pytest
import torch

from piwsl.data.batch import collate
from piwsl.errors import ConfigError
from piwsl.losses import PISC, PITC, RandomDisplacement
from tests.molecules import CurlingField, HarmonicField, PairPotential, frame

MORSE = PairPotential(lambda r: (1.0 - torch.exp(-1.3 * (r - 1.2))) ** 2)
LENNARD_JONES = PairPotential(lambda r: 4.0 * ((1.1 / r) ** 12 - (1.1 / r) ** 6))


def evaluate(term, model, frames, displacements):
    batch = collate(frames, 12.0, torch.float64)
    predictions = model(batch.with_copies(displacements)).split(1 + len(displacements))
    return term(predictions, displacements, batch)


def directions(frames, seed=0):
    batch = collate(frames, 12.0, torch.float64)
    draw = RandomDisplacement(length=0.5)
    generator = torch.Generator().manual_seed(seed)
    return [2.0 * draw(batch, generator), 2.0 * draw(batch, generator)]


@pytest.mark.parametrize("model", [MORSE, LENNARD_JONES], ids=["morse", "lennard-jones"])
@pytest.mark.parametrize(("mixing", "order"), [(0.0, 2), (0.25, 2), (0.5, 3)])
@pytest.mark.parametrize("kind", [PITC, PISC])
def test_order_of_the_residual(model, mixing, order, kind):
    frames = [frame("CH3CH2OH")]
    d = directions(frames)
    lengths = np.array([4e-3, 2e-3, 1e-3])
    term = kind(mixing=mixing)
    residuals = [
        float(evaluate(term, model, frames, [length * step for step in d][: term.copies]).sqrt()) for length in lengths
    ]
    slope = np.polyfit(np.log(lengths), np.log(residuals), 1)[0]
    assert slope == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("kind", [PITC, PISC])
def test_second_order_is_exact_for_a_harmonic_field(kind):
    frames = [frame("H2O")]
    term = kind(mixing=0.5)
    steps = [0.1 * step for step in directions(frames)][: term.copies]
    assert float(evaluate(term, HarmonicField(), frames, steps)) < 1e-24
    assert float(evaluate(kind(mixing=0.0), HarmonicField(), frames, steps)) > 1e-6


@pytest.mark.parametrize("kind", [PITC, PISC])
def test_a_curl_is_seen(kind):
    term = kind(mixing=0.5)
    frames = [frame("H2O")]
    steps = [0.1 * step for step in directions(frames)][: term.copies]
    assert float(evaluate(term, CurlingField(), frames, steps)) > 1e-5


@pytest.mark.parametrize("kind", [PITC, PISC])
def test_a_batch_of_different_sizes_equals_its_structures_alone(kind):
    frames = [frame("H2O"), frame("CH3CH2OH"), frame("C6H6")]
    term = kind(mixing=0.1)
    steps = [0.03 * step for step in directions(frames)][: term.copies]
    together = evaluate(term, MORSE, frames, steps)
    sizes = [len(f.species) for f in frames]
    for index, single in enumerate(frames):
        own = [step.split(sizes)[index] for step in steps]
        assert float(evaluate(term, MORSE, [single], own)) == pytest.approx(float(together[index]), rel=1e-9)


@pytest.mark.parametrize("kind", [PITC, PISC])
def test_invariant_to_rotation(kind):
    term = kind(mixing=0.2)
    original = frame("CH3CH2OH")
    matrix, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    turned = type(original)(original.species, original.positions @ matrix, original.energy, original.forces)
    steps = [0.03 * step for step in directions([original])][: term.copies]
    rotated = [step @ torch.from_numpy(matrix) for step in steps]
    value = float(evaluate(term, MORSE, [original], steps))
    assert float(evaluate(term, MORSE, [turned], rotated)) == pytest.approx(value, rel=1e-8)


def test_pitc_by_hand():
    """One atom in E = x^2 / 2 * 3 along x: the residual of the first-order form is k d^2 / 2."""
    frames = [frame("H2O")]
    batch = collate(frames, 5.0, torch.float64)
    d = torch.zeros_like(batch.positions)
    d[1, 0] = 0.2
    expected = (0.5 * 3.0 * 0.2**2) ** 2
    assert float(evaluate(PITC(mixing=0.0), HarmonicField(), frames, [d])) == pytest.approx(expected, rel=1e-10)
    per_atom = evaluate(PITC(mixing=0.0, per_atom=True), HarmonicField(), frames, [d])
    assert float(per_atom) == pytest.approx(expected / 9, rel=1e-10)


class TrainableSpring:
    """E = k x^2 / 2 with a parameter k: what is detached shows in the gradient."""

    def __init__(self):
        self.stiffness = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)

    def __call__(self, batch):
        from piwsl.losses.prediction import Prediction, sum_per_structure

        energies = 0.5 * self.stiffness * batch.positions.square().sum(-1)
        return Prediction(
            sum_per_structure(energies, batch.structure_index, batch.n_structures), -self.stiffness * batch.positions
        )


def test_detach_chooses_where_the_gradient_goes():
    """The mismatch is k d^2 / 2 (k = 0 form); with x the position, its three parts have gradients known by hand."""
    frames = [frame("H2O")]
    batch = collate(frames, 5.0, torch.float64)
    d = 0.1 * directions(frames)[0]
    x = batch.positions
    gradients = {}
    for detach in ("none", "target", "energy"):
        model = TrainableSpring()
        evaluate(PITC(mixing=0.0, detach=detach), model, frames, [d]).sum().backward()
        gradients[detach] = float(model.stiffness.grad)
    mismatch = float(d.square().sum())  # 2 * k d^2 / 2 / k * k, with k = 2: twice the mismatch over k
    outer = 2.0 * mismatch
    displaced, origin, work = (float(v.sum()) for v in (0.5 * (x + d) ** 2, 0.5 * x**2, -(d * x)))
    assert gradients["none"] == pytest.approx(outer * (displaced - origin + work), rel=1e-9)
    assert gradients["target"] == pytest.approx(outer * displaced, rel=1e-9)
    assert gradients["energy"] == pytest.approx(outer * (displaced + work), rel=1e-9)


@pytest.mark.parametrize("mixing", [-0.1, 0.6])
def test_mixing_outside_its_range_is_refused(mixing):
    with pytest.raises(ConfigError, match="mixing"):
        PITC(mixing=mixing)
