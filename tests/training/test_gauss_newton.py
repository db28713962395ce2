"""Least-squares fits of the weights to energies: the linear problem, runs, and what the method refuses."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import piwsl
from piwsl.data.batch import collate
from piwsl.data.frames import Frame, FrameSet
from piwsl.errors import ConfigError
from piwsl.export.trained_file import load_trained, save_trained
from piwsl.training.config import load_config
from piwsl.training.gauss_newton import PENALTIES, GaussNewtonPlan, ridge
from piwsl.training.preflight import plan_training
from piwsl.training.task import DivergedError
from tests.support.models_for_tests import trained_model
from tests.support.molecules import frame

MOLECULES = ("CH3CH2OH", "H2O")


def problem(count=12, weights=40, seed=0):
    """Gradients, labels with noise, and one free mean."""
    rng = np.random.default_rng(seed)
    gradients = rng.normal(size=(count, weights)) * np.logspace(0, -3, weights)
    labels = gradients @ rng.normal(size=weights) + 7.0 + 0.01 * rng.normal(size=count)
    return gradients, labels, np.full((count, 1), count**-0.5)


def direct(gradients, labels, means, penalty):
    """Solve the penalized least-squares problem in the weights, with free means."""
    weights = gradients.shape[1]
    rows = np.block([[gradients, means], [np.sqrt(penalty) * np.eye(weights), np.zeros((weights, means.shape[1]))]])
    solution = np.linalg.lstsq(rows, np.concatenate([labels, np.zeros(weights)]), rcond=None)[0]
    return solution[:weights], solution[weights:]


@pytest.mark.parametrize("free", [True, False])
def test_the_solution_is_that_of_the_least_squares_problem_in_the_weights(free):
    gradients, labels, means = problem()
    means = means if free else means[:, :0]
    fit = ridge(gradients @ gradients.T, labels, means)
    change, _ = direct(gradients, labels, means, fit.penalty)
    np.testing.assert_allclose(gradients.T @ fit.coefficients, change, rtol=1e-6, atol=1e-9)


def test_the_penalty_has_the_smallest_errors_of_labels_left_out_one_by_one():
    gradients, labels, means = problem()
    kernel = gradients @ gradients.T
    fit = ridge(kernel, labels, means)
    errors = []
    for penalty in np.trace(kernel) / len(labels) * PENALTIES:
        left_out = []
        for index in range(len(labels)):
            rest = np.arange(len(labels)) != index
            change, shift = direct(gradients[rest], labels[rest], means[rest], penalty)
            left_out.append(labels[index] - gradients[index] @ change - means[index] @ shift)
        errors.append(np.sqrt(np.square(left_out).mean()))
        if np.isclose(penalty, fit.penalty):
            assert fit.left_out == pytest.approx(errors[-1], rel=1e-4)
    assert fit.left_out == pytest.approx(min(errors), rel=1e-4)
    assert min(errors) < errors[-1]


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A start model, and frames with the energies of a model whose weights differ a little."""
    folder = tmp_path_factory.mktemp("gauss-newton")
    start = trained_model(channels=8, layers=2, cutoff=3.0)
    rng = torch.Generator().manual_seed(3)
    other = {
        name: value * (1.0 + 0.1 * torch.randn(value.shape, generator=rng)) for name, value in start.tensors.items()
    }
    save_trained(start, folder / "start.pt")
    object.__setattr__(start, "tensors", other)
    save_trained(start, folder / "other.pt")
    potential = load_trained(folder / "other.pt").potential(dtype="float64")
    frames = []
    for number in range(80):
        made = frame(MOLECULES[number % 8 == 0], rattle=0.08, seed=number)
        energies, forces = potential(*collate([made], 3.0, torch.float64).graph)
        shift = 0.7 * (made.species == 1).sum() - 0.4 * (made.species == 8).sum()
        frames.append(Frame(made.species, made.positions, energies.item() + shift, forces.detach().numpy()))
    return folder / "start.pt", FrameSet(frames)


OPTIONS = {
    "data.train": 50,
    "data.validation": 10,
    "data.test": 20,
    "data.forces_fraction": 0.0,
    "start.method": "gauss_newton",
    "threads": 1,
}


@pytest.fixture(scope="module")
def fitted(case, tmp_path_factory):
    start, frames = case
    directory = tmp_path_factory.mktemp("fit") / "run"
    seen = []
    result = piwsl.train(frames, init_from=start, options=OPTIONS, output=directory, progress=seen.append)
    return result, seen


@pytest.mark.slow
def test_energies_of_a_neighbor_are_learned_with_their_forces(case, fitted):
    start, frames = case
    result, seen = fitted
    before = load_trained(start).potential(dtype="float64")
    differences = []
    for made in frames:
        _, forces = before(*collate([made], 3.0, torch.float64).graph)
        differences.append(np.abs(forces.detach().numpy() - made.forces).mean())
    assert result.test.force_mae < 0.35 * np.mean(differences)
    assert result.test.energy_mae < 0.02
    assert seen[0].step == 1
    assert seen[-1].step <= seen[-1].steps == 250
    log = (result.directory / "train.log").read_text()
    assert "least squares in" in log
    assert "gauss_newton step 1: RMS error of the energies" in log
    assert "PITC" not in log


@pytest.mark.slow
def test_the_run_is_an_ordinary_run(fitted, tmp_path):
    result, _ = fitted
    trained = load_trained(result.model)
    assert trained.training["start"]["method"] == "gauss_newton"
    found = piwsl.evaluate(result.model, [frame("CH3CH2OH", labeled=True)])
    assert np.isfinite(found.errors.force_mae)
    assert json.loads((result.directory / "summary.json").read_text())["result"] == "completed"
    assert len(result.plot().axes) == 2
    exported = piwsl.export_model(result.model, tmp_path / "general.pt")
    assert exported.path.is_file()


@pytest.mark.slow
def test_fixed_weights_and_kept_energies_stay(case, tmp_path):
    start, frames = case
    options = OPTIONS | {"start.freeze": ["embedding", "readout"], "start.reference_energies": "keep"}
    result = piwsl.train(frames, init_from=start, options=options, output=tmp_path / "run")
    before, after = load_trained(start), load_trained(result.model)
    for name, value in after.tensors.items():
        same = torch.equal(value, before.tensors[name])
        assert same == name.startswith(("embedding", "readout")) or not value.is_floating_point(), name
    assert after.reference_energies == before.reference_energies


@pytest.mark.slow
def test_a_dry_run_states_the_size_of_the_problem(case, tmp_path):
    start, frames = case
    plan = plan_training(frames, init_from=start, options=OPTIONS, output=tmp_path / "run")
    text = "\n".join(plan.lines)
    assert "for 50 energies, up to 5 steps" in text
    assert plan.warnings == [warning for warning in plan.warnings if "optimizer" not in warning]
    assert plan.seconds > 0
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"data.forces_fraction": 1.0},
            "fits only energies, but training frames have forces: set data.forces_fraction",
        ),
        ({"data.train": 3}, "3 training frames have one: label 5 or more"),
        ({"model.forces": "direct"}, "which direct forces do not follow"),
        ({"dtype": "bf16-mixed"}, "does not support dtype: bf16-mixed"),
        ({"start.layer_decay": 0.5}, "start.layer_decay has no effect"),
        ({"start.replay": 10}, "start.replay has no effect"),
        ({"start.method": "full", "start.iterations": 2}, "start.iterations has no effect"),
    ],
)
def test_what_does_not_fit_is_one_line_before_anything_is_written(case, tmp_path, options, message):
    start, frames = case
    with pytest.raises(ConfigError, match=message):
        piwsl.train(frames, init_from=start, options=OPTIONS | options, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("key", ["data.weigh_by_spread", "data.largest_energy_spread"])
def test_spreads_of_labels_are_not_ignored(case, tmp_path, key):
    start, frames = case
    spread = FrameSet([replace(made, energy_spread=0.01 * number) for number, made in enumerate(frames)])
    with pytest.raises(ConfigError, match="does not support limits and weights by spread"):
        piwsl.train(spread, init_from=start, options=OPTIONS | {key: True if "weigh" in key else 0.5}, output=tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_start_that_gives_no_number_is_one_line(case, tmp_path):
    start, frames = case
    broken = load_trained(start)
    broken.tensors["readout.0.weight"][0, 0] = float("nan")
    save_trained(broken, tmp_path / "start.pt")
    options = OPTIONS | {"start.reference_energies": "keep"}
    with pytest.raises(DivergedError, match="is not a finite number with the weights of the start"):
        piwsl.train(frames, init_from=tmp_path / "start.pt", options=options, output=tmp_path / "run")


def test_members_that_would_be_equal_are_refused(case, tmp_path):
    start, frames = case
    with pytest.raises(ConfigError, match="all members would be equal: train one model"):
        piwsl.train_ensemble(frames, seeds=[1, 2], init_from=start, options=OPTIONS, output=tmp_path / "run")


@pytest.mark.slow
def test_a_finished_run_is_repeated_exactly_by_resume(case, fitted):
    start, frames = case
    result, _ = fitted
    before = load_trained(result.model).tensors
    again = piwsl.train(frames, init_from=start, options=OPTIONS, output=result.directory, resume=True)
    after = load_trained(again.model).tensors
    assert all(torch.equal(value, before[name]) for name, value in after.items())


def test_random_weights_and_gradients_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="gauss_newton changes the weights of a trained file"):
        load_config(None, ["start.method=gauss_newton"])
    with pytest.raises(ConfigError, match=r"8\.0 GB of 1\.0 GB: reduce data\.train, or keep weights fixed"):
        GaussNewtonPlan(1000, 1_000_000, 5, 1e9).check()
