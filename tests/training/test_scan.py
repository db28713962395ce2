"""Scans outside the data: which paths there are, and what counts as a rise."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from piwsl.data.frames import Frame, FrameSet
from piwsl.errors import DataError
from piwsl.models.build import build_prior
from piwsl.testing import Scan, scan_model
from piwsl.training.run import run_training
from piwsl.training.scan import SHORTEST, summary
from tests.support.models_for_tests import REFERENCE_ENERGIES, trained_model
from tests.support.molecules import frame


def only_prior(**options):
    """A model whose network is zero."""
    model = trained_model(dtype="float64", **options)
    return replace(model, tensors={name: torch.zeros_like(values) for name, values in model.tensors.items()})


def test_pairs_follow_the_prior_down_to_a_third_of_an_angstrom():
    model = only_prior()
    scans = {scan.name: scan for scan in scan_model(model, [frame("CH3OH")]) if scan.kind == "pair"}
    assert set(scans) == {"H-H", "C-H", "C-O", "O-H", "C-C", "O-O"}
    prior = build_prior(model.config, list(REFERENCE_ENERGIES))
    for name, numbers in (("C-H", (6, 1)), ("O-H", (8, 1)), ("C-O", (6, 8))):
        scan = scans[name]
        assert scan.distances[-1] == pytest.approx(SHORTEST)
        assert scan.rises
        count = len(scan.distances)
        vectors = torch.zeros(count, 3, dtype=torch.float64)
        vectors[:, 2] = torch.from_numpy(scan.distances)
        energies = 2.0 * prior(torch.tensor(numbers), torch.tensor([[0] * count, [1] * count]), vectors)
        atoms = sum(REFERENCE_ENERGIES[number] for number in numbers)
        np.testing.assert_allclose(scan.energies, energies + atoms, rtol=1e-9)


def test_paths_begin_at_the_limits_of_the_data():
    waters = [frame("H2O", rattle=0.05, seed=seed) for seed in range(5)]
    scans = scan_model(only_prior(), waters)
    lengths = [np.linalg.norm(one.positions[1:] - one.positions[0], axis=1) for one in waters]
    by_kind = {kind: [scan for scan in scans if scan.kind == kind] for kind in ("pair", "contact", "bond")}
    assert {kind: len(found) for kind, found in by_kind.items()} == {"pair": 3, "contact": 1, "bond": 2}
    (pair,) = [scan for scan in by_kind["pair"] if scan.name == "O-H"]
    assert pair.distances[0] == pytest.approx(np.min(lengths))
    for place, scan in enumerate(by_kind["bond"]):
        assert scan.distances[0] == pytest.approx(max(one[place] for one in lengths))
        assert scan.distances[-1] == pytest.approx(2.0 * lengths[0][place])


def test_a_constant_energy_does_not_rise():
    """Beyond the range of the prior, the energy of a stretched bond does not depend on its length."""
    scans = scan_model(only_prior(), [frame("H2O")])
    bonds = [scan for scan in scans if scan.kind == "bond"]
    assert not any(scan.rises for scan in bonds)
    lines = summary(scans)
    assert lines[0].endswith(f"the energy rises in {sum(scan.rises for scan in scans)} of {len(scans)}")
    assert len(lines) == 1 + sum(not scan.rises for scan in scans)
    assert "does not rise" in "\n".join(lines)


def test_fragments_stay_rigid_and_rings_do_not_tear(monkeypatch):
    from piwsl.training import scan

    moved = {}
    original = scan._frames

    def seen(species, positions):
        moved[len(moved)] = positions
        return original(species, positions)

    monkeypatch.setattr(scan, "_frames", seen)
    structure = frame("CH3CH2OH")
    scans = scan_model(only_prior(), [structure])
    for one, positions in zip(scans, moved.values(), strict=True):
        if one.kind == "bond":
            distances = np.linalg.norm(positions[-1][:, None] - positions[-1], axis=-1)
            before = np.linalg.norm(structure.positions[:, None] - structure.positions, axis=-1)
            # In a molecule without rings, only the bond that is scanned becomes longer.
            bonded = (before < 1.7) & (before > 0) & (structure.species[:, None] + structure.species > 2)
            assert int((np.abs(distances - before)[bonded] > 0.1).sum()) == 2


@pytest.mark.parametrize(
    ("energies", "rises", "text"),
    [
        ([0.0, 1.0, 2.0], True, "rises by 2.0 eV"),
        ([0.0, 2.0, 1.5], False, "falls by 0.500 eV, first at 0.30 A"),
        ([0.0, 1.0, 0.9995], True, "rises by 1.0 eV"),
        ([0.0, 1.0, np.nan], False, "the energy is not finite"),
    ],
)
def test_what_a_rise_is(energies, rises, text):
    scan = Scan("pair", "C-H", np.array([0.9, 0.6, 0.3]), np.array(energies))
    assert scan.rises is rises
    assert scan.line() == f"pair C-H from 0.90 to 0.30 A: {text}"


def test_cells_are_refused():
    cell = Frame(np.array([1]), np.zeros((1, 3)), np.nan, np.zeros((1, 3)), np.eye(3) * 5.0, (True, True, True))
    with pytest.raises(DataError, match="a molecule without a cell as first structure"):
        scan_model(only_prior(), FrameSet([cell]))


@pytest.mark.slow
def test_two_atoms_of_a_trained_model_repel_each_other(small, water_file, tmp_path):
    """The network cannot remove the wall, because its energy stays finite."""
    config = small("loss.pitc=0", "loss.pisc=0", "model.zbl=true", "model.walls=none")
    result = run_training(config, tmp_path / "run")
    close = [scan for scan in scan_model(result.model, str(water_file)) if scan.kind in ("pair", "contact")]
    assert len(close) == 4
    for scan in close:
        wall = scan.energies[scan.distances < 0.45]
        assert bool((np.diff(wall) > 0).all()), scan.line()
        assert scan.energies[-1] > scan.energies[0] + 5.0
