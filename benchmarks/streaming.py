"""Resident memory and speed of training against the size of the data set.

python benchmarks/streaming.py [--sizes 10000,100000,1000000] [--steps 200] [--workers 0] writes packed files of
random molecules with 20 atoms, trains a small PaiNN from each in a process of its own, and prints a table and a JSON
line. A million structures need one gigabyte of disk and about five minutes.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from piwsl.data.formats.packed import write_packed
from piwsl.data.frames import Frame
from piwsl.data.read import read_frames

ATOMS = 20
ELEMENTS = (1, 6, 7, 8)
ENERGIES = {1: -13.6, 6: -1030.0, 7: -1485.0, 8: -2042.0}  # eV
VALIDATION = 200
BATCH_SIZE = 10
READ = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,100000,1000000", help="structures, several with commas between")
    parser.add_argument("--steps", default=200, type=int, help="training steps of ten structures")
    parser.add_argument("--workers", default=0, type=int, help="processes that read ahead")
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # what the processes of this script are called with
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(Path(options.measure), options.steps, options.workers)))
        return
    print("structures    file [MB]    peak memory [MB]    until step 1 [s]    trained/s    read/s")
    rows = []
    for size in (int(text) for text in options.sizes.split(",")):
        row = {"structures": size, **measured(size, options.steps, options.workers)}
        print(
            f"{size:10d} {row['file_megabytes']:12.1f} {row['peak_megabytes']:19.0f} "
            f"{row['seconds_until_step_1']:19.1f} {row['trained_per_second']:12.1f} {row['read_per_second']:9.0f}"
        )
        rows.append(row)
    print(json.dumps({"streaming": rows, "steps": options.steps, "workers": options.workers}))


def measured(size: int, steps: int, workers: int) -> dict[str, float]:
    """Write a file of this size and train from it in a fresh process."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "frames.h5"
        write_packed(file, random_molecules(size))
        command = [sys.executable, __file__, "--measure", str(file), "--steps", str(steps), "--workers", str(workers)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        return {"file_megabytes": file.stat().st_size / 1e6, **json.loads(done.stdout.splitlines()[-1])}


def random_molecules(count: int) -> Iterator[Frame]:
    """Displaced atoms of random elements on a grid, with an energy and forces."""
    grid = 1.5 * np.stack(np.meshgrid(*[np.arange(3.0)] * 3), axis=-1).reshape(-1, 3)[:ATOMS]
    for index in range(count):
        rng = np.random.default_rng(index)
        species = rng.choice(ELEMENTS, size=ATOMS)
        energy = sum(ENERGIES[int(z)] for z in species) + float(rng.normal())
        yield Frame(species, grid + rng.normal(0, 0.1, grid.shape), energy, rng.normal(size=grid.shape))


def measure(file: Path, steps: int, workers: int) -> dict[str, float]:
    """Train in this process; its peak memory, its speed, and that of reading alone, in random order."""
    # Here, because processes that read ahead import this script, too.
    from piwsl.training.config import TrainingConfig
    from piwsl.training.fit import TrainingProgress
    from piwsl.training.run import run_training

    start = time.perf_counter()
    times: list[float] = []

    def progress(state: TrainingProgress) -> None:
        times.append(time.perf_counter())

    config = TrainingConfig.model_validate(
        {
            "data": {"file": str(file), "validation": VALIDATION, "workers": workers},
            "model": {"channels": 16, "layers": 2},
            "loss": {"pitc": 0.0, "pisc": 0.0},
            "optimizer": {"steps": steps, "batch_size": BATCH_SIZE, "validation_interval": steps},
            "accelerator": "cpu",
            "threads": 1,
        }
    )
    run_training(config, file.parent / "run", progress=progress)
    first = len(times) // 10  # warm
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    frames = read_frames(file)
    begin = time.perf_counter()
    for index in np.random.default_rng(0).integers(0, len(frames), READ):
        frames[int(index)]
    return {
        "peak_megabytes": peak,
        "seconds_until_step_1": times[0] - start,
        "trained_per_second": (len(times) - 1 - first) * BATCH_SIZE / (times[-1] - times[first]),
        "read_per_second": READ / (time.perf_counter() - begin),
    }


if __name__ == "__main__":
    main()
