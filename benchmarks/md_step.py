"""Steps of molecular dynamics of aspirin per second, beside SchNetPack's.

python benchmarks/md_step.py prints a table and a JSON line; about six minutes, and some more the first time, to install
SchNetPack in an environment of its own. PaiNN with 128 channels, 3 layers, 20 radial functions and a cutoff of
5 angstrom, float32, random weights; Langevin dynamics at 10 K with a step of 0.1 fs, which keeps the molecule as it is.

SchNetPack runs as its calculator in ASE with its fastest neighbor list; piwsl as exported files in OpenMM, the
Reference platform, and in ASE. Each contestant is a process of its own; they take turns of some steps, in a new order
every round, so that whatever else the machine does meets all. Ratios are the medians of the ratios within a round.
Where two threads are offered, piwsl takes one for a small molecule, as `piwsl md` does by itself.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from contestants import HERE, Contestant, schnetpack_python
from race import Times, default_cache, processor, race, rounded
from random_model import random_model

from piwsl.data.frames import Frame
from piwsl.data.systems import named_system
from piwsl.export.exporter import Exporter

THEIRS = "SchNetPack, ASE"
# Row, and how many times SchNetPack's steps per second it is to reach.
WANTED = {"piwsl TorchScript, OpenMM TorchForce": 2.5, "piwsl compiled, OpenMM PythonForce": 6.0}


def contestants(folder: Path, python: Path) -> list[Contestant]:
    """SchNetPack and the ways to run an exported file; writes the files."""
    structure = named_system("aspirin").structure
    structure.write(folder / "aspirin.xyz")
    frame = Frame.from_atoms(structure)
    random_model(folder / "model.pt", frame)
    exporter = Exporter([folder / "model.pt"])
    exporter.openmm(frame, folder / "openmm.pt")
    exporter.openmm(frame, folder / "openmm.pt2", "aotinductor")
    theirs = [str(python), str(HERE / "schnetpack_md_step.py"), str(folder / "aspirin.xyz")]
    found = [Contestant(THEIRS, "", theirs, {"PYTHONPATH": ""})]
    for name, how, file in (
        ("piwsl TorchScript, OpenMM TorchForce", "torch", "openmm.pt"),
        ("piwsl TorchScript, OpenMM PythonForce", "python", "openmm.pt"),
        ("piwsl compiled, OpenMM PythonForce", "python", "openmm.pt2"),
        ("piwsl compiled, ASE", "ase", "openmm.pt2"),
    ):
        found.append(
            Contestant(name, "", [sys.executable, str(HERE / "piwsl_md_step.py"), how, str(folder / file)], {})
        )
    return found


def show(times: dict[str, Times]) -> dict[str, dict[str, float]]:
    """Print the table."""
    print(f"{'':40}steps/s   ms/step (fastest)   SchNetPack = 1   wanted   peak MB")
    found = {}
    for name, one in times.items():
        speed = 1.0 / one.cost(times[THEIRS], "wall")
        milliseconds, fastest = 1e3 * median(one.wall), 1e3 * min(one.wall)
        wanted = f">= {WANTED[name]}" if name in WANTED else ""
        print(
            f"{name:40}{1e3 / milliseconds:7.0f}{milliseconds:10.3f}{fastest:10.3f}{speed:17.2f}{wanted:>9}"
            f"{one.peak_mb:10.0f}"
        )
        found[name] = {"ms": milliseconds, "ms_min": fastest, "speed_to_schnetpack": speed, "peak_mb": one.peak_mb}
    return found


def main() -> None:
    cache = default_cache()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="turns of each contestant (15)")
    parser.add_argument("--turn", type=float, default=2.0, help="seconds of a turn, about (2)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="thread counts (1 2)")
    parser.add_argument("--cache", type=Path, default=cache, help=f"folder of SchNetPack's environment ({cache})")
    options = parser.parse_args()
    results: dict[str, object] = {}
    with TemporaryDirectory() as folder:
        ready = contestants(Path(folder), schnetpack_python(options.cache.resolve(), None))
        for threads in options.threads:
            before = os.getloadavg()[0]
            times, _ = race(ready, threads, options.rounds, options.turn)
            print(
                f"\n{threads} thread{'s' * (threads > 1)}, {options.rounds} rounds; load of the machine {before:.1f} "
                f"before, {os.getloadavg()[0]:.1f} after"
            )
            results[f"threads_{threads}"] = show(times)
    print(json.dumps(rounded({"processor": processor(), "cpus": os.cpu_count(), **results})))


if __name__ == "__main__":
    main()
