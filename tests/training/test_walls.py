"""Training measures the ranges of walls, and stores them in the trained file."""

import json
from dataclasses import replace

import numpy as np
import pytest

from piwsl.data.frames import FrameSet
from piwsl.data.write import write_frames
from piwsl.errors import ConfigError, ElementError
from piwsl.export.trained_file import load_trained
from piwsl.models.priors.walls import WallRanges
from piwsl.training.data import training_frames
from piwsl.training.run import finish_training, run_training
from piwsl.training.scan import scan_model
from piwsl.training.walls import CLOSER, ranges_of_elements, ranges_of_molecule
from tests.support.molecules import cell, frame

QUICK = ("optimizer.steps=4", "optimizer.validation_interval=2")


def lengths(frames, i, j):
    return [float(np.linalg.norm(one.positions[i] - one.positions[j])) for one in frames]


def test_a_molecule_has_ranges_of_bonds_and_angles_and_shortest_distances_of_other_pairs():
    frames = FrameSet([frame("CH3CH2OH", rattle=0.03, seed=seed) for seed in range(30)])
    ranges = ranges_of_molecule(frames)
    assert ranges.molecule == frames[0].species.tolist()
    assert len(ranges.bonds) == 8
    assert len(ranges.angles) == 13  # six at each carbon, one at the oxygen
    for first, last, low, high in ranges.pairs:
        seen = lengths(frames, first, last)
        assert low <= min(seen)
        assert high >= max(seen)
        assert low <= np.mean(seen) - 4.9 * np.std(seen)
        assert high >= np.mean(seen) + 4.9 * np.std(seen)
    local = {(first, last) for first, last, _, _ in ranges.pairs}
    apart = [
        min(lengths(frames, i, j))
        for i in range(9)
        for j in range(i + 1, 9)
        if (i, j) not in local and set(frames[0].species[[i, j]]) == {1}
    ]
    assert ranges.shortest["H-H"] == pytest.approx(CLOSER * min(apart))


def test_bonds_of_a_small_ring_are_no_angles():
    ranges = ranges_of_molecule(FrameSet([frame("C3H6_D3h", rattle=0.03, seed=seed) for seed in range(5)]))
    bonds, angles = ({(first, last) for first, last, _, _ in pairs} for pairs in (ranges.bonds, ranges.angles))
    assert len(bonds) == 9
    assert not bonds & angles


def test_elements_have_shortest_distances_in_cells_and_molecules():
    frames = FrameSet([cell(seed=1), cell(seed=2)])
    ranges = ranges_of_elements(frames, 5.0)
    assert ranges.molecule is None
    assert list(ranges.shortest) == ["Ar-Ar"]
    nearest = min(
        float(np.linalg.norm(one.positions[0] - one.positions[1:] + shift @ np.asarray(one.cell), axis=-1).min())
        for one in frames
        for shift in np.array(np.meshgrid(*[[-1, 0, 1]] * 3)).reshape(3, -1).T
    )
    assert ranges.shortest["Ar-Ar"] <= CLOSER * nearest + 1e-9


def test_the_trained_file_has_the_ranges_of_the_training_frames(small, tmp_path):
    config = small("model.walls=molecule", *QUICK)
    run_training(config, tmp_path / "run")
    walls = load_trained(tmp_path / "run" / "model.pt").config.walls
    assert isinstance(walls, WallRanges)
    assert walls == ranges_of_molecule(training_frames(config).train)
    assert "walls: molecule" in (tmp_path / "run" / "config.yaml").read_text()


def test_walls_change_nothing_within_the_data(small, tmp_path):
    """The same weights and reference energies as without walls: they are zero on all training frames."""
    for walls in ("none", "molecule", "elements"):
        run_training(small(f"model.walls={walls}", "loss.pitc=0", "loss.pisc=0", *QUICK), tmp_path / walls)
    plain, *others = (load_trained(tmp_path / walls / "model.pt") for walls in ("none", "molecule", "elements"))
    for other in others:
        assert other.reference_energies == pytest.approx(plain.reference_energies, abs=1e-6)
        assert other.scale == pytest.approx(plain.scale, rel=1e-6)
        for name, tensor in plain.tensors.items():
            np.testing.assert_allclose(other.tensors[name], tensor, rtol=1e-3, atol=1e-5)


def test_a_resumed_run_has_the_same_ranges(small, tmp_path):
    run_training(small("model.walls=molecule", *QUICK), tmp_path / "run")
    before = load_trained(tmp_path / "run" / "model.pt").config.walls
    run_training(small("model.walls=molecule", *QUICK), tmp_path / "run", resume=True)
    finish_training(tmp_path / "run")
    assert load_trained(tmp_path / "run" / "model.pt").config.walls == before


def test_the_ranges_of_a_start_model_are_widened(small, tmp_path):
    run_training(small("model.walls=molecule", *QUICK), tmp_path / "run")
    before = load_trained(tmp_path / "run" / "model.pt").config.walls
    start = f"start.init_from={tmp_path / 'run' / 'model.pt'}"
    run_training(small(start, "data.train=5", "seed=3", *QUICK), tmp_path / "fine")
    after = load_trained(tmp_path / "fine" / "model.pt").config.walls
    for (_, _, low, high), (_, _, lower, higher) in zip(before.pairs, after.pairs, strict=True):
        assert lower <= low
        assert higher >= high
    run_training(small(start, "model.walls=none", *QUICK), tmp_path / "without")
    assert load_trained(tmp_path / "without" / "model.pt").config.walls == "none"


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([frame("H2O", seed=seed, labeled=True) for seed in range(8)] + [frame("CH4", labeled=True)], "one molecule"),
        ([cell(seed=seed, labeled=True) for seed in range(8)], "not periodic: choose elements"),
    ],
)
def test_other_data_are_refused(small, tmp_path, frames, message):
    write_frames(FrameSet(frames), tmp_path / "data.extxyz")
    config = small(f"data.file={tmp_path / 'data.extxyz'}", "data.validation=2", "data.test=0", "model.walls=molecule")
    with pytest.raises(ConfigError, match=f"model.walls: molecule is for frames.*{message}"):
        run_training(config, tmp_path / "run")
    assert not (tmp_path / "run" / "model.pt").exists()


def test_the_order_of_atoms_must_be_the_same(small, tmp_path):
    first = [frame("H2O", seed=seed, labeled=True) for seed in range(8)]
    other = [
        replace(
            one, species=one.species[::-1].copy(), positions=one.positions[::-1].copy(), forces=one.forces[::-1].copy()
        )
        for one in first[:2]
    ]
    write_frames(FrameSet(first + other), tmp_path / "data.extxyz")
    config = small(f"data.file={tmp_path / 'data.extxyz'}", "data.validation=2", "data.test=0", "model.walls=molecule")
    with pytest.raises(ConfigError, match="with the atoms in the same order"):
        run_training(config, tmp_path / "run")


def test_a_wrong_value_is_one_line(small):
    with pytest.raises(ConfigError, match=r"model.walls"):
        small("model.walls=brick")


def test_scans_leave_out_two_atoms_alone(small, water_file, tmp_path):
    run_training(small("model.walls=molecule", *QUICK), tmp_path / "run")
    scans = scan_model(tmp_path / "run" / "model.pt", water_file)
    assert [scan.kind for scan in scans] == ["contact", "bond", "bond"]
    with pytest.raises(ElementError, match="a scan requires its atoms in the order of the training data"):
        scan_model(tmp_path / "run" / "model.pt", FrameSet([frame("H2O").reordered(np.array([1, 0, 2]))]))
    with pytest.raises(ElementError, match="walls for one molecule, H2O"):
        scan_model(tmp_path / "run" / "model.pt", FrameSet([frame("H2")]))


def test_the_description_contains_the_ranges(small, tmp_path):
    run_training(small("model.walls=elements", *QUICK), tmp_path / "run")
    from piwsl.export.trained_file import trained_description

    text = json.dumps(trained_description(load_trained(tmp_path / "run" / "model.pt")))
    assert '"shortest": {"H-H":' in text


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("model.walls=auto", "walls: bonds (2) and angles (1) within their ranges; other pairs beyond [A] none"),
        ("model.walls=molecule", "walls: bonds (2) and angles (1) within their ranges"),
        ("model.walls=elements", "walls: pairs beyond"),
    ],
)
def test_the_log_says_which_walls_there_are(small, tmp_path, caplog, override, line):
    with caplog.at_level("INFO", logger="piwsl"):
        run_training(small(override, *QUICK), tmp_path / "run")
    assert line in caplog.text


def walls_of(small, tmp_path, frames, *overrides):
    write_frames(FrameSet(frames), tmp_path / "data.extxyz")
    config = small(f"data.file={tmp_path / 'data.extxyz'}", "data.validation=2", "data.test=0", *overrides, *QUICK)
    run_training(config, tmp_path / "run")
    return load_trained(tmp_path / "run" / "model.pt").config.walls


def test_few_frames_of_one_molecule_have_walls_by_default(small, tmp_path):
    walls = walls_of(small, tmp_path, [frame("H2O", seed=seed, labeled=True) for seed in range(8)])
    assert walls.molecule == [8, 1, 1]


@pytest.mark.parametrize(
    "frames",
    [
        [frame("H2O", seed=seed, labeled=True) for seed in range(8)] + [frame("CH4", labeled=True)],
        [cell(seed=seed, labeled=True) for seed in range(8)],
        [
            replace(frame("H2O", seed=seed, labeled=True), positions=9.0 * frame("H2O", seed=seed).positions)
            for seed in range(8)
        ],
    ],
    ids=["two molecules", "cells", "no bonds"],
)
def test_other_data_have_no_walls_by_default(small, tmp_path, frames):
    assert walls_of(small, tmp_path, frames, "model.cutoff=12") == "none"


def test_many_frames_have_no_walls_by_default(small, tmp_path, monkeypatch):
    monkeypatch.setattr("piwsl.training.walls.FEW_LABELS", 5)
    assert walls_of(small, tmp_path, [frame("H2O", seed=seed, labeled=True) for seed in range(8)]) == "none"


def test_a_start_model_determines_the_walls_by_default(small, tmp_path):
    for walls in ("none", "molecule"):
        run_training(small(f"model.walls={walls}", *QUICK), tmp_path / walls)
        start = f"start.init_from={tmp_path / walls / 'model.pt'}"
        for text in ("", "model.walls=auto"):
            run_training(small(start, *filter(None, [text]), *QUICK), tmp_path / f"fine-{walls}{text}")
            found = load_trained(tmp_path / f"fine-{walls}{text}" / "model.pt").config
            assert found.walls_kind == walls
