"""Velocity autocorrelation functions that are known, from velocities and from positions."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

from piwsl.analysis.quantities.spectrum import VibrationCounter, correlation_curve, frame_interval
from piwsl.analysis.quantity import Frames
from piwsl.md.protocol import MDProtocol
from piwsl.trajectories.files import create_trajectory, open_trajectory
from piwsl.trajectories.frame_source import FrameSource
from piwsl.trajectories.frame_writer import OutputFrame
from piwsl.units import SPEED_OF_LIGHT

CO = np.array([6, 8])


def vibrations_of(positions, interval, velocities=None, species=CO):
    source = FrameSource.of_array(species, positions, interval * np.arange(1, len(positions) + 1))
    if velocities is not None:
        source = replace(
            source, read_velocities=lambda: (velocities[i : i + 700] for i in range(0, len(velocities), 700))
        )
    counter = VibrationCounter(source, len(positions))
    for first, piece in source.pieces():
        counter.add(Frames(first, piece))
    return counter.statistics()


def stretch(frames, interval, wave, damping=0.0):
    """Positions and velocities of C and O against each other, undamped or shaken by a bath."""
    omega = 2 * np.pi * SPEED_OF_LIGHT * wave
    times = interval * np.arange(frames)
    moves, speeds = np.sin(omega * times), omega * np.cos(omega * times)
    positions, velocities = (np.zeros((frames, 2, 3)) for _ in range(2))
    for values, along in ((positions, moves), (velocities, speeds)):
        values[:, 0, 0], values[:, 1, 0] = 15.999e-3 * along, -12.011e-3 * along
    return positions, velocities


@pytest.mark.parametrize("from_velocities", [False, True])
def test_a_stretch_is_correlated_as_a_cosine(from_velocities):
    interval, wave = 2.0, 1200.0
    positions, velocities = stretch(20_000, interval, wave)
    found = vibrations_of(positions, interval, velocities if from_velocities else None)
    curve = correlation_curve(found, None).run
    assert curve.y[0] == 1
    assert np.abs(curve.y - np.cos(2 * np.pi * SPEED_OF_LIGHT * wave * curve.x)).max() < 0.01
    assert curve.x[-1] == pytest.approx(0.5e3 / (10 * SPEED_OF_LIGHT) / 1e3, abs=2 * interval)


def test_forgetful_velocities_decay():
    """A random walk in velocity space that forgets at a rate: C(t) is its exponential, within its error."""
    rng = np.random.default_rng(2)
    interval, memory, frames = 4.0, 200.0, 60_000
    keep = np.exp(-interval / memory)
    speed = np.zeros(frames)
    for frame, kick in enumerate(rng.normal(size=frames - 1), start=1):
        speed[frame] = keep * speed[frame - 1] + np.sqrt(1 - keep**2) * kick
    velocities = np.zeros((frames, 2, 3))
    velocities[:, 0, 1], velocities[:, 1, 1] = 15.999 * speed, -12.011 * speed
    curve = correlation_curve(vibrations_of(np.zeros_like(velocities), interval, velocities), None).run
    inside = curve.x < 600
    pulls = (curve.y - np.exp(-curve.x / memory))[inside][1:] / (curve.high - curve.y)[inside][1:]
    assert np.abs(pulls).max() < 4.5
    assert np.abs(curve.y - np.exp(-curve.x / memory))[inside].max() < 0.12


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["extxyz", "hdf5"])
def test_velocities_come_from_the_files_of_a_run(tmp_path, kind):
    positions, velocities = stretch(1900, 2.0, 1200.0)
    molecule = Atoms(CO, positions[0])
    protocol = MDProtocol(trajectory_format=kind, write=("velocities",), trajectory_interval=4)
    writer = create_trajectory(tmp_path / f"trajectory.{kind}", molecule, protocol)
    for frame in range(len(positions)):
        writer.write(OutputFrame(frame, 2.0 * (frame + 1), positions[frame], velocities=velocities[frame]))
    writer.close()
    source = open_trajectory(tmp_path / f"trajectory.{kind}").source(CO)
    found = np.concatenate([piece for _, piece in source.velocities()])
    assert found.shape == velocities.shape
    assert np.allclose(found, velocities, atol=1e-7)
    swapped = source.reordered(np.array([1, 0]))
    assert np.array_equal(next(iter(swapped.velocities()))[1], found[:1000, ::-1])
    counter = VibrationCounter(source, 1900)
    for first, piece in source.pieces():
        counter.add(Frames(first, np.zeros_like(piece)))  # positions are not looked at
    assert counter.statistics().curve.y[1] == pytest.approx(np.cos(2 * np.pi * SPEED_OF_LIGHT * 1200 * 2), abs=1e-3)


def test_frames_far_apart_or_without_times_have_no_vibrations():
    positions, _ = stretch(4000, 2.0, 1200.0)
    assert vibrations_of(positions, 8.0) is None
    assert vibrations_of(positions[:100], 2.0) is None
    assert frame_interval(None) is None
    assert frame_interval(np.array([1.0, 2.0, 4.0])) is None
    assert frame_interval(np.array([1.0, 2.0, 3.0])) == 1
