"""The numbers of an analysis beside those of mdtraj, ASE and plain numpy, on real trajectories of aspirin."""

import re
from dataclasses import dataclass
from pathlib import Path

import mdtraj
import numpy as np
import pytest
from ase import Atoms
from ase.data import atomic_masses
from scipy.spatial.transform import Rotation

from piwsl.analysis.compare_run import compare_run
from piwsl.analysis.reference import Reference, bundled_reference, read_reference
from piwsl.analysis.run_directory import Run
from piwsl.runs.summary import MDSummary
from piwsl.trajectories.frame_source import FrameSource
from piwsl.units import NANOMETER
from tests.support.run_directories import topology_of, write_run

BINS, RANGE = 500, 10.0


@dataclass(frozen=True)
class Halves:
    species: np.ndarray
    first: np.ndarray
    second: np.ndarray
    found: dict

    def angstrom(self, positions):
        return mdtraj.Trajectory(np.asarray(positions, dtype=np.float32) / NANOMETER, topology_of(self.species))


def run_of(positions, species, tmp_path):
    times = 50.0 * np.arange(1, len(positions) + 1)
    summary = {
        "system": {"name": "aspirin"},
        "ensemble": "nvt",
        "temperature_K": 500.0,
        "timestep_fs": 50.0,
        "steps_requested": len(positions),
        "steps_done": len(positions),
        "trajectory_interval": 1,
        "result": "completed",
    }
    return Run(tmp_path, MDSummary.model_validate(summary), FrameSource.of_array(species, positions, times), None)


def halves_of(reference, tmp_path):
    first, second = np.array_split(reference.frames.all(), 2)
    compared = compare_run(
        run_of(first, reference.species, tmp_path), Reference.of_frames("second", reference.species, second)
    )
    return Halves(reference.species, first, second, {one.key: one for one in compared.observables})


@pytest.fixture(scope="module", params=["bundled", "rMD17"])
def halves(request, tmp_path_factory):
    if request.param == "bundled":
        reference = bundled_reference("aspirin")
    else:
        reference = read_reference(request.getfixturevalue("real_data") / "rmd17_aspirin.npz")
    return halves_of(reference, tmp_path_factory.mktemp("run"))


def bonded(species, positions):
    """Chemist's bonds by distance, without the rule of the package."""
    largest = {(6, 6): 1.8, (6, 8): 1.75, (1, 6): 1.4, (1, 8): 1.35}
    mean = np.zeros((len(species),) * 2)
    for frame in positions:
        mean += Atoms(species, frame).get_all_distances()
    mean /= len(positions)
    pairs = [(i, j) for i in range(len(species)) for j in range(i)]
    return [(i, j) for i, j in pairs if mean[i, j] < largest.get(tuple(sorted((species[i], species[j]))), 0.0)]


def test_two_halves_of_one_trajectory_agree(halves):
    verdicts = [one.agrees for one in halves.found.values() if one.difference is not None]
    assert len(verdicts) > 60
    differences = [one.difference for one in halves.found.values() if one.difference is not None]
    samples = [entry.measured.samples for entry in differences if entry.agrees is None]
    assert max(samples, default=0) < 8  # too few to tell, and only there
    decided = [verdict for verdict in verdicts if verdict is not None]
    assert len(decided) > 40
    assert decided.count(True) >= 0.92 * len(decided)


def test_h_of_r_is_that_of_mdtraj_and_numpy(halves):
    pairs = np.array(np.triu_indices(len(halves.species), 1)).T
    kinds = np.sort(halves.species[pairs], axis=1)
    densities = []
    for positions in (halves.first, halves.second):
        distances = NANOMETER * mdtraj.compute_distances(halves.angstrom(positions), pairs, periodic=False)
        chosen = [distances, distances[:, (kinds == [1, 6]).all(axis=1)]]
        densities.append([np.histogram(one, BINS, (0, RANGE), density=True)[0] for one in chosen])
    for key, one, other in zip(("h_of_r", "h_of_r.C-H"), *densities, strict=True):
        gap = (one - other) * RANGE / BINS
        assert halves.found[key].difference.measured.value == pytest.approx(np.abs(gap).sum(), abs=2e-4)
        moved = np.abs(np.cumsum(gap)).sum() * RANGE / BINS
        assert halves.found[f"{key}.wasserstein"].difference.measured.value == pytest.approx(moved, abs=2e-4)


@pytest.mark.slow
def test_bonds_are_those_of_ase(halves):
    bonds = bonded(halves.species, halves.second[::10])
    assert len(bonds) == 21
    symbols = {6: "C", 8: "O", 1: "H"}
    for kind, key in (({"C"}, "C-C"), ({"C", "O"}, "C-O"), ({"C", "H"}, "C-H"), ({"O", "H"}, "O-H")):
        chosen = [(i, j) for i, j in bonds if {symbols[int(halves.species[k])] for k in (i, j)} == kind]
        for positions, side in ((halves.first, "run"), (halves.second, "reference")):
            lengths = np.array([Atoms(halves.species, frame).get_all_distances() for frame in positions])
            values = np.stack([lengths[:, i, j] for i, j in chosen])
            assert getattr(halves.found[f"bond.{key}.mean"], side).value == pytest.approx(values.mean(), abs=1e-5)
            assert getattr(halves.found[f"bond.{key}.width"], side).value == pytest.approx(values.std(), abs=1e-5)


def test_angles_and_dihedrals_are_those_of_mdtraj(halves):
    bonds = {frozenset(pair) for pair in bonded(halves.species, halves.second[::10])}
    near = {i: [j for j in range(21) if frozenset((i, j)) in bonds] for i in range(21)}
    triples = [
        (i, j, k)
        for j in range(21)
        if halves.species[j] == 6
        for i in near[j]
        for k in near[j]
        if halves.species[i] == 6 and halves.species[k] == 8
    ]
    first = np.degrees(mdtraj.compute_angles(halves.angstrom(halves.first), triples, periodic=False))
    assert halves.found["angle.C-C-O.mean"].run.value == pytest.approx(first.mean(), abs=0.02)
    assert halves.found["angle.C-C-O.width"].run.value == pytest.approx(first.std(), abs=0.05)  # bins of a degree
    (hydrogen,) = [i for i in range(21) if halves.species[i] == 1 and halves.species[near[i][0]] == 8]
    (oxygen,) = near[hydrogen]
    (carbon,) = [i for i in near[oxygen] if i != hydrogen]
    quads = [(i, carbon, oxygen, hydrogen) for i in near[carbon] if halves.species[i] == 6]
    assert len(quads) == 1
    densities = [
        np.histogram(
            np.degrees(mdtraj.compute_dihedrals(halves.angstrom(positions), quads, periodic=False)),
            72,
            (-180, 180),
            density=True,
        )[0]
        for positions in (halves.first, halves.second)
    ]
    expected = np.abs(densities[0] - densities[1]).sum() * 5
    assert halves.found["dihedral.C-C-O-H.distribution"].difference.measured.value == pytest.approx(expected, abs=2e-3)


@pytest.mark.slow
def test_shape_is_that_of_mdtraj(halves):
    masses = atomic_masses[halves.species]
    for positions, side in ((halves.first, "run"), (halves.second, "reference")):
        # mdtraj weighs distances by mass, but takes them from the unweighted center: the shift of the two is known.
        shift = positions.mean(axis=1) - np.einsum("i,fij->fj", masses / masses.sum(), positions)
        theirs = NANOMETER * mdtraj.compute_rg(halves.angstrom(positions), masses=masses)
        radius = np.sqrt(theirs**2 - (shift**2).sum(axis=1)).mean()
        assert getattr(halves.found["shape.radius_of_gyration"], side).value == pytest.approx(radius, abs=1e-4)
        distances = []
        for frame in positions:
            fitted = Atoms(halves.species, frame)
            start = Atoms(halves.species, halves.second[0].astype(float))
            for atoms in (fitted, start):
                atoms.translate(-masses @ atoms.positions / masses.sum())
            best, _ = kabsch(fitted.positions, start.positions, masses)
            distances.append(best)
        value = getattr(halves.found["shape.RMSD"], side)
        assert np.mean(distances) == pytest.approx(value.value, abs=1e-4)


def kabsch(moved, fixed, masses):
    """By SciPy's alignment of vectors."""
    rotation, distance = Rotation.align_vectors(fixed, moved, weights=masses)
    return distance / np.sqrt(masses.sum()), rotation


@pytest.mark.slow
def test_the_examples_of_the_docs_run(tmp_path, monkeypatch, capsys):
    reference = bundled_reference("aspirin")
    frames = reference.frames.all()[:200]
    system = {"name": "aspirin", "species": reference.species.tolist()}
    for name in ("md-aspirin", "baseline", "piwsl"):
        write_run(tmp_path / "runs" / name, frames, reference.species, system=system)
    page = (Path(__file__).parents[2] / "docs" / "analysis.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.S)
    monkeypatch.chdir(tmp_path)
    for block in sorted(blocks, key=lambda block: "read_analysis" in block):  # which reads what another one writes
        exec(
            compile(block.replace('save("analysis")', 'save("analysis", report=False)'), "docs/analysis.md", "exec"), {}
        )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("baseline: Stable for all 10 ps.")
    assert len(lines) > 60
    assert "10 ps" in lines
    assert "baseline 10000.0 fs" in lines
    assert (tmp_path / "analysis" / "analysis.json").is_file()
