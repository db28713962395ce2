"""Steps per second of many aspirins together, with the files and engines of `piwsl md --replicas`."""

from functools import partial
from pathlib import Path

from gpu_check_parts.common import Settings, aspirin, exported, frame, milliseconds, peak_memory
from gpu_check_parts.report import Report
from piwsl.data.systems import named_system
from piwsl.export.exporter import Exporter
from piwsl.md.engines.make import make_engine
from piwsl.md.protocol import MDProtocol
from piwsl.md.run_model import copies_per_call
from piwsl.md.simulation import starts
from piwsl.runs.process_settings import replica_threads

COUNTS = (1, 64, 1024, 4096, 16, 256)  # the most informative first


def run(report: Report, settings: Settings) -> None:
    for count in (4,) if settings.small else COUNTS:
        for engine in ("native",) if settings.small else ("native", "openmm"):
            report.attempt(f"{count} replicas, {engine}", measure, report, settings, count, engine)


def measure(report: Report, settings: Settings, count: int, name: str) -> None:
    """Add the time of a step of all replicas."""
    structure = aspirin()
    copies = copies_per_call(len(structure), count, replica_threads(settings.device), settings.device)
    model = named_system("aspirin").model
    file = exported(settings, f"copies-{copies}.pt", partial(export, copies), model, settings.device)
    protocol = MDProtocol.of(temperature=10, timestep=0.1, replicas=count, engine=name)
    engine = make_engine(file, structure, protocol, starts(structure, protocol, range(count)))
    peak_memory(settings.device)
    time = milliseconds(partial(engine.advance, 1), settings.device, 0.1 if settings.small else 1.5)
    title = f"{count} replicas, {name}, {copies} a call"
    report.measure(title, ms=time, steps_per_s=1e3 * count / time, memory_mb=peak_memory(settings.device))


def export(copies: int, exporter: Exporter, path: Path) -> None:
    """Export several copies of aspirin."""
    exporter.openmm(frame(aspirin()), path, copies=copies)
