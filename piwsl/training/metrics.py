"""Errors of predictions, gathered batch by batch in float64."""

from dataclasses import dataclass, field

import numpy as np
import torch

from piwsl.data.batch import Batch
from piwsl.losses.prediction import Prediction
from piwsl.typing import FloatArray


@dataclass
class ErrorCollector:
    """Collects energies per structure and force components of labelled atoms."""

    energies: list[FloatArray] = field(default_factory=list)
    energy_labels: list[FloatArray] = field(default_factory=list)
    atoms: list[FloatArray] = field(default_factory=list)
    forces: list[FloatArray] = field(default_factory=list)
    force_labels: list[FloatArray] = field(default_factory=list)

    def add(self, prediction: Prediction, batch: Batch) -> None:
        """Add a batch; structures and atoms without a label are left out."""
        known = torch.isfinite(batch.energy)
        self.energies.append(_array(prediction.energies[known]))
        self.energy_labels.append(_array(batch.energy[known]))
        self.atoms.append(_array(batch.n_atoms[known]))
        labelled = torch.isfinite(batch.forces).all(-1)
        self.forces.append(_array(prediction.forces[labelled]))
        self.force_labels.append(_array(batch.forces[labelled]))

    def errors(self) -> "Errors":
        """The errors of everything added so far."""
        energies, labels = np.concatenate(self.energies), np.concatenate(self.energy_labels)
        atoms = np.concatenate(self.atoms)
        forces, force_labels = np.concatenate(self.forces), np.concatenate(self.force_labels)
        difference = energies - labels
        return Errors(
            structures=len(labels),
            force_components=force_labels.size,
            energy_mae=_mae(difference),
            energy_rmse=_rmse(difference),
            energy_per_atom_mae=_mae(difference / atoms),
            force_mae=_mae(forces - force_labels),
            force_rmse=_rmse(forces - force_labels),
            energy_spread_ratio=_spread_ratio(energies / atoms, labels / atoms),
        )


@dataclass(frozen=True)
class Errors:
    """Errors on a set of frames: energies in eV, forces (per component) in eV/angstrom; None without labels.

    ``energy_spread_ratio`` is the spread of the predicted energies per atom over that of the labels: far below
    one, the surface has been flattened.
    """

    structures: int
    force_components: int
    energy_mae: float | None
    energy_rmse: float | None
    energy_per_atom_mae: float | None
    force_mae: float | None
    force_rmse: float | None
    energy_spread_ratio: float | None

    def lines(self) -> list[str]:
        """The errors as text, with units."""
        lines = []
        if self.energy_mae is not None and self.energy_rmse is not None and self.energy_per_atom_mae is not None:
            lines.append(
                f"energy  MAE {1e3 * self.energy_mae:8.1f} meV    RMSE {1e3 * self.energy_rmse:8.1f} meV    "
                f"({1e3 * self.energy_per_atom_mae:.2f} meV/atom)"
            )
        if self.force_mae is not None and self.force_rmse is not None:
            lines.append(f"forces  MAE {1e3 * self.force_mae:8.1f} meV/A  RMSE {1e3 * self.force_rmse:8.1f} meV/A")
        return lines or ["no frame has a label: no error to report"]


def _array(values: torch.Tensor) -> FloatArray:
    array: FloatArray = values.detach().cpu().double().numpy()
    return array


def _mae(differences: FloatArray) -> float | None:
    return float(np.abs(differences).mean()) if differences.size else None


def _rmse(differences: FloatArray) -> float | None:
    return float(np.sqrt(np.square(differences).mean())) if differences.size else None


def _spread_ratio(predicted: FloatArray, labels: FloatArray) -> float | None:
    spread = float(labels.std()) if labels.size > 1 else 0.0
    return float(predicted.std()) / spread if spread > 0 else None
