"""What the page says about a run beside its numbers: the few that come first, and how it was made."""

from typing import Any

from piwsl._version import __version__
from piwsl.analysis.comparison import Comparison
from piwsl.analysis.groups import RunGroup
from piwsl.analysis.statistics.results import Difference, Measurement, significant
from piwsl.analysis.verdict import picoseconds


def highlights(comparison: Comparison) -> list[tuple[str, str, str]]:
    """The few numbers that a reader wants at once: (value, what it is, how to see it)."""
    run = comparison.run
    if not comparison.stable:
        end = f"of {picoseconds(run.requested_time)}, then no longer physics"
    elif not comparison.complete:
        end = f"of {picoseconds(run.requested_time)} asked for"
    else:
        end = "to the end of the run"
    rows = [(picoseconds(comparison.stable_time.value), "stable time", end)]
    if comparison.distances is not None:
        found = comparison.distances.difference
        noise = "noise unknown" if found.limit is None else f"noise alone: up to {significant(found.threshold)}"
        rows.append((found.measured.text(), "h(r) error, ∫|h \N{MINUS SIGN} h_ref| dr", noise))
    worst = _worst_radial(comparison)
    if worst is not None:
        found = worst[1]
        noise = "noise unknown" if found.limit is None else f"noise alone: up to {significant(found.threshold)}"
        rows.append((found.measured.text(), f"g(r) error of {worst[0]}, the largest for its noise", noise))
    if comparison.temperature is not None:
        target = comparison.temperature.target
        rows.append(
            (
                comparison.temperature.mean.text(),
                "temperature",
                "constant energy" if target is None else f"thermostat at {target:g} K",
            )
        )
    if comparison.drift is not None:
        drift = comparison.drift.per_10_ps
        rows.append((Measurement(drift.value, drift.uncertainty, "", 1).text(), "energy drift", drift.unit))
    speed = run.summary.get("speed") or {}
    if comparison.drift is None and speed.get("steps_per_second"):
        rows.append((f"{speed['steps_per_second']:.4g} steps/s", "speed", f"{speed.get('ns_per_day', 0):.3g} ns/day"))
    return rows


def _worst_radial(comparison: Comparison) -> tuple[str, Difference] | None:
    """Pair of elements, and difference, of the g(r) that is farthest off for its noise."""
    found = [(one.name, one.difference) for one in comparison.curves if one.family == "rdf" and one.difference]
    return max(found, key=lambda one: one[1].measured.value / (one[1].threshold or 1.0), default=None)


def how_made(comparison: Comparison) -> list[tuple[str, str]]:
    """Names and values for the last section; what the summary does not say is left out."""
    summary = comparison.run.summary
    model, speed, versions = (summary.get(key) or {} for key in ("model", "speed", "versions"))
    force = " - ".join(str(summary[key]) for key in ("force", "force_reason") if summary.get(key))
    steps = f"{summary['steps_done']:,} of {summary['steps_requested']:,}, {summary['timestep_fs']:g} fs each"
    ensemble = f"{comparison.run.ensemble.upper()}, {summary['temperature_K']:g} K"
    if comparison.run.ensemble == "nve":
        ensemble += " at the start"
    reference = f"{comparison.reference.name}, {comparison.reference.frames:,} frames"
    if comparison.reference.length is not None:
        reference += f" over {picoseconds(comparison.reference.length)}"
    entries: list[tuple[str, Any]] = [
        ("Command", summary.get("command")),
        ("Model", model.get("path")),
        ("SHA-256 of the model", model.get("sha256")),
        ("Engine", " on ".join(str(summary[key]) for key in ("engine", "platform") if summary.get(key))),
        ("Force", force),
        ("Ensemble", ensemble),
        ("Steps", steps),
        ("Frames", f"{len(comparison.run.frames):,}, one every {summary['trajectory_interval']:,} steps"),
        ("Seed", summary.get("seed")),
        ("Speed", f"{speed['steps_per_second']:.4g} steps/s" if speed.get("steps_per_second") else None),
        ("Started", summary.get("started")),
        ("Finished", summary.get("finished")),
        ("Result", summary.get("result")),
        ("Reference", reference),
        ("SHA-256 of the reference", comparison.reference.digest),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items() if version)),
        ("piwsl", f"{summary.get('piwsl_version', 'not known')} (run), {__version__} (analysis)"),
    ]
    return [(name, str(value)) for name, value in entries if value not in (None, "")]


def how_all_made(group: RunGroup) -> list[tuple[str, str]]:
    """Of replicas what all share once, the rest one after the other."""
    found: dict[str, dict[str, None]] = {}
    for member in group.members:
        for name, value in how_made(member):
            found.setdefault(name, {})[value] = None
    return [(name, "; ".join(values)) for name, values in found.items()]
