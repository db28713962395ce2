"""Steps of many aspirins at once: all replicas together beside one single run.

python benchmarks/replicas.py prints a table and a JSON line; about eight minutes. The bundled model (PaiNN with 64
channels), or with --channels one with random weights; Langevin dynamics at 10 K with a step of 0.1 fs, which keeps the
molecules as they are.

The single run is what `piwsl md` makes of one molecule: a TorchScript file in OpenMM, TorchForce, the Reference
platform, one thread; beside it the compiled form, which a user would have to export first. Replicas run in the native
loop and as one System of OpenMM, with the files and threads that `piwsl md --replicas` takes by itself, of TorchScript
and compiled. Each contestant is a process of its own; they take turns of some steps, in a new order every round, so
that whatever else the machine does meets all. Ratios are the medians of the ratios within a round: steps of all
replicas over steps of the single run in the same time. On a GPU the native loop runs 1 to 1 024 replicas, beside a
single run on the same GPU.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from contestants import HERE, Contestant
from race import Times, processor, race, rounded
from random_model import random_model

from piwsl.data.frames import Frame
from piwsl.data.systems import named_system
from piwsl.export.exporter import Exporter, Format
from piwsl.md.run_model import copies_per_call

SINGLE = "single run, TorchForce, one thread"
COMPILED = "single run, compiled, PythonForce, one thread"
WANTED = 3.0  # of the largest number of replicas on a processor
FORMATS: dict[str, Format] = {"TorchScript": "torchscript", "compiled": "aotinductor"}


def contestants(folder: Path, channels: int | None, counts: list[int], threads: int, device: str) -> list[Contestant]:
    """Write the files and return the single run and the replicas in every form."""
    system = named_system("aspirin")
    frame, model = Frame.from_atoms(system.structure), system.model
    if channels is not None:
        model = folder / "model.pt"
        random_model(model, frame, channels=channels)
    exporter = Exporter([model], device=device)
    exporter.openmm(frame, folder / "single.pt")
    single = [sys.executable, str(HERE / "piwsl_md_step.py"), "torch", str(folder / "single.pt")]
    found = [Contestant(SINGLE, "", single, {})]
    if device == "cpu":
        exporter.openmm(frame, folder / "single.pt2", "aotinductor")
        compiled = [sys.executable, str(HERE / "piwsl_md_step.py"), "python", str(folder / "single.pt2")]
        found.append(Contestant(COMPILED, "", compiled, {}))
    for name in FORMATS if device == "cpu" else ["TorchScript"]:
        for count in counts:
            copies = copies_per_call(len(system.structure), count, threads, device)
            file = folder / f"{name}-{copies}.pt{'2' * (name == 'compiled')}"
            if not file.exists():
                exporter.openmm(frame, file, FORMATS[name], copies=copies)
            for engine in ("native", "openmm") if device == "cpu" else ("native",):
                command = [sys.executable, str(HERE / "piwsl_replicas_step.py"), engine, str(file), str(count)]
                found.append(Contestant(f"{count} {engine}, {name}, {copies} a call", "", command, {}))
    return found


def show(times: dict[str, Times], largest: int, device: str) -> dict[str, dict[str, float]]:
    """Print the table."""
    print(f"{'':48}steps/s of all   ms/step (fastest)   single run = 1   wanted   peak MB")
    found = {}
    for name, one in times.items():
        count = 1 if name in (SINGLE, COMPILED) else int(name.split()[0])
        speed = count / one.cost(times[SINGLE], "wall")
        milliseconds, fastest = 1e3 * median(one.wall), 1e3 * min(one.wall)
        wanted = f">= {WANTED:g}" if count == largest and device == "cpu" else ""
        print(
            f"{name:48}{count * 1e3 / milliseconds:14.0f}{milliseconds:10.2f}{fastest:10.2f}{speed:17.2f}{wanted:>9}"
            f"{one.peak_mb:10.0f}"
        )
        found[name] = {"ms": milliseconds, "ms_min": fastest, "speed_to_single": speed, "peak_mb": one.peak_mb}
    return found


def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    counts = [1, 8, 64] if device == "cpu" else [1, 4, 16, 64, 256, 1024]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="turns of each contestant (10)")
    parser.add_argument("--turn", type=float, default=2.0, help="seconds of a turn, about (2)")
    parser.add_argument("--threads", type=int, default=2, help="threads offered on a processor (2)")
    parser.add_argument("--counts", type=int, nargs="+", default=counts, help="replicas (1 8 64; on a GPU to 1024)")
    parser.add_argument("--channels", type=int, help="of a model with random weights (the bundled model)")
    options = parser.parse_args()
    threads = options.threads if device == "cpu" else 1
    with TemporaryDirectory() as folder:
        ready = contestants(Path(folder), options.channels, options.counts, threads, device)
        before = os.getloadavg()[0]
        times, _ = race(ready, threads, options.rounds, options.turn)
    print(
        f"{options.channels or 64} channels, {threads} threads, {options.rounds} rounds on {device}; load of the "
        f"machine {before:.1f} before, {os.getloadavg()[0]:.1f} after"
    )
    results = show(times, max(options.counts), device)
    where = torch.cuda.get_device_name() if device == "cuda" else processor()
    print(json.dumps(rounded({"device": where, "cpus": os.cpu_count(), "threads": threads, **results})))


if __name__ == "__main__":
    main()
