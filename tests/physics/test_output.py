"""What a run writes belongs together: energies, velocities, forces, cells and densities of one step."""

import csv

import h5py
import numpy as np
import pytest
from ase.build import bulk
from ase.io import read

from piwsl import PiwslCalculator
from piwsl.md.engines.base import kinetic_energy
from piwsl.md.protocol import MDProtocol
from piwsl.md.run import run_protocol
from tests.support.argon import argon_model

EVERY = 20
GRAM_PER_AMU = 1.66053906892e-24


@pytest.fixture(scope="module", params=["openmm", "ase"])
def written(request, tmp_path_factory):
    """Directories of the same run of a crystal in npt as extended XYZ and as HDF5, and its model."""
    folder = tmp_path_factory.mktemp("written")
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True)
    model = argon_model(folder / "argon.pt")
    for kind in ("extxyz", "hdf5"):
        protocol = MDProtocol.of(
            engine=request.param, ensemble="npt", temperature=30, timestep=5, steps=200, trajectory_interval=EVERY,
            report_interval=EVERY, trajectory_format=kind, write=("velocities", "forces"),
        )  # fmt: skip
        run_protocol(atoms, model, protocol, folder / kind)
    return folder, model


@pytest.mark.slow
def test_energies_forces_and_density_are_those_of_the_frames(written):
    folder, model = written
    with (folder / "extxyz" / "thermo.csv").open() as file:
        rows = list(csv.DictReader(file))
    frames = read(folder / "extxyz" / "trajectory.extxyz", ":")
    assert [int(row["step"]) for row in rows] == [frame.info["step"] for frame in frames] == list(range(20, 201, 20))
    calculator = PiwslCalculator(model)
    volumes = []
    for row, frame in zip(rows, frames, strict=True):
        forces, velocities = frame.get_forces(), frame.arrays["velocities"]
        assert kinetic_energy(frame.get_masses(), velocities) == pytest.approx(float(row["kinetic [eV]"]), rel=1e-4)
        frame.calc = calculator
        assert frame.get_potential_energy() == pytest.approx(float(row["potential [eV]"]), abs=1e-5)
        assert forces == pytest.approx(frame.get_forces(), abs=1e-5)
        assert float(row["volume [A^3]"]) == pytest.approx(frame.get_volume(), rel=1e-6)
        density = frame.get_masses().sum() * GRAM_PER_AMU / (frame.get_volume() * 1e-24)
        assert float(row["density [g/cm^3]"]) == pytest.approx(density, rel=1e-5)
        volumes.append(frame.get_volume())
    assert np.ptp(volumes) > 0.01  # the box did move


@pytest.mark.slow
def test_hdf5_holds_the_same(written):
    folder, _ = written
    frames = read(folder / "extxyz" / "trajectory.extxyz", ":")
    with h5py.File(folder / "hdf5" / "trajectory.hdf5") as file:
        for name, factor, expected in (
            ("coordinates", 10, [frame.positions for frame in frames]),
            ("velocities", 0.01, [frame.arrays["velocities"] for frame in frames]),
            ("forces", 1, [frame.get_forces() for frame in frames]),
            ("cell_lengths", 10, [frame.cell.lengths() for frame in frames]),
            ("cell_angles", 1, [frame.cell.angles() for frame in frames]),
        ):
            assert file[name][:] * factor == pytest.approx(np.array(expected), rel=1e-5, abs=1e-5)
