"""Trajectories in every format that the analysis reads."""

import warnings
from pathlib import Path

import numpy as np
from ase.build import bulk

from piwsl.md.protocol import MDProtocol
from piwsl.trajectories.files import create_trajectory, read_trajectory
from piwsl.trajectories.frame_writer import OutputFrame
from tests.fuzz.digest import digest_of
from tests.fuzz.harness import Target
from tests.fuzz.mutations import BYTES, TEXT
from tests.support.run_directories import write_trajectory

FRAMES = 12
COPPER = bulk("Cu", cubic=True)
CELLS = np.repeat(COPPER.cell.array[None], FRAMES, axis=0)


def _copper(path: Path) -> None:
    """Write a trajectory of copper in a format of piwsl, or in one of mdtraj."""
    noise = np.random.default_rng(0).normal(size=(FRAMES, len(COPPER), 3))
    positions = COPPER.positions + 0.05 * noise
    kind = path.suffix[1:]
    if kind in ("dcd", "xtc", "extxyz", "hdf5"):
        writer = create_trajectory(path, COPPER, MDProtocol.of(trajectory_format=kind))
        for number, place in enumerate(positions):
            writer.write(OutputFrame(number, 50.0 * number, place, CELLS[0]))
        writer.close()
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mdtraj writes NetCDF through scipy, and says so
        write_trajectory(path, positions, COPPER.numbers, CELLS)


def _topology(folder: Path) -> None:
    write_trajectory(folder / "topology.pdb", COPPER.positions[None], COPPER.numbers, CELLS[:1])


def _trajectory(path: Path) -> str:
    found = read_trajectory(path, path.with_name("topology.pdb"))
    return digest_of(found.positions, found.times)


TARGETS = [
    Target(f"trajectory-{kind}", f"a.{kind}", _copper, _trajectory, mutations, beside=_topology, seconds=seconds)
    for kind, mutations, seconds in (
        ("dcd", BYTES, 0.1),
        ("xtc", BYTES, 2),
        ("extxyz", TEXT, 0.1),
        ("hdf5", BYTES, 3),
        ("trr", BYTES, 2),
        ("nc", BYTES, 2),
        ("mdcrd", TEXT, 2),
        ("pdb", TEXT, 2),
        ("gro", TEXT, 2),
    )
]
