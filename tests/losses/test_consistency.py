"""The consistency terms by hand: formulas, options, and which side of a mismatch gives a gradient."""

import pytest
import torch

from piwsl.data.batch import collate
from piwsl.errors import ConfigError
from piwsl.losses import PISC, PITC, AbsoluteError, HuberError, PISCPaths, PITCBack, PointPredictions
from piwsl.losses.predictions import Work
from tests.support.molecules import frame

TERMS = [PITC, PITCBack, PISC, PISCPaths]
BATCH = collate([frame("H2O"), frame("CO2")], 5.0, torch.float64)
K = 0.3


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def leaves(requires_grad=False):
    """Energies (2,) and forces (6, 3) out of the blue at A = 0, C = 1 (moved by d) and B = 2 (moved by d')."""
    return [
        (
            numbers(2, seed=point).requires_grad_(requires_grad),
            numbers(6, 3, seed=3 + point).requires_grad_(requires_grad),
        )
        for point in range(3)
    ]


def points(predictions=None):
    return PointPredictions.of(predictions or leaves(), list(numbers(2, 6, 3, seed=6)), BATCH.structure_index)


def by_hand(name, k=K):
    """The mismatch of each structure, written out."""
    at = points()
    a, c, b = (at.energies[p] for p in range(3))
    (d, e), (fa, fc, fb) = at.displacements, (at.forces[p] for p in range(3))

    def work(step, near, far):
        values = (step * ((1 - k) * near + k * far)).sum(-1)
        return torch.stack([values[:3].sum(), values[3:].sum()])

    from_a, from_b, back = a - work(d, fa, fc), b - work(d - e, fb, fc), c - work(-d, fc, fa)
    return {"pitc": c - from_a, "pitc_back": a - back, "pisc": c - from_b, "pisc_paths": from_a - from_b}[name]


@pytest.mark.parametrize("kind", TERMS)
def test_the_formula(kind):
    for k in (0.0, K, 0.5):
        torch.testing.assert_close(kind(k).mismatch(points()), by_hand(kind.name, k))
        values, takes_part = kind(k)(points())
        torch.testing.assert_close(values, by_hand(kind.name, k) ** 2)
        assert takes_part.all()


@pytest.mark.parametrize("kind", TERMS)
def test_per_atom_and_error_functions(kind):
    mismatch = by_hand(kind.name)
    torch.testing.assert_close(kind(K, per_atom=True)(points())[0], (mismatch / 3.0) ** 2)
    torch.testing.assert_close(kind(K, AbsoluteError())(points())[0], mismatch.abs())
    torch.testing.assert_close(kind(K, AbsoluteError(), per_atom=True)(points())[0], mismatch.abs() / 3.0)
    torch.testing.assert_close(kind(K, HuberError(1e-3))(points())[0], 1e-3 * (mismatch.abs() - 5e-4))


# Where the gradient arrives: energies of A, C, B in small letters, forces in capitals.
EVERYWHERE = {"pitc": "acAC", "pitc_back": "acAC", "pisc": "cbCB", "pisc_paths": "abACB"}
DETACHED = {
    ("pitc", "target"): "c",
    ("pitc", "energy"): "cAC",
    ("pitc_back", "target"): "a",
    ("pitc_back", "energy"): "aAC",
    ("pisc", "target"): "c",
    ("pisc", "energy"): "cCB",
    ("pisc_paths", "target"): "aAC",
    ("pisc_paths", "energy"): "aACB",
}


@pytest.mark.parametrize("kind", TERMS)
@pytest.mark.parametrize("detach", ["none", "target", "energy"])
def test_detach_chooses_where_the_gradient_goes(kind, detach):
    given = leaves(requires_grad=True)
    kind(K, detach=detach)(points(given))[0].sum().backward()
    reached = {letter for letter, (energies, _) in zip("acb", given, strict=True) if _reached(energies)}
    reached |= {letter for letter, (_, forces) in zip("ACB", given, strict=True) if _reached(forces)}
    assert reached == set(EVERYWHERE[kind.name] if detach == "none" else DETACHED[kind.name, detach])
    # Detaching changes gradients, never the value.
    torch.testing.assert_close(kind(K, detach=detach)(points())[0], kind(K)(points())[0])


def _reached(leaf):
    return leaf.grad is not None and bool((leaf.grad != 0).any())


def test_the_gradient_of_what_is_not_detached_is_twice_the_mismatch():
    given = leaves(requires_grad=True)
    PITC(K, detach="energy")(points(given))[0].sum().backward()
    (_, forces), (energies, displaced_forces), _ = given
    mismatch = by_hand("pitc")
    torch.testing.assert_close(energies.grad, 2.0 * mismatch)
    shares = (2.0 * mismatch)[BATCH.structure_index].unsqueeze(-1) * points().displacements[0]
    torch.testing.assert_close(forces.grad, (1 - K) * shares)
    torch.testing.assert_close(displaced_forces.grad, K * shares)


def test_what_each_term_asks_for():
    assert (PITC(0.0).request.energies, PITC(0.0).request.works) == ({0, 1}, {Work(0, 0, 1)})
    assert (PITC().request.energies, PITC().request.works) == ({0, 1}, {Work(0, 0, 1), Work(1, 0, 1)})
    assert (PITCBack(0.0).request.energies, PITCBack(0.0).request.works) == ({0, 1}, {Work(1, 1, 0)})
    assert (PISC(0.0).request.energies, PISC(0.0).request.works) == ({1, 2}, {Work(2, 2, 1)})
    assert PISCPaths().request.energies == {0, 2}
    assert PISCPaths().request.works == {Work(0, 0, 1), Work(1, 0, 1), Work(2, 2, 1), Work(1, 2, 1)}
    assert all(not kind().request.forces for kind in TERMS)


def test_a_term_needs_only_what_it_asked_for():
    """Works in place of forces, as the cheap way gives them."""
    at = points()
    for kind in TERMS:
        request = kind(K).request
        bare = PointPredictions(
            at.displacements,
            at.structure_index,
            at.n_atoms,
            {p: at.energies[p] for p in request.energies},
            {},
            {work: at.work(work) for work in request.works},
        )
        torch.testing.assert_close(kind(K).mismatch(bare), by_hand(kind.name))


def test_points_of_one_structure_need_no_index():
    energies, forces = numbers(2, 1), numbers(2, 5, 3)
    at = PointPredictions.of([(energies[0, 0], forces[0]), (energies[1, 0], forces[1])], [numbers(5, 3, seed=3)])
    assert at.n_structures == 1
    assert at.n_atoms.tolist() == [5]
    work = (at.displacements[0] * forces[0]).sum()
    torch.testing.assert_close(PITC(0.0).mismatch(at), energies[1] - (energies[0] - work))
    assert torch.equal(at.prediction(1).forces, forces[1])


@pytest.mark.parametrize("mixing", [-0.1, 0.6])
@pytest.mark.parametrize("kind", TERMS)
def test_mixing_outside_its_range_is_refused(kind, mixing):
    with pytest.raises(ConfigError, match="mixing"):
        kind(mixing=mixing)
