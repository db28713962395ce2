"""Tables and figures of a study, made from its stored results alone."""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from matplotlib.figure import Figure

from benchmarks.study.experiment import Experiment

ENERGY, FORCES = "energy_mae_mev", "force_mae_mev_per_angstrom"
Results = Sequence[dict[str, Any]]


def table(experiment: Experiment, results: Results) -> str:
    """Return a Markdown table: mean and standard deviation over the seeds, and ratios to the baseline by seed."""
    dynamics = experiment.dynamics is not None
    head = ["case", "variant", "steps", "E MAE, meV", "relative", "F MAE, meV/A", "relative"]
    head += ["replicas that survive"] if dynamics else []
    lines = [" | ".join(["", *head, ""]).strip(), "|" + "---|" * len(head)]
    for case in experiment.cases:
        base = _rows(results, case, experiment.baseline)
        for variant in experiment.variants:
            rows = _rows(results, case, variant)
            if not rows:
                continue
            whole = [row for row in rows if row["outcome"] == "completed"]
            diverged = f" ({len(rows) - len(whole)} of {len(rows)} diverged)" if len(whole) < len(rows) else ""
            cells = [case or "-", f"{variant}{diverged}", f"{rows[0]['steps']}"]
            for key in (ENERGY, FORCES):
                cells += [_spread([row[key] for row in whole]), _ratios(whole, base, key)]
            if dynamics:
                cells.append(_survival(whole))
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(experiment: Experiment, results: Results, path: Path) -> None:
    """Draw the errors of all variants relative to the baseline, one panel for energies and one for forces."""
    others = [variant for variant in experiment.variants if variant != experiment.baseline]
    figure = Figure(figsize=(8.0, 1.4 + 0.35 * len(others) * len(experiment.cases)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    labels: list[str] = []
    for case in experiment.cases:
        base = {row["seed"]: row for row in _rows(results, case, experiment.baseline) if row["outcome"] == "completed"}
        for variant in others:
            place = len(labels)
            labels.append(f"{variant}, {case}" if case else variant)
            for panel, key in zip(panels, (ENERGY, FORCES), strict=True):
                points = [
                    row[key] / base[row["seed"]][key]
                    for row in _rows(results, case, variant)
                    if row["outcome"] == "completed" and row["seed"] in base and row[key] is not None
                ]
                panel.plot(points, [place] * len(points), "o", color="#4477aa", alpha=0.6)
                if points:
                    panel.plot(mean(points), place, "|", color="#222222", markersize=16)
    for panel, name in zip(panels, ("energy MAE", "force MAE"), strict=True):
        panel.axvline(1.0, color="#888888", linewidth=1)
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        panel.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if value in (0.6, 0.8, 1.2, 1.5, 2) else "")
        panel.set_xlabel(f"{name} / {experiment.baseline}")
    panels[0].set_yticks(range(len(labels)), labels)
    panels[0].set_ylim(len(labels) - 0.5, -0.5)
    figure.suptitle(f"{experiment.question} Points: seeds; bars: means.", fontsize=10)
    figure.savefig(path, dpi=150)


def _rows(results: Results, case: str, variant: str) -> list[dict[str, Any]]:
    return [row for row in results if row["case"] == case and row["variant"] == variant]


def _spread(values: Sequence[float | None], form: Callable[[float], str] = "{:.1f}".format) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    return f"{form(mean(known))} +- {form(stdev(known))}" if len(known) > 1 else form(known[0])


def _ratios(rows: Results, base: Results, key: str) -> str:
    known = {row["seed"]: row[key] for row in base if row["outcome"] == "completed" and row[key]}
    found = [row[key] / known[row["seed"]] for row in rows if row["seed"] in known and row[key] is not None]
    return ", ".join(f"{ratio:.2f}" for ratio in found) or "-"


def _survival(rows: Results) -> str:
    runs = [row["survival"] for row in rows]
    if not runs:
        return "-"
    whole, count = sum(run["survived"] for run in runs), sum(run["replicas"] for run in runs)
    return f"{whole} of {count}, {mean(run['stable_ps'] for run in runs):.1f} ps"
