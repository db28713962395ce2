"""The parity plot: predictions against labels."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from piwsl.data.files import atomic_path
from piwsl.training.metrics import ErrorCollector
from piwsl.typing import FloatArray

_MOST_POINTS = 200_000


def parity_plot(collected: ErrorCollector, path: Path) -> None:
    """Draw energies per atom (relative to the mean label) and force components against their labels."""
    figure = Figure(figsize=(8.6, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    atoms = np.concatenate(collected.atoms)
    labels = np.concatenate(collected.energy_labels) / np.maximum(atoms, 1)
    energies = np.concatenate(collected.energies) / np.maximum(atoms, 1)
    centre = labels.mean() if labels.size else 0.0
    _panel(left, 1e3 * (labels - centre), 1e3 * (energies - centre), "energy [meV/atom]")
    forces, force_labels = np.concatenate(collected.forces), np.concatenate(collected.force_labels)
    _panel(right, force_labels.ravel(), forces.ravel(), "force component [eV/A]")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _panel(axes: Axes, labels: FloatArray, predictions: FloatArray, name: str) -> None:
    axes.set_xlabel(f"reference {name}")
    axes.set_ylabel(f"predicted {name}")
    axes.spines[["top", "right"]].set_visible(False)
    if not labels.size:
        axes.text(0.5, 0.5, "no labels", transform=axes.transAxes, ha="center")
        return
    chosen = np.random.default_rng(0).permutation(len(labels))[:_MOST_POINTS]
    low = min(labels.min(), predictions.min())
    high = max(labels.max(), predictions.max())
    axes.plot([low, high], [low, high], color="0.6", linewidth=1, zorder=0)
    axes.plot(labels[chosen], predictions[chosen], ".", markersize=2, color="#0072B2", alpha=0.4, rasterized=True)
    axes.set_aspect("equal")
    error = np.abs(predictions - labels).mean()
    axes.text(0.04, 0.94, f"MAE {error:.3g}", transform=axes.transAxes, va="top")
