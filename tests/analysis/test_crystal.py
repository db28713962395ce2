"""Runs in periodic cells, from their files to the table."""

import json
from itertools import combinations

import numpy as np
import pytest
from ase.build import bulk, fcc111
from ase.neighborlist import neighbor_list
from ase.spacegroup import crystal

from piwsl.analysis.analyze import analyze
from piwsl.analysis.compare_run import compare_run
from piwsl.analysis.quantities.radial import compare_coordination
from piwsl.analysis.reference import Reference
from piwsl.analysis.reference_statistics import read_reference_statistics
from piwsl.analysis.run_directory import read_run
from piwsl.analysis.verdict import judge
from piwsl.errors import DataError
from piwsl.md.protocol import MDProtocol
from piwsl.trajectories.files import create_trajectory, open_trajectory
from piwsl.trajectories.frame_source import FrameSource
from piwsl.trajectories.frame_writer import OutputFrame

RUTILE = crystal(
    ["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.594, 4.594, 2.959, 90, 90, 90]
) * (1, 1, 2)
NUMBERS = RUTILE.numbers


def shaking(runs, frames, seed, amplitude=0.05, stretch=1.0, jump=True):
    """Positions and cells of rutile that shakes and drifts through the faces of its cell."""
    noise = runs.correlated(frames, 3 * len(RUTILE), 0.5, seed).reshape(frames, -1, 3)
    cells = np.repeat(stretch * RUTILE.cell.array[None], frames, axis=0)
    drift = np.cumsum(np.random.default_rng([seed, 2]).normal(scale=0.1, size=(frames, 1, 3)), axis=0)
    positions = RUTILE.get_scaled_positions() @ cells + amplitude * noise + drift
    if jump:
        fractions = positions @ np.linalg.inv(cells)
        positions = (fractions - np.floor(fractions)) @ cells
    return positions, cells


@pytest.fixture(scope="module")
def reference(runs):
    positions, cells = shaking(runs, 1500, 100)
    return Reference("mine", FrameSource.of_array(NUMBERS, positions, 50.0 * np.arange(1500), cells))


def compared(runs, path, reference, frames=1000, seed=1, change=None, **options):
    positions, cells = shaking(runs, frames, seed, **options)
    if change:
        change(positions)
    thermo = runs.thermal_rows(frames, len(NUMBERS), 500.0, seed=7)
    return compare_run(read_run(runs.write_run(path, positions, NUMBERS, thermo, cells=cells)), reference)


@pytest.mark.slow
@pytest.mark.parametrize("jump", [True, False])
def test_the_same_crystal_agrees(runs, tmp_path, reference, jump):
    found = compared(runs, tmp_path / "run", reference, jump=jump)
    words = judge(found)
    assert words.stability == "Stable for all 50 ps."
    assert not words.undecided
    assert len(words.differing) <= 0.2 * (len(words.differing) + len(words.agreeing))
    keys = {one.key for one in found.observables}
    assert {"rdf.O-Ti", "rdf.Ti-Ti", "coordination.O_around_Ti", "bond.O-Ti.mean", "angle.O-Ti-O.mean"} <= keys
    assert {"shape.volume_per_atom", "diffusion.Ti", "diffusion.O", "temperature"} <= keys
    assert not any(key.startswith(("h_of_r", "dihedral", "angle.Ti-Ti", "angle.O-Ti-Ti")) for key in keys)
    values = {one.key: one.run.value for one in found.observables if one.run is not None}
    assert values["coordination.O_around_Ti"] == pytest.approx(6, abs=0.05)
    assert values["coordination.Ti_around_O"] == pytest.approx(3, abs=0.05)
    assert values["bond.O-Ti.mean"] == pytest.approx(1.96, abs=0.03)
    assert values["shape.volume_per_atom"] == pytest.approx(RUTILE.get_volume() / len(RUTILE), rel=1e-5)
    assert abs(values["diffusion.Ti"]) < 1e-3
    assert {curve.family for curve in found.curves} == {"rdf", "msd"}
    json.dumps(found.as_dict(), allow_nan=False)


def test_equal_atoms_in_another_order_are_reported(runs, tmp_path):
    positions, cells = shaking(runs, 60, 100)
    few = Reference("mine", FrameSource.of_array(NUMBERS, positions, 50.0 * np.arange(60), cells))

    def reorder(positions):
        oxygens = np.flatnonzero(NUMBERS == 8)
        positions[:, oxygens] = positions[:, np.roll(oxygens, 1)]

    found = compared(runs, tmp_path / "run", few, frames=60, change=reorder)
    assert any(note.startswith("bonds and angles are not compared: ") for note in found.notes)
    assert not any("no bonds in the cell" in note for note in found.notes)
    keys = {one.key for one in found.observables}
    assert "rdf.O-Ti" in keys
    assert not any(key.startswith(("bond", "angle")) for key in keys)


@pytest.mark.slow
def test_several_crystal_runs_have_their_sentences(runs, tmp_path, reference):
    """The verdict asks for no quantity that only molecules have."""
    folders = []
    for seed in (1, 2):
        positions, cells = shaking(runs, 300, seed)
        folders.append(runs.write_run(tmp_path / f"run-{seed}", positions, NUMBERS, cells=cells))
    lines = analyze(folders, reference=reference).verdict.splitlines()
    assert [line.split(":")[0] for line in lines] == ["run-1", "run-2"]
    assert all("Stable for all 15 ps." in line and "agree with the reference" in line for line in lines)


@pytest.mark.slow
def test_angles_are_those_of_ase(runs, tmp_path, reference):
    found = compared(runs, tmp_path / "run", reference, amplitude=0.002, frames=20)
    values = {one.key: one.run.value for one in found.observables if one.run is not None}
    first, vectors = neighbor_list("iD", RUTILE, 2.3)
    for middle, number in (("Ti", 22), ("O", 8)):
        angles = [
            np.degrees(np.arccos(np.clip(one @ other / np.linalg.norm(one) / np.linalg.norm(other), -1, 1)))
            for atom in np.flatnonzero(NUMBERS == number)
            for one, other in combinations(vectors[first == atom], 2)
        ]
        kind = "O-Ti-O" if middle == "Ti" else "Ti-O-Ti"
        assert values[f"angle.{kind}.mean"] == pytest.approx(np.mean(angles), abs=0.6)  # bins of a degree
        assert values[f"angle.{kind}.width"] == pytest.approx(np.std(angles), abs=0.6)


@pytest.mark.slow
def test_a_larger_cell_and_hotter_atoms_differ(runs, tmp_path, reference):
    larger = judge(compared(runs, tmp_path / "larger", reference, stretch=1.01))
    assert {"shape.volume_per_atom", "bond.O-Ti.mean", "rdf.O-Ti"} <= {one.key for one in larger.differing}
    hotter = judge(compared(runs, tmp_path / "hotter", reference, amplitude=0.055))
    assert {"bond.O-Ti.width", "rdf.O-Ti", "angle.O-Ti-O.width"} <= {one.key for one in hotter.differing}


@pytest.mark.slow
def test_what_ends_the_stable_part(runs, tmp_path, reference):
    def hop(positions):
        positions[600:, 0, 0] += 0.6

    def collapse(positions):
        positions[600:, 0] = positions[600:, 1] + 0.7

    moved = compared(runs, tmp_path / "hop", reference, change=hop)
    assert moved.stable  # metals hop: their bonds have no length that must hold
    fallen = compared(runs, tmp_path / "fallen", reference, change=collapse)
    assert (fallen.stability.contact.frame, fallen.stability.contact.atoms) == (600, (0, 1))
    assert "the Ti-Ti pair of atoms 0 and 1 is " in judge(fallen).stability
    assert {one.key for one in fallen.observables} >= {"stable_time.contact", "rdf.O-O"}
    lost = compared(runs, tmp_path / "lost", reference, change=lambda p: p.__setitem__((700, 3), np.nan))
    assert lost.stability.frames == 700
    assert judge(lost).stability == "Not stable: broken at 35.05 ps of 50 ps; positions are not finite numbers."
    json.dumps(lost.as_dict(), allow_nan=False)


def test_a_bond_of_non_metals_must_hold(runs, tmp_path):
    carbide = bulk("SiC", "zincblende", a=4.36, cubic=True) * (2, 2, 1)
    rng = np.random.default_rng(1)
    positions = carbide.positions + rng.normal(scale=0.03, size=(200, len(carbide), 3))
    cells = np.repeat(carbide.cell.array[None], 200, axis=0)
    reference = Reference("mine", FrameSource.of_array(carbide.numbers, positions, cells=cells))
    changed = positions.copy()
    changed[150:, 4] += 0.6
    found = compare_run(read_run(runs.write_run(tmp_path / "run", changed, carbide.numbers, cells=cells)), reference)
    assert found.stability.broken.frame == 150
    assert found.stability.broken.kind == "C-Si"
    assert "stable_time.bond" in {one.key for one in found.observables}


def test_oxygens_that_collapse_are_seen_in_the_image(runs, tmp_path):
    """Two oxygens that are no bond fall together across a face, while no bond is far off."""
    argon = np.array([18, 18, 3, 9])
    cell = np.diag([12.0, 12, 12])
    positions = np.repeat(np.array([[0.2, 6, 6], [5.0, 6, 6], [3.0, 2, 2], [4.6, 2, 2]])[None], 50, axis=0)
    positions = positions + 0.01 * np.random.default_rng(0).normal(size=positions.shape)
    cells = np.repeat(cell[None], 50, axis=0)
    reference = Reference("mine", FrameSource.of_array(argon, positions, cells=cells))
    for frame in range(10, 50):  # walks through the face: never by half the cell in one frame
        positions[frame, 1, 0] = max(5.0 - 0.4 * (frame - 9), -10.0)
    run = read_run(runs.write_run(tmp_path / "run", positions, argon, cells=cells))
    found = compare_run(run, reference)
    assert found.stability.contact is not None
    assert found.stability.contact.atoms == (0, 1)
    assert found.stability.contact.kind == "Ar-Ar"
    assert found.stability.broken is None
    assert not found.stable
    assert "collapsed" in judge(found).stability


def test_a_liquid_of_atoms_needs_no_bonds(runs, tmp_path):
    argon = np.array([18] * 20)
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[:20] * 4.0
    cells = np.repeat(12 * np.eye(3)[None], 300, axis=0)
    first, second = (grid + 0.2 * np.random.default_rng(seed).normal(size=(300, 20, 3)) for seed in (1, 2))
    run = read_run(runs.write_run(tmp_path / "run", first, argon, cells=cells))
    found = compare_run(run, Reference("mine", FrameSource.of_array(argon, second, cells=cells)))
    assert found.stable
    assert found.compares_structure
    assert any(note.startswith("no bonds in the cell of mine") for note in found.notes)
    assert found["bonds"] == ()


@pytest.mark.parametrize("kind", ["dcd", "xtc", "extxyz", "hdf5"])
def test_a_slab_without_a_third_vector(tmp_path, kind):
    """As the trajectories of piwsl md hold it: neighbors across the sides, none above and below."""
    slab = fcc111("Cu", (4, 4, 3))
    writer = create_trajectory(tmp_path / f"trajectory.{kind}", slab, MDProtocol(trajectory_format=kind))
    rng = np.random.default_rng(1)
    for step in range(1, 41):
        positions = slab.positions + rng.normal(scale=0.05, size=slab.positions.shape)
        writer.write(OutputFrame(step, 0.5 * step, positions, cell=slab.cell.array))
    writer.close()
    frames = open_trajectory(tmp_path / f"trajectory.{kind}").source(slab.numbers)
    radial = Reference("slab", frames).statistics.measured["rdf"]["Cu-Cu"]
    (around,) = compare_coordination("Cu-Cu", radial, radial)
    assert around.run.value == pytest.approx((12 + 9 + 9) / 3, abs=0.01)


def test_saved_statistics_say_the_same(runs, tmp_path, reference):
    reference.save_statistics(tmp_path / "r.npz")
    loaded = read_reference_statistics(tmp_path / "r.npz")
    assert loaded.is_periodic
    positions, cells = shaking(runs, 300, 3)
    run = read_run(runs.write_run(tmp_path / "run", positions, NUMBERS, cells=cells))
    ours, theirs = (json.dumps(compare_run(run, one).as_dict()) for one in (reference, loaded))
    assert ours == theirs
    assert (tmp_path / "r.npz").stat().st_size < 2_000_000


@pytest.mark.slow
def test_one_side_in_a_cell_is_a_molecule_in_vacuum(runs, tmp_path):
    """A molecule that crosses the faces of the box of another program."""
    box = 15 * np.eye(3)
    cells = np.repeat(box[None], 400, axis=0)
    free = runs.shaking(400, seed=5) * 1.0
    slow = free - free.mean(axis=1, keepdims=True) + np.linspace(0, 40, 400)[:, None, None]
    whole = slow[:1] - np.floor(slow[:1].mean(axis=1, keepdims=True) / 15) * 15
    jumping = np.concatenate([whole, slow[1:] - np.floor(slow[1:] / 15) * 15])
    alone = Reference.of_frames("vacuum", runs.ETHANOL.numbers, runs.shaking(400, seed=6))
    boxed = Reference("boxed", FrameSource.of_array(runs.ETHANOL.numbers, jumping, cells=cells))
    run = read_run(runs.write_run(tmp_path / "run", jumping, cells=cells))
    found = compare_run(run, alone)
    assert "the cell of the run is ignored, because vacuum has no cell" in found.notes
    assert "h_of_r" in found
    assert found.stable
    other = compare_run(read_run(runs.write_run(tmp_path / "other", runs.shaking(400, seed=7))), boxed)
    assert "the cell of boxed is ignored, because the run has no cell" in other.notes
    assert other.stable
    boxed.save_statistics(tmp_path / "boxed.npz")
    with pytest.raises(DataError, match="contains statistics of a periodic cell, but the run has no cell"):
        compare_run(other.run, read_reference_statistics(tmp_path / "boxed.npz"))


def test_another_order_of_atoms_is_refused(runs, tmp_path, reference):
    positions, cells = shaking(runs, 20, 1)
    order = np.argsort(NUMBERS, kind="stable")
    run = read_run(runs.write_run(tmp_path / "run", positions[:, order], NUMBERS[order], cells=cells))
    with pytest.raises(DataError, match="have their atoms in different order"):
        compare_run(run, reference)
