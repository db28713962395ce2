"""The same frames in every format that the documentation names, of molecule and crystal, as run and as reference."""

import numpy as np
import pytest
from ase.build import bulk

from piwsl.analysis.compare_run import compare_run
from piwsl.analysis.reference import read_reference
from piwsl.analysis.run_directory import read_run
from piwsl.errors import DataError
from piwsl.md.protocol import MDProtocol
from piwsl.trajectories.files import create_trajectory
from piwsl.trajectories.frame_source import first_frame
from piwsl.trajectories.frame_writer import OutputFrame

FRAMES = 20
OWN = ("dcd", "xtc", "extxyz", "hdf5")
OTHERS = ("trr", "nc", "mdcrd", "pdb", "gro")
ROUNDED = {"xtc": 0.01, "pdb": 0.001, "mdcrd": 0.001, "gro": 0.01}  # angstrom
FAST = ("xtc", "trr")
WITHOUT_TIMES = ("dcd", "mdcrd", "pdb")

COPPER = bulk("Cu", cubic=True).repeat(2)
CELLS = np.repeat(COPPER.cell.array[None], FRAMES, axis=0)


@pytest.fixture(scope="module")
def frames(runs):
    noise = runs.correlated(FRAMES, 3 * len(COPPER), 0.3, seed=3).reshape(FRAMES, -1, 3)
    return {"molecule": runs.shaking(FRAMES, seed=3), "crystal": COPPER.positions + 0.05 * noise}


def write(path, runs, kind, positions, atoms, cells):
    if kind in OTHERS:
        runs.write_trajectory(path, positions, atoms.numbers, cells)
        return
    writer = create_trajectory(path, atoms, MDProtocol.of(trajectory_format=kind))
    for number, place in enumerate(positions):
        writer.write(OutputFrame(number, 50.0 * number, place, None if cells is None else cells[0]))
    writer.close()


def is_histogram(key):
    return key.startswith(("rdf", "h_of_r")) or key.endswith("distribution")


def table(comparison):
    return {row.key: row.run or row.difference.measured for row in comparison.observables}


@pytest.fixture(scope="module")
def expected(runs, frames, tmp_path_factory):
    """Of both systems the run in DCD, and its table against itself in extended XYZ, which rounds least."""
    made = {}
    for system, atoms, cells in (("molecule", runs.ETHANOL, None), ("crystal", COPPER, CELLS)):
        folder = tmp_path_factory.mktemp(system)
        run = read_run(runs.write_run(folder / "run", frames[system], atoms.numbers, cells=cells))
        write(folder / "t.extxyz", runs, "extxyz", frames[system], atoms, cells)
        made[system] = run, table(compare_run(run, read_reference(folder / "t.extxyz")))
    return made


@pytest.mark.filterwarnings("ignore:Warning. The 'netCDF4' Python package is not installed:UserWarning")
@pytest.mark.filterwarnings("ignore:Unlikely unit cell vectors detected in PDB file:UserWarning")
@pytest.mark.parametrize("system", ["molecule", "crystal"])
@pytest.mark.parametrize(
    "kind", ["xtc", "trr", *(pytest.param(kind, marks=pytest.mark.slow) for kind in OWN + OTHERS if kind not in FAST)]
)
def test_a_reference_in_any_format_gives_the_same_table(kind, system, frames, expected, runs, tmp_path):
    atoms, cells = (runs.ETHANOL, None) if system == "molecule" else (COPPER, CELLS)
    path = tmp_path / f"t.{kind}"
    write(path, runs, kind, frames[system], atoms, cells)
    run, wanted = expected[system]
    topology = None if kind in ("extxyz", "hdf5", "pdb", "gro") else run.path / "topology.pdb"
    reference = read_reference(path, topology)
    assert (first_frame(reference.frames)[1] is None) == (cells is None)
    assert (reference.times is None) == (kind in WITHOUT_TIMES)
    found = table(compare_run(run, reference))
    keys = [key for key in found if not key.startswith(("diffusion", "spectrum"))]  # these need times
    assert keys == [key for key in wanted if not key.startswith(("diffusion", "spectrum"))]
    for key in keys:
        # Of twenty frames, a value that rounding moves to another bin counts.
        slack = 1.0 if is_histogram(key) and kind in ROUNDED else 20 * ROUNDED.get(kind, 1e-3)
        assert found[key].value == pytest.approx(wanted[key].value, abs=slack, rel=1e-3), key


@pytest.mark.parametrize("system", ["molecule", "crystal"])
@pytest.mark.parametrize("kind", ["xtc", *(pytest.param(kind, marks=pytest.mark.slow) for kind in OWN[2:])])
def test_a_run_in_any_format_gives_the_same_table(kind, system, frames, expected, runs, tmp_path):
    atoms, cells = (runs.ETHANOL, None) if system == "molecule" else (COPPER, CELLS)
    run = runs.write_run(tmp_path / "run", frames[system], atoms.numbers, cells=cells)
    (run / "trajectory.dcd").unlink()
    write(run / f"trajectory.{kind}", runs, kind, frames[system], atoms, cells)
    reference = read_reference(expected[system][0].path / "trajectory.dcd", run / "topology.pdb")
    found = table(compare_run(read_run(run), reference))
    for key, wanted in expected[system][1].items():
        slack = 1.0 if is_histogram(key) and kind in ROUNDED else 0.2 if kind in ROUNDED else 0.02
        assert found[key].value == pytest.approx(wanted.value, abs=slack, rel=1e-3), key


def test_times_that_do_not_increase_are_not_used(runs, frames, tmp_path):
    writer = create_trajectory(tmp_path / "t.xtc", runs.ETHANOL, MDProtocol.of(trajectory_format="xtc"))
    for number, place in enumerate(frames["molecule"][:3]):
        writer.write(OutputFrame(number, (0.0, 50.0, np.nan)[number], place))
    writer.close()
    run = runs.write_run(tmp_path / "run", frames["molecule"])
    reference = read_reference(tmp_path / "t.xtc", run / "topology.pdb")
    assert reference.times is None
    assert "the times in t.xtc do not increase and are ignored" in reference.notes


def test_an_hdf5_reference_brings_its_elements(runs, frames, tmp_path):
    path = tmp_path / "t.hdf5"
    write(path, runs, "hdf5", frames["molecule"], runs.ETHANOL, None)
    assert read_reference(path).species.tolist() == runs.ETHANOL.numbers.tolist()
    content = path.read_bytes().replace(b'"element": "O"', b'"element": "Q"')
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"t.hdf5: its topology is damaged \(no entry 'Q'\)"):
        read_reference(path)
