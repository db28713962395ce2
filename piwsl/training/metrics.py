"""Errors of predictions, accumulated over batches in float64."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields

import numpy as np
import torch

from piwsl.data.batch import Batch
from piwsl.losses.predictions import ORIGIN, PointPredictions, Prediction
from piwsl.typing import FloatArray


@dataclass
class Deviations:
    """Sums of absolute and squared differences between predictions and labels."""

    count: int = 0
    absolute: float = 0.0
    squares: float = 0.0

    def add(self, differences: FloatArray) -> None:
        """Add an array of differences of any shape."""
        self.count += differences.size
        self.absolute += float(np.abs(differences).sum())
        self.squares += float(np.square(differences).sum())

    def merge(self, other: "Deviations") -> None:
        """Add the sums of other frames."""
        self.count += other.count
        self.absolute += other.absolute
        self.squares += other.squares

    @property
    def mae(self) -> float | None:
        """Mean absolute error, or None without labels."""
        return self.absolute / self.count if self.count else None

    @property
    def rmse(self) -> float | None:
        """Root mean square error, or None without labels."""
        return float(np.sqrt(self.squares / self.count)) if self.count else None


@dataclass
class Spread:
    """Running mean and variance of values that arrive in portions.

    The update avoids cancellation (Chan, Golub, LeVeque 1983, eq. 2.1).
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0  # sum of squared deviations from the mean

    def add(self, values: FloatArray) -> None:
        """Add an array of values of any shape."""
        if values.size:
            mean = float(values.mean())
            self.merge(Spread(values.size, mean, float(np.square(values - mean).sum())))

    def merge(self, other: "Spread") -> None:
        """Add the sums of other frames."""
        total = self.count + other.count
        if total == 0:
            return
        shift = other.mean - self.mean
        self.squares += other.squares + shift**2 * self.count * other.count / total
        self.mean += shift * other.count / total
        self.count = total

    @property
    def deviation(self) -> float:
        """Standard deviation, or 0 without values."""
        return float(np.sqrt(self.squares / self.count)) if self.count else 0.0


@dataclass
class ErrorSums:
    """Sums for the errors of a set of frames. Their size is independent of the number of frames."""

    energy: Deviations = field(default_factory=Deviations)
    energy_per_atom: Deviations = field(default_factory=Deviations)
    force: Deviations = field(default_factory=Deviations)
    stress: Deviations = field(default_factory=Deviations)
    predicted: Spread = field(default_factory=Spread)
    labeled: Spread = field(default_factory=Spread)

    def add(self, points: PointPredictions, batch: Batch) -> None:
        """Add the predictions for a batch. Structures and atoms without a label are ignored."""
        self.add_values(*_labeled(points.prediction(ORIGIN), batch))
        self.add_stress(points.stress, batch)

    def add_stress(self, stress: torch.Tensor | None, batch: Batch) -> None:
        """Add the predicted stress (S, 3, 3) of a batch. Structures without a label are ignored."""
        if stress is not None:
            known = torch.isfinite(batch.stress).all(-1).all(-1)
            self.stress.add(_array(stress[known]) - _array(batch.stress[known]))

    def add_values(
        self, energies: FloatArray, labels: FloatArray, atoms: FloatArray, forces: FloatArray, force_labels: FloatArray
    ) -> None:
        """Add predictions and labels of energies (S,), with numbers of atoms (S,), and of forces (N, 3)."""
        self.energy.add(energies - labels)
        self.energy_per_atom.add((energies - labels) / atoms)
        self.force.add(forces - force_labels)
        self.predicted.add(energies / atoms)
        self.labeled.add(labels / atoms)

    @classmethod
    def merged(cls, portions: Iterable["ErrorSums"]) -> "ErrorSums":
        """Return the total of the sums of several portions, merged in the given order."""
        total = cls()
        for portion in portions:
            for part in fields(cls):
                getattr(total, part.name).merge(getattr(portion, part.name))
        return total

    def errors(self) -> "Errors":
        """Return the errors of all predictions added so far."""
        spread = self.labeled.deviation
        return Errors(
            structures=self.energy.count,
            force_components=self.force.count,
            energy_mae=self.energy.mae,
            energy_rmse=self.energy.rmse,
            energy_per_atom_mae=self.energy_per_atom.mae,
            force_mae=self.force.mae,
            force_rmse=self.force.rmse,
            energy_spread_ratio=self.predicted.deviation / spread if spread > 0 else None,
            stress_mae=self.stress.mae,
        )


# An offset is reported if the energy MAE exceeds the MAE without the offset by this factor.
OFFSET = 10


@dataclass
class ErrorCollector:
    """Collector of error sums and of the labeled energies and forces for plots."""

    sums: ErrorSums = field(default_factory=ErrorSums)
    energies: list[FloatArray] = field(default_factory=list)
    energy_labels: list[FloatArray] = field(default_factory=list)
    atoms: list[FloatArray] = field(default_factory=list)
    forces: list[FloatArray] = field(default_factory=list)
    force_labels: list[FloatArray] = field(default_factory=list)

    def add(self, prediction: Prediction, batch: Batch, stress: torch.Tensor | None = None) -> None:
        """Add the predictions for a batch. Structures and atoms without a label are ignored."""
        values = _labeled(prediction, batch)
        self.sums.add_values(*values)
        self.sums.add_stress(stress, batch)
        lists = (self.energies, self.energy_labels, self.atoms, self.forces, self.force_labels)
        for kept, new in zip(lists, values, strict=True):
            kept.append(new)

    def errors(self) -> "Errors":
        """Return the errors of all predictions added so far."""
        return self.sums.errors()

    def offset_note(self) -> str | None:
        """Return a note about a uniform shift of all energies per atom, or None if there is no such shift."""
        if not self.energies:
            return None
        return offset_note(
            np.concatenate(self.energies), np.concatenate(self.energy_labels), np.concatenate(self.atoms)
        )


def offset_note(energies: FloatArray, labels: FloatArray, atoms: FloatArray) -> str | None:
    """Return a note about a uniform shift of all energies per atom, or None if there is no such shift.

    Args:
        energies: Predictions (S,), eV.
        labels: Labels (S,), eV.
        atoms: Numbers of atoms (S,).
    """
    if len(energies) < 3:
        return None
    errors = energies - labels
    offset = float(np.mean(errors / atoms))
    left = float(np.mean(np.abs(errors - offset * atoms)))
    if np.mean(np.abs(errors)) <= OFFSET * left:
        return None
    return (
        f"all energies are shifted by {offset:+.4f} eV/atom, as between levels of theory; "
        f"without this shift, the energy MAE is {1e3 * left:.1f} meV"
    )


@dataclass(frozen=True)
class Errors:
    """Errors on a set of frames. Entries are None if the frames have no such labels.

    Energy errors are in eV. Errors of force components are in eV/angstrom, and errors of stress components are in
    eV/angstrom^3. ``energy_spread_ratio`` is the standard deviation of the predicted energies per atom divided by the
    standard deviation of the labels. A ratio far below 1 indicates a flattened potential energy surface.
    """

    structures: int
    force_components: int
    energy_mae: float | None
    energy_rmse: float | None
    energy_per_atom_mae: float | None
    force_mae: float | None
    force_rmse: float | None
    energy_spread_ratio: float | None
    stress_mae: float | None = None

    def rows(self) -> list[tuple[str, str, str]]:
        """Return rows of a table with the quantity, its MAE and its RMSE as text."""
        values = (
            ("energy [meV]", self.energy_mae, self.energy_rmse),
            ("energy [meV/atom]", self.energy_per_atom_mae, None),
            ("forces [meV/A]", self.force_mae, self.force_rmse),
            ("stress [meV/A^3]", self.stress_mae, None),
        )
        return [
            (name, f"{1e3 * mae:.3g}", "" if rmse is None else f"{1e3 * rmse:.3g}")
            for name, mae, rmse in values
            if mae is not None
        ]

    def lines(self) -> list[str]:
        """Return the errors with their units as lines of text."""
        lines = []
        if self.energy_mae is not None and self.energy_rmse is not None and self.energy_per_atom_mae is not None:
            lines.append(
                f"energy  MAE {1e3 * self.energy_mae:8.1f} meV    RMSE {1e3 * self.energy_rmse:8.1f} meV    "
                f"({1e3 * self.energy_per_atom_mae:.2f} meV/atom)"
            )
        if self.force_mae is not None and self.force_rmse is not None:
            lines.append(f"forces  MAE {1e3 * self.force_mae:8.1f} meV/A  RMSE {1e3 * self.force_rmse:8.1f} meV/A")
        if self.stress_mae is not None:
            lines.append(f"stress  MAE {1e3 * self.stress_mae:8.3f} meV/A^3")
        return lines or ["no errors: no frame has a label"]


def _labeled(prediction: Prediction, batch: Batch) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return energies, energy labels, numbers of atoms, forces, and force labels, restricted to labeled entries."""
    known, atoms = torch.isfinite(batch.energy), torch.isfinite(batch.forces).all(-1)
    return (
        _array(prediction.energies[known]),
        _array(batch.energy[known]),
        _array(batch.n_atoms[known]),
        _array(prediction.forces[atoms]),
        _array(batch.forces[atoms]),
    )


def _array(values: torch.Tensor) -> FloatArray:
    array: FloatArray = values.detach().cpu().double().numpy()
    return array
