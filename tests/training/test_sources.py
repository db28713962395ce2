"""Frames by purpose: what is read, how it is split and hidden, and what is refused before training starts."""

import csv
import hashlib
from dataclasses import replace

import numpy as np
import pytest

from piwsl.data.census import Census
from piwsl.data.datasets import Protocol
from piwsl.data.frames import Frame, FrameSet
from piwsl.data.write import write_frames
from piwsl.errors import ConfigError
from piwsl.runs.files import sha256, source_hash
from piwsl.training import data as sources
from piwsl.training.config import TrainingConfig
from piwsl.training.data import training_frames, with_absolute_sources, with_forces_of
from piwsl.training.data_checks import check_against_data
from piwsl.training.frames import LabelCounts
from piwsl.training.run import run_training
from piwsl.training.start import starting_potential
from tests.support.molecules import frame


def with_forces(frames):
    return {index for index, one in enumerate(frames) if one.has_forces}


def test_a_smaller_share_of_forces_is_part_of_a_larger(small):
    shares = {share: training_frames(small(f"data.forces_fraction={share}")) for share in (0.0, 0.25, 0.5, 1.0)}
    shown = {share: with_forces(frames.train) for share, frames in shares.items()}
    assert {share: len(indices) for share, indices in shown.items()} == {0.0: 0, 0.25: 10, 0.5: 20, 1.0: 40}
    assert shown[0.25] < shown[0.5] < shown[1.0]
    half = shares[0.5]
    assert with_forces(training_frames(small("data.forces_fraction=0.5")).train) == shown[0.5]
    assert with_forces(training_frames(small("data.forces_fraction=0.5", "seed=1")).train) != shown[0.5]
    # Validation and test are untouched, energies too.
    assert (half.labels["training"].forces, half.labels["training"].energies) == (20, 40)
    assert half.labels["validation"].forces == half.labels["test"].forces == 10
    assert [one.energy for one in half.train] == [one.energy for one in shares[1.0].train]


class Counting(list):
    """Frames that count how often one is asked for."""

    asked = 0

    def __getitem__(self, index):
        self.asked += 1
        return super().__getitem__(index)


def test_hiding_forces_reads_no_frame(small):
    split = training_frames(small()).split
    frames = Counting(frame("H2O", seed=seed, labeled=True) for seed in range(40))
    census = Census.of(frames)
    frames.census = lambda: census
    view = with_forces_of(FrameSet(frames), 0.5, split)
    assert len(view) == 40
    assert LabelCounts.of(view) == LabelCounts(40, 40, 20, 20, 0)
    assert LabelCounts.of(view.select(range(5))).forces == int(view.census.has_forces[:5].sum())
    assert frames.asked == 0
    assert sum(one.has_forces for one in view.frames[::2]) == int(view.census.has_forces[::2].sum())
    assert frames.asked == 20
    assert np.isnan(next(one for one in view if not one.has_forces).forces).all()


def test_counts_are_in_the_lines(small):
    frames = training_frames(small("data.forces_fraction=0.5"))
    text = "\n".join(frames.lines())
    assert "split              40 training, 10 validation, 10 test frames" in text
    assert "training labels    energies on 40, forces on 20, stress on 0 of 40 frames" in text


def test_scale_knows_nothing_of_hidden_forces(small):
    from piwsl.training.start import starting_potential

    seen, hidden = small("model.zbl=false"), small("data.forces_fraction=0", "model.zbl=false")
    frames = training_frames(hidden)
    assert frames.report.force_rms is not None
    assert float(starting_potential(hidden, frames).potential.scale) == frames.report.energy_spread
    squares = np.concatenate([one.forces**2 for one in training_frames(seen).train])
    scale = float(starting_potential(seen, training_frames(seen)).potential.scale)
    assert scale == pytest.approx(np.sqrt(squares.mean()), rel=1e-12)


def test_scale_without_forces_is_the_spread_without_the_prior(small):
    from piwsl.models.build import build_prior
    from piwsl.training.prior_labels import without_prior
    from piwsl.training.start import starting_potential

    config = small("data.forces_fraction=0", "model.zbl=true")
    frames = training_frames(config)
    left = without_prior(list(frames.train), build_prior(config.model, [1, 8]))
    scale = float(starting_potential(config, frames).potential.scale)
    assert scale == pytest.approx(np.std([one.energy for one in left]), rel=1e-9)
    assert abs(scale - frames.report.energy_spread) > 1e-3


@pytest.fixture
def changed(small, tmp_path):
    """Frames of a configuration after a change of each frame in turn."""

    def change(config, how):
        frames = training_frames(small())
        train_set = FrameSet([how(index, one) for index, one in enumerate(frames.train)])
        labels = {**frames.labels, "training": LabelCounts.of(train_set)}
        return check_against_data(config, replace(frames, train=train_set, labels=labels))

    return change


def without(*names):
    def change(index: int, one: Frame) -> Frame:
        missing = {"energy": np.nan, "forces": one.forces * np.nan, "stress": one.stress * np.nan}
        return replace(one, **{name: missing[name] for name in names})

    return change


def either(index: int, one: Frame) -> Frame:
    """Energies on even frames, forces on odd ones."""
    return without("forces" if index % 2 == 0 else "energy")(index, one)


@pytest.mark.parametrize(
    ("override", "how", "message"),
    [
        ("loss.pitc=0", without("energy", "forces"), "use data with labels"),
        ("loss.stress=1", without(), "loss.stress: no training frame of"),
        ("loss.stress={shape: linear, first: 0, last: 1}", without(), "loss.stress"),
        ("loss.taylor_labels=1", without("forces"), "loss.taylor_labels"),
        ("loss.taylor_labels=1", either, "both energy and forces"),
        ("loss.forces=0", without("energy"), "no supervised loss is left"),
        ("displacement.direction=force_error", without("forces"), "displacement.direction: force_error"),
        ("displacement.direction=energy_error", without("energy"), "displacement.direction: energy_error"),
        ("displacement.length=0.5", without(), "displacement.cap = 0.3 allows"),
        ("displacement={length: 0.4, measure: nearest_neighbor}", without(), "exceeds displacement.cap = 0.3"),
    ],
)
def test_what_the_frames_cannot_give_is_refused(small, changed, override, how, message):
    with pytest.raises(ConfigError) as error:
        changed(small(override), how)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_noisy_node_needs_a_supervised_term(small, changed):
    with pytest.raises(ConfigError, match=r"loss\.noisy_node"):
        changed(small("loss.noisy_node=1", "loss.energy=0"), without("forces"))


@pytest.mark.parametrize(
    "overrides",
    [
        ("loss.stress=0",),
        ("loss.stress={shape: linear, first: 0, last: 0}",),
        ("displacement.length=0.35", "displacement.norm=structure"),
        ("displacement.length=0.25", "displacement.measure=nearest_neighbor"),
        ("displacement.direction=force_error",),
    ],
)
def test_what_has_an_effect_or_none_is_accepted(small, changed, overrides):
    assert changed(small(*overrides), without()) == []


def test_keys_of_terms_that_are_off_are_named(small, changed):
    off = ("loss.pitc=0", "loss.pisc=0")
    (note,) = changed(small("displacement.length=0.5", "loss.mixing=0", *off), without())
    assert note.startswith("loss.mixing, displacement.length: without effect")
    assert changed(small(*off), without()) == []


def test_defaults_without_their_label_are_dropped_with_a_note(small, changed):
    notes = changed(small(), without("forces"))
    assert any("loss.forces is dropped" in note for note in notes)
    assert any("energies only" in note and "loss.pitc=0" in note for note in notes)
    assert any("loss.energy is dropped" in note for note in changed(small(), without("energy")))

    def stressed(index, one):
        return replace(one, stress=np.eye(3), cell=20 * np.eye(3), pbc=(True, True, True))

    assert any("not used because loss.stress is 0" in note for note in changed(small(), stressed))
    assert changed(small("loss.stress=1"), stressed) == []


@pytest.mark.slow
def test_hidden_forces_do_not_choose_the_weights(small, tmp_path):
    """The kept weights are those of the smallest energy error, not those of the smallest force error."""
    config = small("data.forces_fraction=0", "loss.pitc=0", "loss.pisc=0", "loss.energy=2", "optimizer.steps=20")
    run_training(config, tmp_path / "run")
    rows = csv.DictReader((tmp_path / "run" / "metrics" / "metrics.csv").read_text().splitlines())
    validations = [row for row in rows if row["validation/loss"]]
    assert validations
    for row in validations:
        assert float(row["validation/loss"]) == pytest.approx(2 * float(row["validation/energy_mae"]), rel=1e-5)
        assert row["validation/force_mae"]


def test_nothing_is_written_when_the_configuration_does_not_fit_the_data(small, tmp_path):
    with pytest.raises(ConfigError, match=r"loss\.stress"):
        run_training(small("loss.stress=1"), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"displacement\.length"):
        run_training(small("displacement.length=0.9"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_named_set_is_split_as_published(small, water_file, monkeypatch):
    class Named:
        protocol = Protocol(train=None, validation=7, test=13)

    read = sources.read_frames
    # Patched in place: the configuration names the set, and a real named set would have to be downloaded.
    monkeypatch.setattr(sources, "is_dataset", lambda name: name == "water:exact")
    monkeypatch.setattr(sources, "dataset", lambda name: Named)
    monkeypatch.setattr(sources, "read_frames", lambda source, units: read(water_file, units))
    named = ("data.file=water:exact", "data.validation=null", "data.test=null")

    def sizes(*overrides):
        split = training_frames(small(*named, *overrides)).split
        return len(split.train), len(split.validation), len(split.test)

    assert sizes() == (40, 7, 13)
    assert sizes("data.test=0") == (53, 7, 0)
    assert sizes("data.validation=5", "data.train=20") == (20, 5, 13)
    small_set, large_set = (training_frames(small(*named, f"data.train={n}")).split for n in (5, 40))
    assert small_set.test == large_set.test


def test_files_become_absolute_and_names_stay(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def absolute(source):
        return with_absolute_sources(small(f"data.file={source}")).data.file

    assert absolute("rmd17:aspirin") == "rmd17:aspirin"
    assert absolute("runs/*.xyz") == str(tmp_path / "runs" / "*.xyz")
    assert absolute("ani.h5#ccsd") == str(tmp_path / "ani.h5#ccsd")
    (tmp_path / "ani1x").mkdir()
    assert absolute("ani1x") == str(tmp_path / "ani1x")


@pytest.mark.slow
def test_the_bundled_system_has_its_own_test_frames(small):
    named = ("data.file=null", "data.system=aspirin", "data.train=20")
    own = training_frames(small(*named, "data.test=null"))
    assert (len(own.split.test), len(own.test)) == (0, 1000)
    assert len(training_frames(small(*named, "data.test=15")).test) == 15
    assert len(training_frames(small(*named, "data.test=0")).test) == 0


def test_several_files_count_in_their_order(tmp_path):
    paths = [tmp_path / name for name in ("a.xyz", "b.xyz")]
    for path in paths:
        path.write_bytes(path.name.encode() * 1000)
    assert source_hash(paths[:1]) == sha256(paths[0])
    joined = "\n".join(sha256(path) for path in paths)
    assert source_hash(paths) == hashlib.sha256(joined.encode()).hexdigest()
    assert source_hash(paths[::-1]) != source_hash(paths)


def test_large_files_are_sampled(tmp_path):
    path = tmp_path / "large.h5"
    path.write_bytes(bytes(3 * 2**20))
    sampled = source_hash([path], largest=2**20)
    assert sampled.startswith("sampled:")
    assert source_hash([path], largest=2**20) == sampled
    for change in (b"\x01" + bytes(3 * 2**20 - 1), bytes(3 * 2**20 - 1) + b"\x01", bytes(3 * 2**20 + 1)):
        path.write_bytes(change)
        assert source_hash([path], largest=2**20) != sampled


def test_elements_that_only_the_test_frames_have_are_warned_of(small, tmp_path):
    from ase.io import write

    assert training_frames(small()).report.warnings == []
    foreign = frame("CH3Cl", labeled=True)
    atoms = foreign.atoms()
    atoms.info["REF_energy"] = foreign.energy
    write(tmp_path / "test.xyz", atoms, format="extxyz")
    frames = training_frames(small(f"data.test_file={tmp_path / 'test.xyz'}", "data.test=null"))
    assert frames.report.warnings == [
        "test frames contain C, Cl, but no training frame does: the test errors are not meaningful"
    ]


def test_the_test_file_has_a_data_report(small, tmp_path):
    rows = "O 0 0 0 0 0 0\nH 0.96 0 0 0 0 0\nH -0.24 0.93 0 0 0 0\n"
    (tmp_path / "test.xyz").write_text(f"3\nREF_energy=-2000 Properties=species:S:1:pos:R:3:force:R:3\n{rows}")
    frames = training_frames(small(f"data.test_file={tmp_path / 'test.xyz'}", "data.test=null"))
    (warning,) = frames.report.warnings
    assert warning.startswith("data.test_file: 1 of 1 frames have no forces, but 'force', which is not read")


def test_directories_and_patterns_train(small, water_file, tmp_path):
    with np.load(water_file) as archive:
        content = dict(archive)
    (tmp_path / "parts").mkdir()
    for part in range(3):
        chosen = {key: content[key][20 * part : 20 * part + 20] for key in ("coords", "energies", "forces")}
        np.savez(tmp_path / "parts" / f"{part}.npz", **{**content, **chosen})
    whole = training_frames(small())
    for source in (tmp_path / "parts", tmp_path / "parts" / "*.npz"):
        frames = training_frames(small(f"data.file={source}"))
        assert frames.split == whole.split
        assert [one.energy for one in frames.test] == [one.energy for one in whole.test]
        assert frames.sha256 == source_hash(sorted((tmp_path / "parts").iterdir()))


def test_single_atoms_are_reference_energies_and_in_no_part(small, tmp_path):
    waters = [frame("H2O", seed=seed, labeled=True) for seed in range(40)]
    nothing = np.zeros((1, 3))
    atoms = [Frame(np.array([number]), nothing, energy, nothing) for number, energy in ((8, -1.5), (1, -0.5))]
    write_frames(FrameSet([waters[0], *atoms, *waters[1:]]), tmp_path / "a.h5")
    config = small(f"data.file={tmp_path / 'a.h5'}", "data.train=20", "data.validation=10", "data.test=10")
    frames = training_frames(config)
    parts = [*frames.split.train, *frames.split.validation, *frames.split.test]
    assert sorted(parts) == [0, *range(3, 42)]
    assert frames.atom_energies == {8: -1.5, 1: -0.5}
    assert any(
        "2 frames contain a single atom" in note and "O -1.5000, H -0.5000" in note for note in frames.report.notes
    )
    potential = starting_potential(config, frames).potential
    assert (float(potential.reference_energies[8]), float(potential.reference_energies[1])) == (-1.5, -0.5)


def test_an_atom_in_a_box_is_in_no_part_of_the_split(small, tmp_path):
    waters = [frame("H2O", seed=seed, labeled=True) for seed in range(40)]
    nothing, everywhere = np.zeros((1, 3)), (True, True, True)
    atoms = [Frame(np.array([z]), nothing, -1.0 * z, nothing, 9 * np.eye(3), everywhere) for z in (1, 8)]
    write_frames(FrameSet([*waters, *atoms]), tmp_path / "a.xyz")
    frames = training_frames(small(f"data.file={tmp_path / 'a.xyz'}"))
    parts = [*frames.split.train, *frames.split.validation, *frames.split.test]
    assert sorted(parts) == [*range(40)]
    assert frames.atom_energies == {1: -1.0, 8: -8.0}
    config = small(f"data.file={tmp_path / 'a.xyz'}", "model.cutoff=9.5")
    assert training_frames(config).atom_energies == {}


def test_undetermined_reference_energies_are_said(tmp_path):
    """One composition of three elements: the log and the trained file say that other compositions mean nothing."""
    config = TrainingConfig.model_validate({"data": {"system": "aspirin", "train": 5, "validation": 5}})
    frames = training_frames(config)
    text = "one composition does not determine the reference energies of 3 elements"
    assert any(text in line for line in frames.lines())
    domain = frames.domain(config.model)
    assert text in domain.remark()
    assert frames.domain(config.model) is domain  # measured once
