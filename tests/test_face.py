"""`import piwsl`: the verbs are there, cheap to import, and their results display themselves."""

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.io import write

import piwsl
from piwsl.runs import notebook
from tests.support.models_for_tests import trained_file
from tests.support.molecules import frame

VERBS = [name for name in piwsl.__all__ if name != "__version__"]


@pytest.mark.slow
def test_import_is_fast_and_loads_nothing_heavy():
    script = (
        "import sys, time\n"
        "begin = time.process_time()\n"
        "import piwsl\n"
        "assert {'train', 'run_md', 'losses'} <= set(dir(piwsl))\n"
        "seconds = time.process_time() - begin\n"
        "heavy = {'torch', 'numpy', 'ase', 'openmm', 'matplotlib', 'lightning', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert seconds < 0.3, seconds\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.parametrize("name", VERBS)
def test_every_public_name_has_documentation(name):
    assert (getattr(piwsl, name).__doc__ or "").strip()
    assert name in dir(piwsl)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = piwsl.trian


class Balanced(HTMLParser):
    """Checks that elements are closed and nothing is loaded from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in ("br", "img"):
            self.stack.append(tag)
        for name, value in attrs:
            assert name not in ("src", "href") or value.startswith("data:"), value

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag


def check_html(result: object) -> str:
    html = result._repr_html_()
    parser = Balanced()
    parser.feed(html)
    assert not parser.stack
    assert "\n" not in repr(result)
    assert len(repr(result)) < 300
    return html


def test_texts_are_escaped():
    page = notebook.block(
        notebook.heading("<b>"), notebook.table([("<i>", 1)], ("<u>", "")), notebook.facts([("<s>", "<em>")])
    )
    assert not {"<b><", "<i>", "<u>", "<s>", "<em>"} & {page[i : i + 4] for i in range(len(page))}
    for text in ("&lt;b&gt;", "&lt;i&gt;", "&lt;u&gt;", "&lt;s&gt;", "&lt;em&gt;"):
        assert text in page


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return trained_file(tmp_path / "model.pt")


@pytest.mark.slow
def test_a_trained_model_predicts(model, tmp_path):
    trained = piwsl.load_model(str(model))
    assert {"H", "C", "O"} <= set(trained.symbols)
    assert trained.units == {"energy": "eV", "length": "angstrom", "force": "eV/angstrom"}
    assert trained.level is None
    waters = [molecule("H2O"), frame("CH4").atoms()]
    predicted = trained.predict(waters)
    potential = trained.potential()
    assert len(predicted) == 2
    assert all(one.has_energy and one.has_forces for one in predicted)
    calculator = piwsl.PiwslCalculator(model)
    for atoms, one in zip(waters, predicted, strict=True):
        atoms.calc = calculator
        assert atoms.get_potential_energy() == pytest.approx(one.energy, abs=1e-4)
        assert np.allclose(atoms.get_forces(), one.forces, atol=1e-3)
    assert potential.elements == trained.elements
    assert f"{trained.cutoff:g} angstrom" in check_html(trained)
    with pytest.raises(piwsl.ElementError, match="Cl"):
        trained.predict(molecule("CH3Cl"))


def test_evaluate_reports_each_frame(model, tmp_path):
    trained = piwsl.load_model(model)
    frames = trained.predict([frame("H2O", seed=seed).atoms() for seed in range(3)])
    shifted = [piwsl.Frame.from_atoms(one.atoms(), one.energy + 1.0, one.forces + 0.5) for one in frames]
    unlabeled = piwsl.Frame.from_atoms(shifted[0].atoms())
    result = piwsl.evaluate(model, [*shifted, unlabeled])
    assert np.allclose(result.energy_errors[:3], -1.0, atol=1e-5)
    assert np.allclose(result.force_errors[:3], 0.5, atol=1e-5)
    assert np.isnan(result.energy_errors[3])
    assert np.isnan(result.force_errors[3])
    assert result.errors.energy_mae == pytest.approx(1.0, abs=1e-5)
    assert "all energies are shifted by" in result.notes[-1]
    assert "data:image/png;base64," in check_html(result)
    result.plot(tmp_path / "parity.png")
    assert (tmp_path / "parity.png").read_bytes().startswith(b"\x89PNG")


def test_evaluate_measures_stress(model):
    trained = piwsl.load_model(model)
    atoms = molecule("H2O", cell=[9.0, 9.0, 9.0], pbc=True)
    predicted = trained.predict(atoms)[0]
    labeled = piwsl.Frame.from_atoms(atoms, predicted.energy, predicted.forces, np.eye(3))
    assert piwsl.evaluate(trained, labeled).errors.stress_mae > 0.1


@pytest.mark.slow
def test_an_exported_model_is_a_path(model, tmp_path):
    exported = piwsl.export_model(model, target="openmm", structure=molecule("H2O"))
    assert exported.path == tmp_path / "model-openmm.pt"
    assert "verified on" in check_html(exported)
    atoms = molecule("H2O")
    atoms.calc = piwsl.PiwslCalculator(exported)
    assert np.isfinite(atoms.get_potential_energy())
    with pytest.raises(piwsl.RunDirectoryError, match="force=True"):
        piwsl.export_model(model, target="openmm", structure=molecule("H2O"))
    with pytest.raises(piwsl.ConfigError, match="lammps"):
        piwsl.export_model(model, target="lammps")


@pytest.mark.slow
def test_label_returns_frames(tmp_path):
    write(tmp_path / "in.xyz", [molecule("H2O"), molecule("CO")])
    labeled = piwsl.label(tmp_path / "in.xyz", "ase.calculators.emt:EMT", output=tmp_path / "labels", progress=False)
    assert (len(labeled), labeled[0].has_forces, labeled.notes) == (2, True, ())
    assert "frames" in check_html(labeled)
    again = piwsl.label([molecule("H2O"), molecule("CO")], "ase.calculators.emt:EMT", output=tmp_path / "labels")
    assert [one.energy for one in again] == [one.energy for one in labeled]


def test_frames_are_read_with_units_by_name(tmp_path):
    np.savez(tmp_path / "w.npz", z=[8, 1, 1], R=molecule("H2O").positions[None], E=[1.0])
    assert piwsl.read_frames(tmp_path / "w.npz", "kcal/mol")[0].energy == pytest.approx(0.0433641, abs=1e-6)
    with pytest.raises(piwsl.DataError, match="units"):
        piwsl.read_frames(str(tmp_path / "w.npz"))


SHORTER = {
    '"data.train": 400': '"data.train": 20, "data.test": 5, "optimizer.batch_size": 4',
    '"data.validation": 50': '"data.validation": 5',
    '"model.channels": 32': '"model.channels": 8',
    '"model.layers": 2': '"model.layers": 1',
    '"optimizer.steps": 400': '"optimizer.steps": 4',
    '"optimizer.validation_interval": 100': '"optimizer.validation_interval": 2',
    "steps=4000": "steps=400",
}


@pytest.mark.slow
def test_the_notebook_runs_and_its_results_display_themselves(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[1] / "examples" / "quickstart.py").read_text()
    for long, short in SHORTER.items():
        assert text.count(long) == 1, long
        text = text.replace(long, short)
    cells: dict[str, object] = {}
    exec(compile(text, "quickstart.py", "exec"), cells)
    assert "MAE" in check_html(cells["result"])
    assert "verified on" in check_html(cells["exported"])
    assert "after 400 of 400 steps" in check_html(cells["run"])
    assert "<table" in cells["analysis"]._repr_html_()
    assert (tmp_path / "quickstart/analysis/report.html").exists()
    assert cells["analysis"].verdict in capfd.readouterr().out
