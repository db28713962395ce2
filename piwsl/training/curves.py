"""Learning curves of a training run, drawn from its metrics files."""

import csv
from collections import defaultdict
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Curve = tuple[list[int], list[float]]
# Title, logged name, and conversion factor from eV and angstrom to the unit in the title.
_PANELS = (
    ("validation loss", "validation/loss", 1.0),
    ("validation force MAE [meV/A]", "validation/force_mae", 1e3),
    ("validation energy MAE [meV]", "validation/energy_mae", 1e3),
)


def logged_curves(directory: Path) -> dict[str, Curve]:
    """Return the steps and values of each logged quantity over all sessions of a run."""
    curves: dict[str, dict[int, float]] = defaultdict(dict)
    for path in sorted(directory.glob("metrics*/metrics.csv"), key=lambda file: file.stat().st_mtime):
        with path.open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                for name, value in row.items():
                    if name not in ("step", "epoch") and value:
                        curves[name][int(row["step"])] = float(value)  # A resumed session may repeat steps.
    return {name: (sorted(values), [values[step] for step in sorted(values)]) for name, values in curves.items()}


def learning_curves(directory: Path) -> Figure:
    """Draw the validation errors of a run against the training step."""
    curves = logged_curves(directory)
    panels = [panel for panel in _PANELS if panel[1] in curves]
    figure = Figure(figsize=(4.0 * max(1, len(panels)), 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, name, factor) in zip(
        figure.subplots(1, max(1, len(panels)), squeeze=False)[0], panels, strict=False
    ):
        steps, values = curves[name]
        axes.plot(steps, [factor * value for value in values], "o-", color="#0072B2", markersize=3)
        axes.set_xlabel("step")
        axes.set_ylabel(title)
        if min(values) > 0:
            axes.set_yscale("log")
        axes.spines[["top", "right"]].set_visible(False)
    return figure
