"""Figure of the energies and the temperature of a run against time, from ``thermo.csv``."""

import csv
from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_MOST_POINTS = 2000
# Column and color of each line in each panel.
_PANELS = (
    (("total [eV]", "#0072B2"), ("potential [eV]", "#D55E00")),
    (("temperature [K]", "#0072B2"),),
)


def thermo_figure(files: Sequence[Path]) -> Figure:
    """Plot the total and the potential energy, relative to their first values, and the temperature."""
    figure = Figure(figsize=(8.6, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(_PANELS))
    for number, path in enumerate(files):
        columns = _read(path)
        for axes, lines in zip(panels, _PANELS, strict=True):
            for name, color in lines:
                values = columns[name]
                first = values[0] if values and name.endswith("[eV]") else 0.0
                label = name.partition(" ")[0] if number == 0 else None
                shown = [value - first for value in values]
                axes.plot(columns["time [ps]"], shown, color=color, linewidth=0.8, label=label)
    for axes, title in zip(panels, ("energy relative to start [eV]", "temperature [K]"), strict=True):
        axes.set_xlabel("time [ps]")
        axes.set_ylabel(title)
        axes.spines[["top", "right"]].set_visible(False)
    if files:
        panels[0].legend(frameon=False)
    return figure


def _read(path: Path) -> dict[str, list[float]]:
    """Return thinned columns of ``thermo.csv``, without a line that is still being written."""
    with path.open(newline="", encoding="utf-8") as stream:
        header, *rows = list(csv.reader(stream))
    whole = [row for row in rows if len(row) == len(header)]
    chosen = whole[:: max(1, len(whole) // _MOST_POINTS)]
    return {name: [float(row[index]) for row in chosen] for index, name in enumerate(header)}
