"""Fidelity of a student to its teachers in its own dynamics."""

import numpy as np
import pytest
from ase.build import molecule

import piwsl
from piwsl.data.frames import Frame
from piwsl.interfaces.ase import PiwslCalculator
from piwsl.learning.fidelity import fidelity

pytest.importorskip("tblite")

SMALL = {"model": {"channels": 16, "layers": 1}, "optimizer": {"validation_interval": 20}}


def waters(count: int, size: float = 0.05) -> list[Frame]:
    """Return displaced water molecules; the displacements grow with the place."""
    random = np.random.default_rng(0)
    frames = []
    for place in range(count):
        atoms = molecule("H2O")
        atoms.positions += size * place / count * random.normal(size=(3, 3))
        frames.append(Frame.from_atoms(atoms))
    return frames


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return two models, whose networks differ."""
    folder = tmp_path_factory.mktemp("models")
    labeled = piwsl.label(waters(20, 0.2), "gfn2-xtb", output=folder / "labels", progress=False)
    options = {**SMALL, "optimizer": {**SMALL["optimizer"], "steps": 20}, "data": {"validation": 4}}
    return [
        piwsl.train(labeled, config={**options, "seed": seed}, output=folder / f"seed-{seed}", progress=False).model
        for seed in (1, 2)
    ]


def test_the_difference_is_the_mean_over_components_and_the_worst_frames_are_returned(models):
    student, teacher = models
    frames = waters(120)
    found = fidelity(student, [teacher], frames)
    calculators = [PiwslCalculator(path) for path in models]
    forces = [[one.get_forces(frame.atoms()) for frame in frames] for one in calculators]
    differences = np.abs(np.array(forces[0]) - forces[1]).mean((1, 2))
    assert found.force_mae == pytest.approx(differences.mean(), rel=1e-4)
    by_atom = np.abs(np.array(forces[0]) - forces[1]).mean((0, 2))
    assert list(found.by_atom) == ["O0", "H1", "H2"]
    assert list(found.by_atom.values()) == pytest.approx(by_atom, rel=1e-4)
    worst = sorted(np.argsort(-differences)[:50])
    assert [frame.positions.tobytes() for frame in found.worst] == [frames[i].positions.tobytes() for i in worst]


def test_a_student_equals_itself_and_the_teachers_are_averaged(models):
    student, teacher = models
    frames = waters(30)
    assert fidelity(student, [student], frames).force_mae < 1e-6
    alone, both = fidelity(student, [teacher], frames), fidelity(student, [student, teacher], frames)
    assert both.force_mae == pytest.approx(0.5 * alone.force_mae, rel=1e-4)


def test_long_dynamics_is_sampled_from_begin_to_end(models):
    student, teacher = models
    frames = waters(400)
    marks = {frame.positions.tobytes(): place for place, frame in enumerate(frames)}
    worst = [marks[frame.positions.tobytes()] for frame in fidelity(student, [teacher], frames).worst]
    assert len(worst) == 50
    assert max(worst) > 300
    assert fidelity(student, [teacher], []) is None


def test_a_large_structure_is_described_by_its_elements(monkeypatch, models):
    named = fidelity(models[0], [models[1]], waters(30)).by_atom
    monkeypatch.setattr("piwsl.learning.fidelity._NAMED", 2)
    found = fidelity(models[0], [models[1]], waters(30)).by_atom
    assert found == pytest.approx({"H": 0.5 * (named["H1"] + named["H2"]), "O": named["O0"]})
