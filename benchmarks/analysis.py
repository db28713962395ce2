"""Speed of h(r) against mdtraj and numpy, and memory of an analysis against the length of the trajectory.

python benchmarks/analysis.py [--frames 100000] [--rounds 5] counts the distances of frames of aspirin in memory with
piwsl and with mdtraj.compute_distances and numpy.histogram, which take turns in one process with one thread.

python benchmarks/analysis.py --memory [--sizes 10000,1000000] writes runs of so many frames - the bundled reference
again and again, with noise - and analyzes each in a process of its own. A million frames need 0.4 GB of disk.

Both print a table and a JSON line.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import mdtraj
import numpy as np
from race import processor, rounded

from piwsl.analysis import Reference, bundled_reference, compare_run, read_run
from piwsl.analysis.quantities.distances import BINS, RANGE, DistanceCounter, ModeSampler
from piwsl.analysis.quantity import Frames
from piwsl.data.systems import named_system
from piwsl.typing import FloatArray, IntArray
from piwsl.units import NANOMETER

NOISE = 0.01  # angstrom
PIECE = 1000
TIMESTEP = 0.5  # fs
INTERVAL = 100  # steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", default=100_000, type=int, help="frames in memory")
    parser.add_argument("--rounds", default=5, type=int, help="turns of each")
    parser.add_argument("--memory", action="store_true", help="measure the memory instead")
    parser.add_argument("--sizes", default="10000,1000000", help="frames of the runs, several with commas between")
    parser.add_argument("--scratch", help="directory for the runs  [default: a temporary one]")
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # what the processes of this script are called with
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(Path(options.measure))))
    elif options.memory:
        compare_memory([int(text) for text in options.sizes.split(",")], options.scratch)
    else:
        compare_speed(options.frames, options.rounds)


def compare_speed(frames: int, rounds: int) -> None:
    """h(r) by both, in turns."""
    reference = bundled_reference("aspirin")
    positions = np.concatenate([piece for _, piece in noisy(reference, frames)])
    trajectory = mdtraj.Trajectory(positions / NANOMETER, named_topology())
    contestants: dict[str, Callable[[], FloatArray]] = {
        "piwsl": lambda: of_piwsl(reference.species, positions),
        "mdtraj and numpy": lambda: of_mdtraj(trajectory),
    }
    densities = {name: call() for name, call in contestants.items()}  # warm, and checked
    gap = float(np.abs(densities["piwsl"] - densities["mdtraj and numpy"]).sum() * RANGE / BINS)
    if gap > 1e-3:
        sys.exit(f"the two h(r) differ by {gap:.2g}")
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            begin = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - begin)
    ratios = [theirs / ours for ours, theirs in zip(times["piwsl"], times["mdtraj and numpy"], strict=True)]
    print(f"h(r) of {frames} frames of aspirin, {processor()}, one thread")
    for name, found in times.items():
        print(f"{name:18s} {median(found):8.3f} s   ({min(found):.3f} to {max(found):.3f})")
    print(f"{'ratio':18s} {median(ratios):8.2f}     ({min(ratios):.2f} to {max(ratios):.2f})")
    row = {"frames": frames, "seconds": times, "ratio": median(ratios), "difference": gap, "processor": processor()}
    print(json.dumps({"h_of_r": rounded(row)}))


def of_piwsl(species: IntArray, positions: FloatArray) -> FloatArray:
    """h(r) with its blocks, of all pairs and by elements, as an analysis counts it."""
    sampler = ModeSampler(len(species))
    for first in range(0, len(positions), PIECE):
        sampler.add(positions[first : first + PIECE], first)
    counter = DistanceCounter(species, len(positions), sampler.modes())
    for first in range(0, len(positions), PIECE):
        counter.add(Frames(first, positions[first : first + PIECE]))
    histogram = counter.statistics().all_pairs
    return histogram.density(histogram.blocks.total)


def of_mdtraj(trajectory: mdtraj.Trajectory) -> FloatArray:
    """h(r) from all distances at once."""
    pairs = np.stack(np.triu_indices(trajectory.n_atoms, k=1), axis=1)
    distances = mdtraj.compute_distances(trajectory, pairs, periodic=False)
    return np.histogram(distances, BINS, (0.0, RANGE / NANOMETER), density=True)[0] / NANOMETER


def compare_memory(sizes: list[int], scratch: str | None) -> None:
    """Analyze runs of these sizes, each in a fresh process."""
    print("frames     trajectory [MB]   imported [MB]   peak [MB]   seconds")
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory(dir=scratch) as folder:
        for size in sizes:
            path = Path(folder) / f"run-{size}"
            write_run(path, size)
            command = [sys.executable, __file__, "--measure", str(path)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            row = {
                "frames": size,
                "trajectory_megabytes": (path / "trajectory.dcd").stat().st_size / 1e6,
                **json.loads(done.stdout.splitlines()[-1]),
            }
            print(
                f"{size:9d} {row['trajectory_megabytes']:17.0f} {row['imported_megabytes']:15.0f} "
                f"{row['peak_megabytes']:11.0f} {row['seconds']:9.1f}"
            )
            rows.append(row)
    above = rows[-1]["peak_megabytes"] - rows[0]["peak_megabytes"]
    print(f"the peak for {sizes[-1]} frames is {above:.0f} MB above that for {sizes[0]}")
    print(json.dumps({"memory": rounded(rows), "above_megabytes": round(above, 1), "processor": processor()}))


def measure(path: Path) -> dict[str, float]:
    """Analyze a run in this process; its resident memory before and at most."""
    imported = resident("VmRSS")
    begin = time.perf_counter()
    compare_run(read_run(path), bundled_reference("aspirin"))
    return {
        "imported_megabytes": imported,
        "peak_megabytes": resident("VmHWM"),
        "seconds": time.perf_counter() - begin,
    }


def resident(what: str) -> float:
    """Resident memory of this process in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(what)) / 1e3


def noisy(reference: Reference, frames: int) -> Any:
    """Pieces (first, positions) of the reference again and again, with noise."""
    random = np.random.default_rng(0)
    base = reference.frames.all()
    for first in range(0, frames, PIECE):
        chosen = np.arange(first, min(first + PIECE, frames)) % len(base)
        noise = random.normal(0, NOISE, (len(chosen), *base.shape[1:]))
        yield first, (base[chosen] + noise).astype(np.float32)


def write_run(path: Path, frames: int) -> None:
    """Make a run directory with this number of frames and rows of energies."""
    path.mkdir(parents=True)
    reference = bundled_reference("aspirin")
    with mdtraj.formats.DCDTrajectoryFile(str(path / "trajectory.dcd"), "w") as file:
        for _, positions in noisy(reference, frames):
            file.write(positions)
    random = np.random.default_rng(1)
    atoms = len(reference.species)
    with (path / "thermo.csv").open("w") as stream:
        stream.write("step,time [ps],potential [eV],kinetic [eV],total [eV],temperature [K]\n")
        for row, noise in enumerate(random.normal(size=frames), start=1):
            step, temperature = row * INTERVAL, 500 + 80 * noise
            kinetic = 1.5 * atoms * 8.617333e-5 * temperature
            time_ps = step * TIMESTEP / 1000
            stream.write(f"{step},{time_ps:.3f},{-100 - kinetic:.6f},{kinetic:.6f},-100.0,{temperature:.3f}\n")
    summary = {
        "system": {"name": "aspirin", "species": [int(number) for number in reference.species]},
        "ensemble": "nve",
        "temperature_K": 500.0,
        "timestep_fs": TIMESTEP,
        "trajectory_interval": INTERVAL,
        "steps_requested": frames * INTERVAL,
        "steps_done": frames * INTERVAL,
        "result": "completed",
        "outputs": {"trajectory": "trajectory.dcd"},
    }
    (path / "summary.json").write_text(json.dumps(summary))


def named_topology() -> mdtraj.Topology:
    """Of aspirin."""
    topology = mdtraj.Topology()
    residue = topology.add_residue("UNL", topology.add_chain())
    for index, symbol in enumerate(named_system("aspirin").structure.get_chemical_symbols()):
        topology.add_atom(f"{symbol}{index}", mdtraj.element.get_by_symbol(symbol), residue)
    return topology


if __name__ == "__main__":
    main()
