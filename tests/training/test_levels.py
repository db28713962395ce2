"""Further levels of theory: where their frames go, what a batch contains, their reference energies, and errors."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from piwsl.data.batch import collate
from piwsl.data.frames import FrameSet
from piwsl.data.write import write_frames
from piwsl.errors import ConfigError, DataError, ElementError, RunDirectoryError
from piwsl.export.trained_file import TrainedModel, save_trained
from piwsl.losses.contrast import ChainSettings, Contrast
from piwsl.losses.teacher import TeacherForces
from piwsl.models import ModelConfig, build_network, register_network
from piwsl.models.levels import LevelsPotential
from piwsl.training.config import load_config
from piwsl.training.data import training_frames, with_absolute_sources
from piwsl.training.distributed.processes import Processes
from piwsl.training.frames import LabelCounts
from piwsl.training.loader import BatchShard, batch_counts, training_order
from piwsl.training.preparation import prepare
from piwsl.training.start import starting_potential, with_network_of_start
from piwsl.training.stored_split import check_unchanged, stored_split, write_split
from tests.support.models_for_tests import trained_file
from tests.support.molecules import frame
from tests.support.two_levels import write_water


@pytest.fixture(scope="module")
def low_file(tmp_path_factory):
    """30 frames of water at another level."""
    return write_water(tmp_path_factory.mktemp("low") / "low.npz", "low", range(200, 230))


@pytest.fixture(scope="module")
def energies_file(tmp_path_factory):
    """8 frames of water at another level, with energies only."""
    return write_water(tmp_path_factory.mktemp("high") / "high.npz", "high", range(300, 308), forces=False)


@pytest.fixture(scope="module")
def start_file(tmp_path_factory):
    """PaiNN with random weights for H, C and O."""
    return trained_file(tmp_path_factory.mktemp("start") / "model.pt")


def prepared(config, tmp_path):
    config = with_network_of_start(config)
    return prepare(config, training_frames(config), tmp_path / "run", Processes(), torch.device("cpu"))


def test_frames_of_further_levels_train_and_never_validate(small, low_file, energies_file):
    frames = training_frames(small("data.test=5", f"data.levels={{PBE: {low_file}, CCSD(T): {energies_file}}}"))
    plain = training_frames(small("data.test=5"))
    assert (len(frames.main), len(frames.train)) == (45, 45 + 30 + 8)
    assert replace(frames.split, levels={}) == plain.split
    assert [one.level for one in frames.train] == [0] * 45 + [1] * 30 + [2] * 8
    assert not any(one.level for part in (frames.validation, frames.test) for one in part)
    assert frames.labels == plain.labels
    assert frames.all_labels == LabelCounts(83, 83, 75, 75, 0)
    text = "\n".join(frames.lines())
    assert "45 training, 10 validation, 5 test frames" in text
    assert "main level         main, with the validation and test frames" in text
    assert "level PBE          energies on 30, forces on 30, stress on 0 of 30 frames, from" in text
    assert "level CCSD(T)      energies on 8, forces on 0, stress on 0 of 8 frames, from" in text
    assert np.allclose(frames.train[45].energy, -1990, atol=5)
    # A batch carries the levels; without further levels, it carries none.
    assert collate([frames.train[0], frames.train[50], frames.train[80]], 3.0).level.tolist() == [0, 1, 2]
    assert collate([frames.train[0]], 3.0).level is None


def test_units_and_number_of_frames_of_a_level(small, low_file, tmp_path):
    content = dict(np.load(low_file))
    del content["units"]
    factor = 23.060547830619026
    np.savez(tmp_path / "kcal.npz", **{**content, "energies": content["energies"] * factor})
    level = f"{{file: {tmp_path / 'kcal.npz'}, units: 'kcal/mol, angstrom', train: 12}}"
    frames = training_frames(small(f"data.levels={{PBE: {level}}}"))
    assert len(frames.levels[0].frames) == 12
    assert np.allclose(frames.levels[0].frames[0].energy, -1990, atol=5)
    again = training_frames(small(f"data.levels={{PBE: {level}}}"))
    assert again.split == frames.split
    assert training_frames(small(f"data.levels={{PBE: {level}}}", "seed=1")).split.levels != frames.split.levels
    with pytest.raises(DataError, match=r"data\.levels: PBE: .*contains no units: set the key units of the level"):
        training_frames(small(f"data.levels={{PBE: {tmp_path / 'kcal.npz'}}}"))
    with pytest.raises(DataError, match=r"data\.levels: PBE: cannot take 31 frames from 30 labeled frames"):
        training_frames(small(f"data.levels={{PBE: {{file: {low_file}, train: 31}}}}"))


def test_the_split_file_stores_the_frames_of_each_level(small, low_file, tmp_path):
    levels = f"data.levels={{PBE: {{file: {low_file}, train: 12}}}}"
    frames = training_frames(small(levels))
    path = tmp_path / "split.json"
    write_split(path, frames)
    assert stored_split(path) == frames.split
    # A member of an ensemble continues with the frames of the ensemble, although it has another seed.
    member = training_frames(small(levels, "seed=1"), stored_split(path))
    assert member.split == frames.split
    check_unchanged(path, member)
    other = (replace(frames.levels[0], sha256="other"),)
    with pytest.raises(RunDirectoryError, match="the data of level PBE of this run changed"):
        check_unchanged(path, replace(frames, levels=other))
    plain = training_frames(small())
    write_split(path, plain)
    assert '"levels"' not in path.read_text()


def test_relative_sources_become_absolute(small, low_file, monkeypatch):
    monkeypatch.chdir(low_file.parent)
    config = with_absolute_sources(small("data.levels={PBE: {file: low.npz, reference_energies: e.yaml}}"))
    assert config.data.levels["PBE"].file == str(low_file)
    assert config.data.levels["PBE"].reference_energies == low_file.parent / "e.yaml"


def test_every_batch_has_its_share_in_equal_parts(small, low_file, energies_file):
    levels = f"data.levels={{PBE: {low_file}, CCSD(T): {energies_file}}}"
    config = small(levels, "optimizer.batch_size=10", "data.levels_share=0.3")
    batches = training_order(config, training_frames(config), None).frames(0, 400).reshape(40, 10)
    assert ((batches >= 40).sum(1) == 3).all()
    counts = np.bincount(batches.ravel(), minlength=78)
    assert (counts[:40] == 7).all()
    assert counts[40:70].sum() == counts[70:].sum() == 60
    assert set(counts[40:70]) == {2}
    assert set(counts[70:]) == {7, 8}
    parts = BatchShard(10, parts=1, processes=2, rank=1).of(batches[0])
    assert 1 <= (parts >= 40).sum() <= 2
    # Any part of the order is the same part.
    order = training_order(config, training_frames(config), None)
    assert np.array_equal(order.frames(37, 113), batches.ravel()[37:113])
    # Levels of equal size have orders of their own.
    config = small(f"data.levels={{PBE: {low_file}, SCAN: {low_file}}}", "data.levels_share=0.5")
    drawn = training_order(config, training_frames(config), None).frames(0, 100)
    assert not np.array_equal(drawn[(drawn >= 40) & (drawn < 70)] - 40, drawn[drawn >= 70] - 70)


def test_levels_unlabeled_and_replay_frames_in_one_batch(small, low_file, tmp_path):
    bare = FrameSet([frame("H2O", seed=seed) for seed in range(12)])
    write_frames(bare, tmp_path / "bare.xyz")
    config = small(
        f"data.levels={{PBE: {low_file}}}",
        f"data.unlabeled={tmp_path / 'bare.xyz'}",
        "optimizer.batch_size=20",
        "start.init_from=start.pt",
        "start.replay=6",
        "start.replay_share=0.2",
    )
    frames = training_frames(config)
    assert [one.level for one in frames.train] == [0] * 52 + [1] * 30
    batches = training_order(config, frames, bare.select(range(6))).frames(0, 800).reshape(40, 20)
    kinds = np.digitize(batches, [40, 52, 82])
    assert [set((kinds == kind).sum(1)) for kind in range(4)] == [{4}, {4}, {8}, {4}]
    tiny = small(*(f"data.levels={{PBE: {low_file}}}", "optimizer.batch_size=1"))
    with pytest.raises(ConfigError, match="leaves no room for frames of the main level and of further levels"):
        batch_counts(tiny, training_frames(tiny))


def test_reference_energies_of_each_level(small, low_file, energies_file, tmp_path):
    frames = training_frames(small(f"data.levels={{PBE: {low_file}, CCSD(T): {energies_file}}}"))
    point = starting_potential(small(), frames)
    assert isinstance(point.potential, LevelsPotential)
    labels = [level.frames.census.energy.mean() for level in frames.levels]
    for index, label in enumerate(labels, start=1):
        table = point.potential.energies_of_elements(index)
        assert float(2 * table[1] + table[8]) == pytest.approx(label)
        assert point.potential.elements_of(index) == [1, 8]
    assert any("level PBE: reference energies [eV]: H -6" in line for line in point.lines())
    # Energies from the configuration are those of their level alone.
    given = f"data.levels={{PBE: {{file: {low_file}, reference_energies: {{H: -13.0, O: -2000.0}}}}}}"
    point = starting_potential(small(given), training_frames(small(given)))
    assert point.potential.energies_of_elements(1)[[1, 8]].tolist() == [-13.0, -2000.0]
    assert float(point.potential.reference_energies[1]) != -13.0
    assert point.heads[0].energy_sources == {"H": "configuration", "O": "configuration"}


def test_frames_of_one_atom_in_a_level(small, tmp_path):
    atoms = [replace(frame("H2O"), species=np.array([z]), positions=np.zeros((1, 3)), energy=e, forces=np.zeros((1, 3)))
             for z, e in ((1, -12.5), (8, -1970.0))]  # fmt: skip
    waters = [replace(frame("H2O", seed=seed), energy=-1990.0 + 0.1 * seed) for seed in range(6)]
    write_frames(FrameSet([*atoms, *waters, frame("H2O")]), tmp_path / "level.xyz")
    frames = training_frames(small(f"data.levels={{PBE: {tmp_path / 'level.xyz'}}}"))
    assert len(frames.levels[0].frames) == 6
    assert frames.levels[0].atom_energies == {1: -12.5, 8: -1970.0}
    notes = frames.report.notes
    assert "level PBE: 2 frames contain a single atom, whose energy is used, and are no training frames" in notes
    assert "level PBE: 1 frames have no label and are no training frames" in notes
    point = starting_potential(small(), frames)
    assert point.potential.energies_of_elements(1)[[1, 8]].tolist() == [-12.5, -1970.0]


def test_a_level_with_forces_only_has_the_energies_of_the_main_level(small, low_file, tmp_path):
    content = dict(np.load(low_file))
    del content["energies"]
    np.savez(tmp_path / "forces.npz", **content)
    frames = training_frames(small(f"data.levels={{PBE: {tmp_path / 'forces.npz'}}}"))
    point = starting_potential(small(), frames)
    assert torch.equal(point.potential.energies_of_elements(1), point.potential.reference_energies)
    assert any("those of the main level" in line for line in point.lines())


def test_an_element_without_a_known_energy(small, low_file, tmp_path):
    methane = frame("CH4", labeled=True)
    forces_only = replace(methane, energy=np.nan)
    waters = [frame("H2O", seed=seed, labeled=True) for seed in range(4)]
    write_frames(FrameSet([*waters, forces_only]), tmp_path / "level.xyz")
    config = small(f"data.levels={{PBE: {tmp_path / 'level.xyz'}}}")
    with pytest.raises(ConfigError, match=r"data\.levels: PBE: C occurs in no frame with an energy"):
        starting_potential(config, training_frames(config))
    given = f"{{file: {tmp_path / 'level.xyz'}, reference_energies: {{H: -13, C: -1000, O: -2000}}}}"
    point = starting_potential(config, training_frames(small(f"data.levels={{PBE: {given}}}")))
    # The main level has no carbon, so its head does not know it.
    assert point.potential.elements == [1, 8]
    assert point.potential.elements_of(1) == [1, 6, 8]


def test_fine_tuning_refits_each_level(small, low_file, start_file):
    config = with_network_of_start(
        load_config(
            None, [f"start.init_from={start_file}"], small(f"data.levels={{PBE: {low_file}}}").model_dump(mode="json")
        ).model_copy(update={"model": ModelConfig()})
    )
    frames = training_frames(config)
    point = starting_potential(config, frames)
    for part in (frames.main, frames.levels[0].frames):
        batch = collate(part[:30], config.model.cutoff)
        errors = point.potential.energies(*batch.graph) - batch.energy
        assert abs(float(errors.detach().mean())) < 0.3
    assert any("level PBE: reference energies: refitted to 30 energies" in line for line in point.lines())
    keep = config.model_copy(update={"start": config.start.model_copy(update={"reference_energies": "keep"})})
    kept = starting_potential(keep, frames).potential
    assert torch.equal(kept.energies_of_elements(1), kept.reference_energies)
    assert kept.elements_of(1) == [1, 6, 8]
    chlorine = replace(frames.levels[0], frames=FrameSet([replace(frame("HCl", labeled=True), level=1)]))
    with pytest.raises(ElementError, match=r"data\.levels: PBE contains Cl, but .* no reference energy"):
        starting_potential(keep, replace(frames, levels=(chlorine,)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["data.levels={PBE: nothing.npz}"], r"data\.levels: PBE: nothing\.npz"),
        (["data.levels={}"], r"data\.levels: there is no level"),
        (["data.levels={PBE: LOW, pbe: LOW}"], "PBE and pbe differ in case only"),
        (["data.levels={main: LOW}"], "main is the name of the main level: choose another name"),
        (["data.level=CCSD", "data.levels={CCSD: LOW}"], "CCSD is the name of the main level"),
        (["data.levels={-x: LOW}"], "begins with a letter or a digit"),
        (["data.levels={PBE: {file: LOW, unit: eV}}"], r"unknown key data\.levels\.PBE\.unit: did you mean"),
        (["data.levels_share=0.3"], r"data\.levels_share has no effect"),
        (["data.levels={PBE: {file: LOW, reference_energies: {H: -13}}}"], r"PBE: reference_energies lacks O: add"),
        (["data.levels={PBE: BARE}"], r"data\.levels: PBE: no frame of .*bare\.xyz has a label"),
    ],
)
def test_errors_of_one_line(small, low_file, tmp_path, options, message):
    write_frames(FrameSet([frame("H2O")]), tmp_path / "bare.xyz")
    options = [one.replace("LOW", str(low_file)).replace("BARE", str(tmp_path / "bare.xyz")) for one in options]
    with pytest.raises((ConfigError, DataError), match=message) as caught:
        training_frames(small(*options))
    assert "\n" not in str(caught.value)


def test_a_name_that_occurs_twice_in_a_file(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("data:\n  file: a.npz\n  levels:\n    PBE: b.npz\n    PBE: c.npz\n")
    with pytest.raises(ConfigError, match=r"key 'PBE' occurs twice in line 5"):
        load_config(path)


def test_a_network_that_states_no_head(small, low_file):
    class HeadlessNetwork(torch.nn.Module):
        def __init__(self, cutoff: float) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(119, 1)

    register_network("headless", HeadlessNetwork)
    config = load_config(None, [f"data.file={low_file}", f"data.levels={{PBE: {low_file}}}", "model.network=headless"])
    with pytest.raises(ConfigError, match="HeadlessNetwork does not state which weights are its head"):
        starting_potential(config, training_frames(config))


def test_terms_act_on_the_labels_of_all_levels_and_validation_on_the_main_level(small, low_file, tmp_path):
    run = prepared(small("data.forces_fraction=0", f"data.levels={{PBE: {low_file}}}"), tmp_path)
    assert {"energy", "forces"} <= {weighted.term.name for weighted in run.task.objective.terms}
    assert [weighted.term.name for weighted in run.task.validated.terms] == ["energy"]
    notes = run.setup.frames.report.notes
    assert any("no training frame of the main level has forces: loss.forces acts on further levels" in n for n in notes)
    assert not any("energies only" in note for note in notes)
    # The scale is the RMS force of the further level.
    rms = np.sqrt(np.mean([np.square(one.forces).mean() for one in run.setup.frames.levels[0].frames]))
    assert float(run.start.potential.scale) == pytest.approx(rms)


def test_terms_of_a_teacher_act_on_the_main_level():
    frames = [replace(frame("H2O", seed=seed), level=level) for seed, level in enumerate((0, 1, 0))]
    labeled = replace(frames[2], forces=np.zeros((3, 3)))
    batch = collate([frames[0], frames[1], labeled], 3.0)
    assert TeacherForces()._chosen(batch).tolist() == [True, False, False]
    assert TeacherForces(everywhere=True)._chosen(batch).tolist() == [True, False, True]
    assert not TeacherForces().applies(collate([frames[1]], 3.0))


def test_chains_of_the_contrast_have_partners_of_their_level():
    frames = [replace(frame("H2O", seed=seed), level=seed % 2) for seed in range(8)]
    contrast = Contrast(frames, ChainSettings(chains=8), 3.0, seed=0)
    for chain in contrast.chains:
        partners = {contrast._partner(chain, step) % 2 for step in range(20)}
        assert partners == {frames[chain.start].level}
        assert chain.frame(contrast.frames).level == frames[chain.start].level


def test_heads_are_trained_like_the_network(small, low_file, start_file):
    levels = f"data.levels={{PBE: {low_file}}}"

    def potential(*options):
        config = small(levels, f"start.init_from={start_file}", *options)
        config = with_network_of_start(config.model_copy(update={"model": ModelConfig()}))
        return starting_potential(config, training_frames(config)).potential

    def trained(head):
        return [weight.requires_grad for weight in head.weights]

    assert trained(potential().head(1)) == [True] * 4
    assert trained(potential("start.freeze=[embedding]").head(1)) == [True] * 4
    assert trained(potential("start.freeze=[readout.0]").head(1)) == [False, False, True, True]
    lora = potential("start.method=lora")
    assert trained(lora.head(1)) == [True] * 4
    readout = dict(lora.network.readout.named_parameters())
    assert set(readout) == {"0.weight", "0.bias", "2.weight", "2.bias"}  # no low-rank change, trained as a whole
    assert all(weight.requires_grad for weight in readout.values())
    assert not lora.network.embedding.weight.requires_grad
    frozen = potential("start.method=lora", "start.freeze=[readout]")
    assert trained(frozen.head(1)) == [False] * 4
    with pytest.raises(ConfigError, match="excludes all targets"):
        potential("start.method=lora", "start.lora_targets=[readout]")


def test_layer_decay_gives_all_heads_the_full_rate(small, low_file, start_file, tmp_path):
    config = small(f"data.levels={{PBE: {low_file}}}", f"start.init_from={start_file}", "start.layer_decay=0.5")
    run = prepared(config.model_copy(update={"model": ModelConfig()}), tmp_path)
    groups = run.task.build_optimizer().param_groups
    heads = {id(weight) for weight in run.start.potential.head(1).weights}
    assert heads <= {id(weight) for weight in groups[0]["params"]}
    counted = [id(weight) for group in groups for weight in group["params"]]
    assert sorted(counted) == sorted(id(weight) for weight in run.start.potential.parameters())


@pytest.mark.parametrize("network", ["so3lr", "mace"])
def test_the_heads_of_a_foundation_model(small, low_file, tmp_path, network):
    """Each head starts as a copy of all readouts of the start model, and the energies of its elements are refitted."""
    torch.manual_seed(0)
    size = {"layers": 1} if network == "so3lr" else {"elements": [1, 6, 8]}
    made = ModelConfig(network=network, channels=8, cutoff=4.0, **size)
    tensors = build_network(made).state_dict()
    file = TrainedModel(made, dict.fromkeys((1, 6, 8), -5.0), 1.0, "float32", tensors, training={"data": "test"})
    save_trained(file, tmp_path / "model.pt")
    config = small(f"data.levels={{PBE: {low_file}}}", f"start.init_from={tmp_path / 'model.pt'}")
    config = with_network_of_start(config.model_copy(update={"model": ModelConfig()}))
    point = starting_potential(config, training_frames(config))
    head = point.potential.head(1).named_weights()
    readouts = {"so3lr": {"energy", "charges", "volumes"}, "mace": {"early_readouts", "readout"}}
    assert {name.split(".")[0] for name in head} == readouts[network]
    assert all(torch.equal(weight, tensors[name]) for name, weight in head.items())
    assert any("level PBE: reference energies: refitted to 30 energies" in line for line in point.lines())
    if network == "mace":
        atoms = replace(frame("HCl", labeled=True), level=1)
        frames = training_frames(config)
        other = replace(frames.levels[0], frames=FrameSet([*frames.levels[0].frames, atoms]))
        with pytest.raises(ElementError, match="the network has weights for H C O only, not for Cl"):
            starting_potential(config, replace(frames, levels=(other,)))


def test_replay_frames_have_the_main_level(small, low_file, start_file, tmp_path, monkeypatch):
    monkeypatch.setattr("piwsl.training.replay.STEPS_APART", 2)  # short trajectories, which save time
    settings = [f"start.init_from={start_file}", "start.replay=4", "start.replay_share=0.2", "optimizer.steps=4"]
    config = small(f"data.levels={{PBE: {low_file}}}", *settings)
    run = prepared(config.model_copy(update={"model": ModelConfig()}), tmp_path)
    frames = run.setup.replay
    assert len(frames) == 4
    assert not any(one.level for one in frames)
    batch = collate(list(frames), run.setup.config.model.cutoff)
    torch.testing.assert_close(run.start.potential.energies(*batch.graph).detach(), batch.energy)
    # They started at frames of the main level, which are those of the Morse force field alone.
    main = [one.positions for one in run.setup.frames.main]
    assert all(min(np.abs(one.positions - other).max() for other in main) < 0.2 for one in frames)
