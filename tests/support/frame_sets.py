"""Sets of frames with all that a file may have to hold: sizes, cells, missing labels."""

import numpy as np

from piwsl.data.frames import Frame, FrameSet
from tests.support.molecules import frame


def periodic_frame(seed=0, **labels):
    """Six atoms in a skew cell."""
    rng = np.random.default_rng(seed)
    cell = np.array([[4.1, 0.0, 0.0], [0.7, 3.9, 0.0], [-0.3, 0.5, 5.2]]) + rng.normal(0, 0.01, (3, 3))
    species = np.array([22, 22, 8, 8, 8, 8])
    content = {"energy": -900.0 + rng.normal(), "forces": rng.normal(size=(6, 3)), **labels}
    return Frame(species, rng.uniform(0.5, 4.0, (6, 3)), cell=cell, pbc=(True, True, True), **content)


def symmetric_stress(seed=0):
    """A stress tensor (3, 3) in eV/angstrom^3."""
    tensor = np.random.default_rng(seed).normal(0, 0.01, (3, 3))
    return tensor + tensor.T


def mixed_frames():
    """Molecules and cells; each label is missing somewhere, alone and with others."""
    water, ethanol = frame("H2O", labeled=True), frame("CH3CH2OH", seed=1, labeled=True)
    none = np.full((3, 3), np.nan)
    slab = periodic_frame(4, energy=np.nan)
    return FrameSet(
        [
            water,
            Frame(ethanol.species, ethanol.positions, np.nan, ethanol.forces),
            Frame(water.species, water.positions + 0.1, -3.5, none),
            frame("C6H6"),
            periodic_frame(2, stress=symmetric_stress()),
            periodic_frame(3),
            Frame(slab.species, slab.positions, np.nan, slab.forces, slab.cell, (True, True, False)),
        ]
    )


def assert_same_frames(found, expected, precision=0.0):
    """Equal frame by frame, to a precision of positions and labels; missing labels are missing."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one.species, other.species)
        assert one.species.dtype == np.int64
        assert one.pbc == other.pbc
        for name in ("positions", "energy", "forces", "cell", "stress"):
            a, b = np.asarray(getattr(one, name)), np.asarray(getattr(other, name))
            assert a.dtype == np.float64, name
            assert a.shape == b.shape, name
            assert np.allclose(a, b, rtol=0, atol=precision, equal_nan=True), name


def random_water_file(path, frames):
    """Write random labels on frames of water to an npz file that states no units."""
    waters = [frame("H2O", seed=seed, labeled=True) for seed in range(frames)]
    np.savez(
        path,
        nuclear_charges=waters[0].species,
        coords=[water.positions for water in waters],
        energies=[water.energy for water in waters],
        forces=[water.forces for water in waters],
    )
