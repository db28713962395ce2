"""Plots of a search: history of the error, and error against each setting."""

from collections.abc import Sequence
from math import ceil, log10
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from piwsl.runs.files import atomic_path
from piwsl.training.tuning.results import UNITS, TrialResult
from piwsl.training.tuning.settings import RangeConfig, TuneConfig

_BLUE, _ORANGE = "#0072B2", "#D55E00"
_COLUMNS = 3
_MARGIN = 0.05  # margin of an axis as a fraction of its range


def history_plot(trials: Sequence[TrialResult], settings: TuneConfig, path: Path) -> None:
    """Save the figure of `history_figure`."""
    _save(history_figure(trials, settings), path)


def history_figure(trials: Sequence[TrialResult], settings: TuneConfig) -> Figure:
    """Draw the error of each trial against its number, with the best error so far."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    _, factor, _ = UNITS[settings.metric]
    _points(axes, trials, factor, [float(trial.number) for trial in trials])
    numbers, values = [], []
    for trial in trials:
        if trial.state == "completed" and trial.value is not None:
            numbers.append(trial.number)
            values.append(factor * trial.value)
    if values:
        axes.step(numbers, np.minimum.accumulate(values), where="post", color=_ORANGE, label="best so far")
    failed = [trial.number for trial in trials if trial.state == "failed"]
    if failed:
        bottom = axes.get_ylim()[0]
        axes.plot(failed, [bottom] * len(failed), "x", color="0.5", label="failed", clip_on=False)
    _finish(axes, "trial", settings)
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    return figure


def settings_plot(trials: Sequence[TrialResult], settings: TuneConfig, path: Path) -> None:
    """Draw the error of each trial against each setting, and save the figure."""
    keys = list(settings.ranges)
    columns = min(_COLUMNS, len(keys))
    rows = ceil(len(keys) / columns)
    figure = Figure(figsize=(3.4 * columns, 3.0 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for panel in panels[len(keys) :]:
        panel.set_visible(False)
    for index, (key, axes) in enumerate(zip(keys, panels, strict=False)):
        shown = [trial for trial in trials if key in trial.settings]
        _points(axes, shown, UNITS[settings.metric][1], _places(axes, settings.ranges[key], shown, key))
        _finish(axes, key, settings)
        if index % columns:
            axes.set_ylabel("")
    _save(figure, path)


def _places(axes: Axes, chosen: RangeConfig, trials: Sequence[TrialResult], key: str) -> list[float]:
    if chosen.choices is not None:
        axes.set_xticks(range(len(chosen.choices)), [str(choice) for choice in chosen.choices])
        axes.set_xlim(-0.5, len(chosen.choices) - 0.5)
        return [float(chosen.choices.index(trial.settings[key])) for trial in trials]
    low, high = float(chosen.low or 0.0), float(chosen.high or 0.0)
    if chosen.log:
        axes.set_xscale("log")
        decades = log10(high / low)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2 else (1.0,)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(low / 10 ** (_MARGIN * decades), high * 10 ** (_MARGIN * decades))
    else:
        axes.set_xlim(low - _MARGIN * (high - low), high + _MARGIN * (high - low))
    return [float(trial.settings[key] or 0.0) for trial in trials]


def _points(axes: Axes, trials: Sequence[TrialResult], factor: float, places: Sequence[float]) -> None:
    for state, style, color in (("completed", "o", _BLUE), ("stopped early", "v", "0.7")):
        chosen = [
            (place, factor * trial.value)
            for place, trial in zip(places, trials, strict=True)
            if trial.state == state and trial.value is not None
        ]
        if chosen:
            x, y = zip(*chosen, strict=True)
            axes.plot(x, y, style, color=color, markersize=5, label=state, clip_on=False)


def _finish(axes: Axes, name: str, settings: TuneConfig) -> None:
    title, _, unit = UNITS[settings.metric]
    axes.set_xlabel(name)
    axes.set_ylabel(f"validation {title} [{unit}]" if unit else f"validation {title}")
    axes.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)
