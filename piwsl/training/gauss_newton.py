"""Fine-tuning on energies by Gauss-Newton steps: a least-squares problem in all weights, solved in closed form.

Near the start model, an energy is almost linear in the weights: E(x; w + d) = E(x; w) + g(x).d, where g is the gradient
of the energy with respect to the weights. Let G contain the gradients of n labeled structures, and y their labels minus
E(x; w). The change d minimizes |y - G d - H b|^2 + p |d|^2. The columns of H are the numbers of atoms of each element,
and their coefficients b, the corrections of the reference energies, are not penalized. The solution d = G^T a requires
only n equations. It is Gaussian process regression with the neural tangent kernel G G^T (Jacot et al., NeurIPS 2018)
and unknown means, so one decomposition of the kernel yields the leave-one-out errors for all penalties p (Rasmussen and
Williams, Gaussian Processes for Machine Learning, 2006, sections 2.7 and 5.4.2). The penalty with the smallest error is
used. The next step expands the energy around the new weights, and still penalizes the change from the start.

Gradient descent reaches the same minimum at very different speeds along different directions of the weights. When the
slow directions are fitted, the fast ones have fitted the noise of few labels.
"""

import copy
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from lightning.pytorch.loggers import CSVLogger

from piwsl.compat.torch import torch_bytes
from piwsl.data.batch import collate
from piwsl.data.frames import FrameSet
from piwsl.errors import ConfigError
from piwsl.export.trained_file import DTYPES
from piwsl.losses.spread import EQUAL_WEIGHTS
from piwsl.models import Potential
from piwsl.runs.files import write_bytes
from piwsl.runs.interruption import hangup_as_termination
from piwsl.training.config import GAUSS_NEWTON, TrainingConfig
from piwsl.training.directory import BEST, metrics_name
from piwsl.training.evaluate import evaluate_potential
from piwsl.training.fit import Setup, TrainingProgress
from piwsl.training.initial_energies import refit
from piwsl.training.step_memory import GIGABYTE, memory_of
from piwsl.training.task import DivergedError
from piwsl.typing import FloatArray

LOGGER = logging.getLogger(__name__)
FEWEST = 5  # smallest number of energies that determine penalty and weights
PENALTIES = 10.0 ** np.arange(-11.0, -1.0, 0.5)  # tried penalties, in units of the mean of the kernel's diagonal
GAIN = 0.99  # ratio of the leave-one-out errors of two steps below which a further step is made
HALVINGS = 4  # largest number of halvings of a step that does not lower the error


@dataclass(frozen=True, eq=False)
class RidgeFit:
    """Solution of the linear problem of one step.

    Attributes:
        coefficients: Coefficient of the gradient of each energy (n,).
        penalty: Selected penalty p.
        left_out: Root mean square of the leave-one-out errors, eV.
    """

    coefficients: FloatArray
    penalty: float
    left_out: float


def ridge(kernel: FloatArray, labels: FloatArray, means: FloatArray) -> RidgeFit:
    """Solve the least-squares problem for the penalty with the smallest leave-one-out errors.

    Args:
        kernel: Products of the gradients (n, n).
        labels: Energies (n,) to explain, eV.
        means: Columns (n, m) whose coefficients are free, of full column rank; m may be 0.
    """
    values, vectors = np.linalg.eigh(kernel)
    values = np.maximum(values, 0.0)
    unit = max(float(np.trace(kernel)) / len(labels), np.finfo(float).tiny)
    fits = []
    for penalty in unit * PENALTIES:
        inverse = (vectors / (values + penalty)) @ vectors.T
        if means.shape[1]:
            seen = inverse @ means
            inverse = inverse - seen @ np.linalg.solve(means.T @ seen, seen.T)
        coefficients = inverse @ labels
        left_out = coefficients / np.diag(inverse)
        fits.append(RidgeFit(coefficients, float(penalty), float(np.sqrt(np.square(left_out).mean()))))
    return min(fits, key=lambda one: one.left_out)


@dataclass(frozen=True)
class GaussNewtonPlan:
    """Size of the problem.

    Attributes:
        energies: Number of energies.
        weights: Number of weights.
        iterations: Largest number of steps.
        available: Memory of the device, bytes; None if it is unknown.
    """

    energies: int
    weights: int
    iterations: int
    available: float | None

    @property
    def needed(self) -> float:
        """Memory of the gradients, bytes."""
        return 8.0 * self.energies * self.weights

    @property
    def line(self) -> str:
        """Description in one line."""
        return (
            f"least squares in {self.weights} weights for {self.energies} energies, up to {self.iterations} steps; "
            f"{self.needed / GIGABYTE:.2g} GB for the gradients"
        )

    def check(self) -> None:
        """Raise an error if the gradients do not fit into memory.

        Raises:
            ConfigError: The gradients need more memory than is available.
        """
        if self.available is not None and self.needed > 0.7 * self.available:
            raise ConfigError(
                f"start.method: {GAUSS_NEWTON} keeps the gradients of {self.energies} energies by {self.weights} "
                f"weights, {self.needed / GIGABYTE:.1f} GB of {self.available / GIGABYTE:.1f} GB: reduce data.train, "
                "or keep weights fixed with start.freeze"
            )


def plan_gauss_newton(setup: Setup, potential: Potential) -> GaussNewtonPlan:
    """Return the size of the problem of a run.

    Raises:
        ConfigError: The configuration or the frames do not fit the method.
    """
    config, frames = setup.config, setup.frames
    method, labels = f"start.method: {GAUSS_NEWTON}", frames.labels["training"]
    if labels.energies < FEWEST:
        raise ConfigError(
            f"{method} fits energies, but {labels.energies} training frames have one: label {FEWEST} or more"
        )
    if labels.forces or labels.stresses:
        what = "forces" if labels.forces else "a stress"
        remedy = "set data.forces_fraction: 0 to leave them out, or " if labels.forces else ""
        raise ConfigError(
            f"{method} fits only energies, but training frames have {what}: {remedy}choose another method"
        )
    if config.model.forces != "conservative":
        raise ConfigError(f"{method} fits only energies, which direct forces do not follow: choose another method")
    for key, used in (
        ("data.levels", bool(frames.levels)),
        ("data.unlabeled", frames.unlabeled > 0),
        ("limits and weights by spread", frames.spread != EQUAL_WEIGHTS),
        ("several processes", setup.processes.count > 1),
        ("dtype: bf16-mixed", config.mixed_precision),
    ):
        if used:
            raise ConfigError(f"{method} does not support {key}: remove it, or choose another method")
    weights = sum(weight.numel() for weight in potential.parameters() if weight.requires_grad)
    return GaussNewtonPlan(labels.energies, weights, config.start.iterations, memory_of(setup.device))


def fit_gauss_newton(
    setup: Setup, potential: Potential, progress: Callable[[TrainingProgress], None] | None = None
) -> None:
    """Fit the weights of a potential to the energies of the training frames, and store them as the best checkpoint.

    Args:
        setup: Settings of the run.
        potential: Potential with the weights of the start, which are changed.
        progress: Function called after each gradient.

    Raises:
        ConfigError: See `plan_gauss_newton`.
        DivergedError: An energy or its gradient is not finite.
        KeyboardInterrupt: A signal interrupted the run.
    """
    plan = plan_gauss_newton(setup, potential)
    plan.check()
    LOGGER.info(f"gauss_newton: {plan.line}")
    with hangup_as_termination():
        problem = _Problem(setup, potential, _Counter(plan, progress))
        for number, line in enumerate(problem.steps(plan.iterations), start=1):
            LOGGER.info(f"gauss_newton step {number}: {line}")
        problem.write_weights(potential)
        _store(setup, potential, number)


def gradient_seconds(setup: Setup, potential: Potential) -> float:
    """Return the measured time of the gradient of one energy, s. The first gradients may include compilation."""
    problem = _Problem(setup, potential, _Counter(plan_gauss_newton(setup, potential), None))
    times = []
    for number in (0, 1, 2, 3):
        began = time.perf_counter()
        problem.gradient(number)
        times.append(time.perf_counter() - began)
    return min(times)


class _Counter:
    """Progress by the number of computed gradients."""

    def __init__(self, plan: GaussNewtonPlan, report: Callable[[TrainingProgress], None] | None) -> None:
        self._report, self._total = report, plan.energies * plan.iterations
        self._done, self._began, self.error = 0, time.perf_counter(), math.nan

    def count(self) -> None:
        self._done += 1
        if self._report is not None:
            left = (time.perf_counter() - self._began) / self._done * (self._total - self._done)
            self._report(TrainingProgress(self._done, self._total, self.error, {}, None, None, None, left))


class _Problem:
    """Energies of the training frames as functions of the weights, in float64."""

    def __init__(self, setup: Setup, potential: Potential, counter: _Counter) -> None:
        frames = setup.frames.main
        self._frames: FrameSet = frames.select(np.flatnonzero(frames.census.has_energy))
        self._setup, self._counter = setup, counter
        self._potential = copy.deepcopy(potential).to(setup.device)
        self._potential.network.to(torch.float64)
        named = self._potential.network.named_parameters()
        self._weights = {name: weight for name, weight in named if weight.requires_grad}
        self._start = {name: weight.detach().clone() for name, weight in self._weights.items()}
        self._labels = np.array([frame.energy for frame in self._frames])
        self._means = (
            _columns(self._frames) if _fits_reference_energies(setup.config) else np.zeros((len(self._labels), 0))
        )

    def steps(self, most: int) -> Iterator[str]:
        """Change the weights in up to ``most`` steps, and yield a line about each."""
        change = torch.zeros(sum(weight.numel() for weight in self._weights.values()), dtype=torch.float64)
        change = change.to(self._setup.device)
        earlier = math.inf
        for _ in range(most):
            gradients, energies = self._linearized()
            error = self._error(energies)
            left = self._labels - energies + (gradients @ change).cpu().numpy()
            fit = ridge((gradients @ gradients.T).cpu().numpy(), left, self._means)
            if fit.left_out > GAIN * earlier:
                return
            earlier = self._counter.error = fit.left_out
            goal = gradients.T @ torch.from_numpy(fit.coefficients).to(change)
            del gradients
            for halving in range(HALVINGS + 1):
                following = change + 0.5**halving * (goal - change)
                self._set(following)
                reached = self._error(self._energies())
                if reached < error:
                    break
            else:
                self._set(change)
                yield "no step lowers the error: the energies are not linear in the weights"
                return
            change = following
            part = f", {0.5**halving:g} of it" if halving else ""
            yield (
                f"RMS error of the energies {1e3 * error:.1f} -> {1e3 * reached:.1f} meV{part}; "
                f"left out one by one {1e3 * fit.left_out:.1f} meV"
            )

    def write_weights(self, potential: Potential) -> None:
        """Copy the weights to the potential of the run."""
        targets = dict(potential.network.named_parameters())
        with torch.no_grad():
            for name, weight in self._weights.items():
                targets[name].copy_(weight)

    def _linearized(self) -> tuple[torch.Tensor, FloatArray]:
        """Return the gradients (n, weights) of the energies, and the energies (n,), eV."""
        weights = list(self._weights.values())
        total = sum(weight.numel() for weight in weights)
        gradients = torch.zeros(len(self._labels), total, dtype=torch.float64, device=self._setup.device)
        energies = np.zeros(len(self._labels))
        for number in range(len(self._labels)):
            energy, parts = self.gradient(number)
            energies[number] = energy
            place = 0
            for weight, part in zip(weights, parts, strict=True):
                if part is not None:
                    gradients[number, place : place + weight.numel()] = part.flatten()
                place += weight.numel()
            self._counter.count()
        if not (np.isfinite(energies).all() and bool(torch.isfinite(gradients).all())):
            raise DivergedError(
                "an energy of a training frame, or its gradient, is not a finite number with the weights of the start: "
                "check the frames and the start model"
            )
        return gradients, energies

    def gradient(self, number: int) -> tuple[float, tuple[torch.Tensor | None, ...]]:
        """Return the energy of a frame (eV), and its derivatives by the weights; None where it does not depend."""
        energy = self._energy(number)
        return energy.item(), torch.autograd.grad(energy, list(self._weights.values()), allow_unused=True)

    def _energies(self) -> FloatArray:
        with torch.no_grad():
            return np.array([self._energy(number).item() for number in range(len(self._labels))])

    def _energy(self, number: int) -> torch.Tensor:
        made = collate([self._frames[number]], self._setup.config.model.cutoff, torch.float64)
        return self._potential.energies(*made.to(self._setup.device).graph).sum()

    def _error(self, energies: FloatArray) -> float:
        """Return the RMS error (eV) after the best choice of the free means."""
        left = self._labels - energies
        left = left - self._means @ (np.linalg.pinv(self._means) @ left)
        return float(np.sqrt(np.square(left).mean()))

    def _set(self, change: torch.Tensor) -> None:
        place = 0
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(self._start[name] + change[place : place + weight.numel()].view_as(weight))
                place += weight.numel()


def _fits_reference_energies(config: TrainingConfig) -> bool:
    return config.start.reference_energies == "refit" and config.data.reference_energies is None


def _columns(frames: FrameSet) -> FloatArray:
    """Return orthonormal columns (n, m) that span the numbers of atoms of each element."""
    counts = frames.census.compositions[frames.census.composition].astype(float)
    vectors, values, _ = np.linalg.svd(counts, full_matrices=False)
    columns: FloatArray = vectors[:, values > 1e-9 * values[0]]
    return columns


def _store(setup: Setup, potential: Potential, step: int) -> None:
    """Refit the reference energies, and write the weights and the validation errors."""
    config, frames = setup.config, setup.frames
    if _fits_reference_energies(config):
        LOGGER.info(refit(potential.cpu(), potential.reference_energies, potential.elements, frames.main, config))
    potential.to(setup.device)
    errors = evaluate_potential(potential, frames.validation, config.model.cutoff, DTYPES[config.weights_dtype])
    logger = CSVLogger(setup.output, name="", version=metrics_name(setup.output))
    logged = {"validation/energy_mae": errors.energy_mae, "validation/force_mae": errors.force_mae}
    logger.log_metrics({name: value for name, value in logged.items() if value is not None}, step)
    logger.save()
    state = {f"potential.{name}": value.detach().cpu() for name, value in potential.state_dict().items()}
    (setup.output / BEST).parent.mkdir(exist_ok=True)
    write_bytes(setup.output / BEST, torch_bytes({"state_dict": state}))
