"""Whether a run that is interrupted and restarted gives the bits of an uninterrupted run, with every engine."""

import numpy as np

from gpu_check_parts.common import Settings
from gpu_check_parts.report import Report

ENGINES = (("openmm", None), ("native", 4), ("ase", None))


def run(report: Report, settings: Settings) -> None:
    for engine, replicas in ENGINES[: 1 if settings.small else None]:
        report.attempt(f"restart, {engine}", restart, report, settings, engine, replicas)


def restart(report: Report, settings: Settings, engine: str, replicas: int | None) -> None:
    """Add the differences of a second run, and of a run in two parts, from the first run."""
    from piwsl.md.restart import newest_states
    from piwsl.md.run import run_md

    half = 10 if settings.small else 100
    runs = {"first": (2 * half,), "again": (2 * half,), "restarted": (half, 2 * half)}
    places = []
    for name, parts in runs.items():
        folder = settings.folder / f"{engine}-{name}"
        for number, steps in enumerate(parts):
            run_md(
                system="aspirin",
                output=folder,
                steps=steps,
                equilibration=0,
                engine=engine,
                replicas=replicas,
                seed=3,
                restart=number > 0,
                progress=False,
            )
        folders = sorted(folder.glob("replica-*")) if replicas else [folder]
        states, _ = newest_states(dict(enumerate(folders)))
        places.append(np.stack([states[number].engine["positions"] for number in range(len(folders))]))
    report.check(f"{engine}, same run again, positions", float(np.abs(places[1] - places[0]).max()), 0.0, "A")
    report.check(f"{engine}, restarted run, positions", float(np.abs(places[2] - places[0]).max()), 0.0, "A")
