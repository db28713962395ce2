"""The consistency terms on fields whose answers are known: orders of the residual, harmonic fields, curls.

Every term is asked for in both ways: as works by forward differentiation, and from forces.
"""

import numpy as np
import pytest
import torch

from piwsl.data.batch import collate
from piwsl.losses import PISC, PITC, Displacement, FrameRandom, PISCPaths, PITCBack
from piwsl.losses.evaluation import evaluate
from piwsl.losses.predictions import PredictionRequest
from tests.support.molecules import cell, frame
from tests.support.potentials import STIFFNESS, curling_springs, lennard_jones, morse, springs

TERMS = [PITC, PITCBack, PISC, PISCPaths]
LENGTHS = np.array([0.02, 0.01, 0.005])


def mismatch(term, potential, batch, steps, route="works"):
    request = term.request
    if route == "forces":
        request = PredictionRequest.union([request, PredictionRequest(forces=frozenset(range(request.copies + 1)))])
    return term.mismatch(evaluate(potential, batch, steps, request)).detach()


def molecules():
    return collate([frame("CH3CH2OH")], 12.0, torch.float64)


def unit_steps(batch, seed=0):
    """Two displacements of one angstrom."""
    return [step / 0.05 for step in Displacement().copies(2, batch, FrameRandom(seed, 0), springs())]


def order(term, potential, batch, route="works", lengths=LENGTHS):
    steps = unit_steps(batch)
    sizes = [
        float(mismatch(term, potential, batch, [length * step for step in steps], route).abs()) for length in lengths
    ]
    return np.polyfit(np.log(lengths), np.log(sizes), 1)[0]


def crossing_cell():
    """A cell with a cutoff at the very distance of two atoms, which one step brings closer and the other parts."""
    structure = cell(repeat=(2, 1, 1))
    batch = collate([structure], 7.0, torch.float64)
    vectors = batch.edge_vectors()
    first, second = (((step[batch.edges[1]] - step[batch.edges[0]]) * vectors).sum(-1) for step in unit_steps(batch))
    distances = vectors.norm(dim=-1)
    both = torch.minimum(first, -second) / distances
    return float(distances[torch.where(distances > 5.0, both, -1.0).argmax()]), structure


@pytest.mark.parametrize("route", ["works", "forces"])
@pytest.mark.parametrize(("mixing", "expected"), [(0.0, 2), (0.25, 2), (0.5, 3)])
@pytest.mark.parametrize("term", TERMS)
def test_order_of_the_residual_on_morse_and_in_a_cell_whose_atoms_cross_the_cutoff(term, mixing, expected, route):
    assert order(term(mixing), morse(), molecules(), route) == pytest.approx(expected, abs=0.1)
    cutoff, structure = crossing_cell()
    batch = collate([structure], cutoff + 2.0 * LENGTHS[0], torch.float64)
    for length in LENGTHS:
        inside, *moved = (
            batch.moved(batch.positions + length * step).edge_vectors().norm(dim=-1) <= cutoff
            for step in (torch.zeros_like(batch.positions), *unit_steps(batch))
        )
        assert (inside & ~moved[0]).any()
        assert (~moved[0] & moved[1]).any()
    assert order(term(mixing), lennard_jones(cutoff), batch, route) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("term", TERMS)
def test_second_order_is_exact_for_a_harmonic_field_and_first_order_is_not(term):
    batch = molecules()
    steps = [0.1 * step for step in unit_steps(batch)]
    assert float(mismatch(term(0.5), springs(), batch, steps).abs()) < 1e-10
    assert float(mismatch(term(0.0), springs(), batch, steps).abs()) > 1e-2
    assert order(term(0.0), springs(), batch) == pytest.approx(2, abs=0.01)
    assert order(term(0.25), springs(), batch) == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize("term", TERMS)
def test_forces_of_their_own_with_a_curl_are_seen_at_any_mixing(term):
    """Where no energy belongs to the forces the mismatch is of first order."""
    batch = molecules()
    steps = [0.1 * step for step in unit_steps(batch)]
    assert float(mismatch(term(0.5), curling_springs(0.0), batch, steps).abs()) < 1e-10
    assert float(mismatch(term(0.5), curling_springs(), batch, steps).abs()) > 1e-2
    for mixing in (0.0, 0.25, 0.5):
        assert order(term(mixing), curling_springs(), batch, lengths=0.02 * LENGTHS) == pytest.approx(1, abs=0.1)


def test_pisc_sees_a_curl_without_the_energy_of_the_structure():
    batch = molecules()
    steps = [0.1 * step for step in unit_steps(batch)]
    request = PISC().request
    assert request.energies == {1, 2}
    assert 0 not in request.points
    assert float(PISC()(evaluate(curling_springs(), batch, steps, request))[0]) > 1e-4
    assert float(PISC()(evaluate(springs(), batch, steps, request))[0]) < 1e-20


def test_the_residual_of_pitc_is_half_the_curvature_along_the_step():
    """PITC at k = 0: E(S_d) - E(S) + d.F(S) = d.H.d / 2, exactly in a harmonic field."""
    batch = molecules()
    (step,) = (0.1 * one for one in unit_steps(batch)[:1])
    vectors = step[batch.edges[1]] - step[batch.edges[0]]
    curvature = 0.5 * float((vectors @ STIFFNESS * vectors).sum())
    found = float(mismatch(PITC(0.0), springs(), batch, [step]))
    assert found == pytest.approx(0.5 * curvature, rel=1e-10)
    assert float(mismatch(PITCBack(0.0), springs(), batch, [step])) == pytest.approx(0.5 * curvature, rel=1e-10)
