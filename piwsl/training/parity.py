"""Parity plot of predictions against labels, with one panel for each kind of label in the data."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from piwsl.errors import DataError
from piwsl.training.predictors import Portion
from piwsl.typing import FloatArray

MOST_POINTS = 200_000  # per panel
PANEL = 4.2  # width and height of a panel, inches
MILLI = 1e3


def parity_figure(portions: Sequence[Portion]) -> Figure:
    """Draw predicted energies per atom, force components and stress components against their labels.

    Energies are relative to the mean label.

    Raises:
        DataError: No frame has both a label and a finite prediction.
    """
    panels = [panel for panel in (_energies(portions), _forces(portions), _stresses(portions)) if panel is not None]
    if not panels:
        raise DataError("no frame has both a label and a finite prediction: use labeled data for a parity plot")
    figure = Figure(figsize=(PANEL * len(panels), PANEL), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw(axes, *panel)
    return figure


_Values = tuple[FloatArray, FloatArray, str, str]


def _energies(portions: Sequence[Portion]) -> _Values | None:
    labels = np.concatenate([portion.energy_labels / portion.counts for portion in portions])
    values = np.concatenate([portion.energies / portion.counts for portion in portions])
    known = np.isfinite(labels)
    center = labels[known].mean() if known.any() else 0.0
    return _known(MILLI * (labels - center), MILLI * (values - center), "energy, from the mean", "meV/atom")


def _forces(portions: Sequence[Portion]) -> _Values | None:
    labels = np.concatenate([portion.force_labels for portion in portions])
    return _known(labels, np.concatenate([portion.forces for portion in portions]), "force component", "eV/Å")


def _stresses(portions: Sequence[Portion]) -> _Values | None:
    pairs = [(portion.stress_labels, portion.stresses) for portion in portions if portion.stresses is not None]
    if not pairs:
        return None
    labels, values = (MILLI * np.concatenate(side) for side in zip(*pairs, strict=True))
    return _known(labels, values, "stress component", "meV/Å³")


def _known(labels: FloatArray, values: FloatArray, name: str, unit: str) -> _Values | None:
    known = np.isfinite(labels) & np.isfinite(values)
    return (labels[known], values[known], name, unit) if known.any() else None


def _draw(axes: Axes, labels: FloatArray, predictions: FloatArray, name: str, unit: str) -> None:
    axes.set_xlabel(f"reference {name} [{unit}]")
    axes.set_ylabel(f"predicted {name} [{unit}]")
    axes.spines[["top", "right"]].set_visible(False)
    chosen = np.random.default_rng(0).permutation(len(labels))[:MOST_POINTS]
    low = min(labels.min(), predictions.min())
    high = max(labels.max(), predictions.max())
    axes.plot([low, high], [low, high], color="0.6", linewidth=1, zorder=0)
    axes.plot(labels[chosen], predictions[chosen], ".", markersize=2, color="#0072B2", alpha=0.4, rasterized=True)
    axes.set_aspect("equal")
    axes.locator_params(nbins=4)
    errors = predictions - labels
    text = f"MAE {np.abs(errors).mean():.3g} {unit}\nRMSE {np.sqrt(np.square(errors).mean()):.3g} {unit}"
    axes.text(0.04, 0.96, text, transform=axes.transAxes, va="top")
