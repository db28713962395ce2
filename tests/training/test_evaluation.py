"""Errors of a model on labeled frames: by frame, data set, config_type and element; ensembles and exported files."""

import json
from dataclasses import replace

import numpy as np
import pytest
from ase.io import read

import piwsl
from piwsl.data.read import read_frames
from piwsl.data.write import write_extxyz
from piwsl.errors import ConfigError, DataError, RunDirectoryError
from piwsl.export.trained_file import load_trained, save_trained
from piwsl.runs.json_text import json_text
from tests.support.models_for_tests import trained_file
from tests.support.molecules import frame, oxide


@pytest.fixture
def frames():
    kinds = ["gas", "liquid", ""]
    made = [frame(name, seed=seed, labeled=True) for seed, name in enumerate(["H2O", "CH4", "CH3CH2OH"] * 2)]
    return [replace(entry, config_type=kinds[place % 3]) for place, entry in enumerate(made)]


@pytest.fixture
def ensemble(tmp_path):
    """A directory as `piwsl.train_ensemble` leaves it."""
    for seed in (1, 2, 3):
        (tmp_path / "e" / f"seed-{seed}").mkdir(parents=True)
        trained_file(tmp_path / "e" / f"seed-{seed}" / "model.pt", seed=seed, dtype="float64")
    members = [{"directory": f"seed-{seed}"} for seed in (1, 2, 3)]
    (tmp_path / "e" / "ensemble.json").write_text(json.dumps({"members": members}))
    return tmp_path / "e"


def test_errors_by_data_set_config_type_and_element(exports, frames):
    whole = piwsl.evaluate(exports.trained(), frames, progress=False)
    parts = piwsl.evaluate(exports.trained(), {"a": frames[:2], "b": frames[2:]}, progress=False)
    for name, value in vars(whole.errors).items():
        assert getattr(parts.errors, name) == pytest.approx(value), name
    assert parts.by_set["a"] == piwsl.evaluate(exports.trained(), frames[:2], progress=False).errors
    assert whole.by_set == {}
    assert list(whole.by_config_type) == ["gas", "liquid", "(none)"]
    water = piwsl.evaluate(exports.trained(), [frames[0], frames[3]], progress=False)
    assert whole.by_config_type["gas"] == water.errors
    differences = np.concatenate([f - frame.forces for f, frame in zip(whole.forces, frames, strict=True)])
    species = np.concatenate([frame.species for frame in frames])
    assert list(whole.by_element) == ["H", "C", "O"]
    assert whole.by_element["O"].force_mae == pytest.approx(np.abs(differences[species == 8]).mean())
    assert whole.by_element["O"].energy_mae is None
    assert [title for title, _ in parts.groups()] == ["data set", "config_type", "element"]
    assert {"by_data_set", "by_config_type", "by_element"} <= parts.as_dict().keys()
    html = parts._repr_html_()
    assert "config_type" in html
    assert "data:image/png" in html


@pytest.mark.slow
def test_an_ensemble_has_a_spread_and_an_exported_one_the_same(ensemble, frames, tmp_path):
    members = [piwsl.evaluate(path, frames, progress=False) for path in sorted(ensemble.glob("seed-*"))]
    together = piwsl.evaluate(ensemble, frames, progress=False)
    energies = np.stack([member.energies for member in members])
    assert together.energies == pytest.approx(energies.mean(0))
    assert together.energy_spreads == pytest.approx(energies.std(0, ddof=1))
    forces = np.stack([member.forces[0] for member in members])
    assert together.force_spreads[0] == pytest.approx(np.sqrt(np.square(forces.std(0, ddof=1)).mean()))
    assert together.as_dict()["force_spread"] > 0
    assert members[0].energy_spreads is None
    exported = piwsl.export_model(ensemble, tmp_path / "committee.pt").path
    same = piwsl.evaluate(exported, frames, progress=False)
    assert same.energies == pytest.approx(together.energies, abs=1e-9)
    assert same.energy_spreads == pytest.approx(together.energy_spreads, abs=1e-9)
    assert same.force_spreads == pytest.approx(together.force_spreads, abs=1e-9)


def test_an_exported_file_has_the_errors_of_its_model(exports, frames):
    cells = [replace(oxide(labeled=True), energy=-3000.0), *frames]
    expected = piwsl.evaluate(exports.trained(), cells, progress=False)
    found = piwsl.evaluate(exports.general(), cells, progress=False)
    for name, value in vars(expected.errors).items():
        assert getattr(found.errors, name) == pytest.approx(value, rel=1e-6), name
    assert found.errors.stress_mae is not None


def test_predictions_are_written_worst_first(ensemble, frames, tmp_path):
    frames[1] = replace(frames[1], forces=frames[1].forces + 100.0)
    frames[4] = replace(frames[4], energy=np.nan, forces=np.full_like(frames[4].forces, np.nan))
    found = piwsl.evaluate(ensemble, {"a": frames[:4], "b": frames[4:]}, write=tmp_path / "p.extxyz", progress=False)
    written = read(tmp_path / "p.extxyz", ":")
    assert len(written) == len(frames)
    assert (written[0].info["set"], written[0].info["frame"], written[0].info["config_type"]) == ("a", 1, "liquid")
    assert (written[-1].info["set"], written[-1].info["frame"]) == ("b", 0)  # without labels
    assert "force_rmse" not in written[-1].info
    worst = written[0]
    assert worst.info["force_rmse"] == pytest.approx(found.force_errors[1])
    assert worst.info["energy_error"] == pytest.approx(worst.info["predicted_energy"] - worst.info["REF_energy"])
    assert worst.info["force_spread"] == pytest.approx(found.force_spreads[1])
    assert worst.arrays["predicted_forces"] == pytest.approx(found.forces[1], abs=1e-7)
    ranks = [atoms.info["force_rmse"] for atoms in written[:-1]]
    assert ranks == sorted(ranks, reverse=True)
    assert read_frames(tmp_path / "p.extxyz")[0].energy == pytest.approx(frames[1].energy)  # labels, not predictions
    with pytest.raises(ConfigError, match=r"choose a file name that ends in .extxyz"):
        piwsl.evaluate(ensemble, frames, write=tmp_path / "p.csv", progress=False)


def test_predicted_stresses_are_written(exports, frames, tmp_path):
    cells = [frames[0], replace(oxide(labeled=True), energy=-3000.0)]
    found = piwsl.evaluate(exports.trained(), cells, write=tmp_path / "p.extxyz", progress=False)
    written = {atoms.info["frame"]: atoms.info for atoms in read(tmp_path / "p.extxyz", ":")}
    predicted, labeled = written[1]["predicted_stress"], written[1]["REF_stress"]
    assert np.abs(predicted - labeled).mean() == pytest.approx(found.errors.stress_mae)
    assert "predicted_stress" not in written[0]


def test_a_model_that_gives_nan_is_said_and_json_stays_valid(tmp_path, frames):
    model = load_trained(trained_file(tmp_path / "model.pt", dtype="float64"))
    tensors = {
        name: values * np.nan if values.dtype.is_floating_point else values for name, values in model.tensors.items()
    }
    save_trained(replace(model, tensors=tensors), tmp_path / "nan.pt")
    found = piwsl.evaluate(tmp_path / "nan.pt", frames, write=tmp_path / "p.extxyz", progress=False)
    assert len(found.not_finite) == len(frames)
    assert "energy or forces are not finite for 6 of 6 frames, first for frame 0 of memory" in found.notes[-1]
    values = json.loads(json_text(found.as_dict()), parse_constant=pytest.fail)
    assert values["force_mae"] is None
    assert read(tmp_path / "p.extxyz", 0).info["not_finite"]
    with pytest.raises(DataError, match="no frame has both a label and a finite prediction"):
        found.plot()


@pytest.mark.parametrize("labels", [("energy",), ("forces",), ("energy", "forces"), ("energy", "forces", "stress")])
def test_the_plot_has_a_panel_for_each_label_with_units_and_errors(exports, labels):
    made = oxide(labeled=True)
    made = made if "stress" in labels else replace(made, stress=np.full((3, 3), np.nan))
    made = made if "forces" in labels else replace(made, forces=np.full_like(made.forces, np.nan))
    made = made if "energy" in labels else replace(made, energy=np.nan)
    panels = piwsl.evaluate(exports.trained(), [made, made], progress=False).plot().axes
    units = {"energy": "meV/atom", "forces": "eV/Å", "stress": "meV/Å³"}
    assert [panel.get_xlabel().split("[")[1][:-1] for panel in panels] == [units[label] for label in labels]
    for panel in panels:
        assert "MAE" in panel.texts[0].get_text()
        assert "RMSE" in panel.texts[0].get_text()


def test_config_types_come_from_extended_xyz(exports, frames, tmp_path):
    path = tmp_path / "f.extxyz"
    write_extxyz(path, frames)
    text = path.read_text().replace("REF_energy=", "config_type=gas REF_energy=", 1)
    path.write_text(text.replace("REF_energy=", "config_type=ice REF_energy=", 2).replace("config_type=ice", "", 1))
    assert set(piwsl.evaluate(exports.trained(), path, progress=False).by_config_type) >= {"gas"}


def test_mistakes_are_one_line(exports, frames, tmp_path):
    with pytest.raises(RunDirectoryError, match=r"contains neither model.pt nor an ensemble"):
        piwsl.evaluate(tmp_path, frames, progress=False)
    with pytest.raises(ConfigError, match="occurs twice"):
        piwsl.evaluate(exports.trained(), ["a.xyz", "a.xyz"], progress=False)
    with pytest.raises(ConfigError, match="name at least one data set"):
        piwsl.evaluate(exports.trained(), {}, progress=False)


def test_what_the_data_report_warns_of_is_noted(exports, tmp_path):
    """An error is wrong if the cell, the forces or the units of the file are not what was read."""
    rows = [f"H {0.7 + 0.01 * place} 0 0 0.1 0 0\nH 0 0 0 -0.1 0 0\n" for place in range(4)]
    text = "".join(
        f'2\ncell="9 9 9" energy=-3{i} Properties=species:S:1:pos:R:3:force:R:3\n{r}' for i, r in enumerate(rows)
    )
    (tmp_path / "a.xyz").write_text(text)
    notes = piwsl.evaluate(exports.trained(), tmp_path / "a.xyz", progress=False).notes
    assert any(note.startswith("4 of 4 frames have no cell, but 'cell'") for note in notes)
    assert any(note.startswith("4 of 4 frames have no forces, but 'force'") for note in notes)
    unlabeled = [frame("H2O")]
    assert piwsl.evaluate(exports.trained(), unlabeled, progress=False).notes == ()
