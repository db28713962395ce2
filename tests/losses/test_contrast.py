"""The contrast with the dynamics of the model: physics of the chains, sign of the term, division and restart."""

import numpy as np
import pytest
import torch

from piwsl.losses.contrast import POOL, Chain, ChainSettings, Contrast
from piwsl.units import ACCELERATION, BOLTZMANN
from tests.support.molecules import cell, frame
from tests.support.potentials import painn

FRAMES = [frame("H2O", seed=seed) for seed in range(3)] + [cell(seed=1), frame("CH4")]


def contrast(frames=FRAMES, rank=0, processes=1, **settings):
    return Contrast(frames, ChainSettings(**{"chains": 5, **settings}), 3.0, seed=7, rank=rank, processes=processes)


def test_chains_sample_the_distribution_of_their_temperature():
    """Independent oscillators: <x^2> = kT / k, and 3/2 kT of kinetic energy an atom."""
    settings, stiffness, atoms = ChainSettings(temperature=300.0, timestep=0.5, friction=0.02), 20.0, 3000
    masses = np.full(atoms, 12.0)
    chain = Chain(0, 0, np.zeros((atoms, 3)), np.zeros((atoms, 3)), masses, 10_000)
    squares, kinetic = [], []
    for step in range(1500):
        chain.move(-stiffness * chain.positions, settings, np.random.default_rng((1, step)))
        if step >= 500 and step % 20 == 0:
            squares.append(np.mean(chain.positions**2))
            kinetic.append(0.5 * np.mean((masses[:, None] * chain.velocities**2).sum(1)) / ACCELERATION)
    thermal = BOLTZMANN * 300.0
    assert np.mean(squares) == pytest.approx(thermal / stiffness, rel=0.02)
    assert np.mean(kinetic) == pytest.approx(1.5 * thermal, rel=0.02)


def test_the_term_raises_the_energy_of_the_chains_against_the_data():
    potential, term = painn(layers=1), contrast()
    with torch.no_grad():
        before = [chain.positions.copy() for chain in term.chains]
    value = term(potential, 0).mean()
    value.backward()
    with torch.no_grad():
        for weight in potential.parameters():
            if weight.grad is not None:
                weight -= 1e-4 * weight.grad
    for chain, positions in zip(term.chains, before, strict=True):
        assert not np.array_equal(chain.positions, positions)
        chain.positions = positions  # the same structures and partners again
    assert float(term(potential, 0).mean().detach()) < float(value.detach())


def test_reference_energies_cancel():
    """A chain is compared with a frame of its own composition, also in a mixture of molecules and cells."""
    potential, term = painn(layers=1), contrast(chains=12)
    starts = {chain.start for chain in term.chains}
    assert {3, 4} & starts
    assert {0, 1, 2} & starts
    values = term(potential, 0).detach()
    term = contrast(chains=12)
    potential.reference_energies += 1000.0 * torch.arange(len(potential.reference_energies))
    assert torch.allclose(term(potential, 0).detach(), values, rtol=0, atol=1e-6)


def test_processes_share_the_chains_of_one():
    potential = painn(layers=1)
    alone, shares = contrast(), [contrast(rank=rank, processes=2) for rank in range(2)]
    assert [[chain.index for chain in share.chains] for share in shares] == [[0, 2, 4], [1, 3]]
    for step in range(3):
        whole = alone(potential, step).detach()
        parts = [share(potential, step).detach() for share in shares]
        assert torch.equal(whole[0::2], parts[0])
        assert torch.equal(whole[1::2], parts[1])
    assert contrast(rank=5, processes=6)(potential, 0).shape == (0,)


def test_a_stored_state_continues_the_same_chains():
    potential, term = painn(layers=1), contrast()
    for step in range(3):
        term(potential, step)
    other = contrast()
    other.load_state(term.state())
    for step in range(3, 6):
        assert torch.equal(term(potential, step), other(potential, step))


@pytest.mark.parametrize("fault", ["age", "heat", "nan"])
def test_a_chain_that_is_over_starts_again_from_the_data(fault):
    potential, term = painn(layers=1), contrast(chains=1)
    chain = term.chains[0]
    if fault == "age":
        chain.steps_left = 0
    elif fault == "heat":
        chain.velocities *= 3.0
    else:
        chain.positions[0, 0] = np.nan
    assert torch.isfinite(term(potential, 5)).all()
    assert term.chains[0] is not chain
    assert term.chains[0].steps_left > 0


def test_chains_start_at_random_frames_with_random_lifetimes():
    chains = contrast(chains=200, lifetime=50).chains
    lifetimes = [chain.steps_left for chain in chains]
    assert set(lifetimes) <= set(range(1, 51))
    assert len(set(lifetimes)) > 25
    assert {chain.start for chain in chains} == set(range(len(FRAMES)))


def test_a_large_data_set_is_not_read_whole():
    class Counting(list):
        reads = 0

        def __getitem__(self, index):
            Counting.reads += 1
            return super().__getitem__(index)

        def __iter__(self):
            raise AssertionError("the whole data set was read")

    frames = Counting([FRAMES[0]] * (POOL + 10))
    assert len(contrast(frames).frames) == POOL
    assert Counting.reads == POOL
