"""Training steps of PaiNN on aspirin: structures per second, beside SchNetPack's.

python benchmarks/training_throughput.py prints a table and a JSON line; about half an hour, and some minutes more the
first time, to install SchNetPack in an environment of its own. PaiNN with 128 channels, 3 layers, 20 radial functions
and a cutoff of 5 angstrom, batches of 10, float32. A step is: forward pass, losses (energy MAE, force L2-MAE with
coefficient 100, consistency terms), backward pass, AdamW; batches are made beforehand.

Each contestant is a process of its own. They take turns of some steps, in a new order every round, so that whatever
else the machine does meets all. Ratios are the medians of the ratios within a round. CPU time, given at one thread,
is what the step costs a processor; wall time also holds the waiting where others use the machine.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from contestants import Contestant, piwsl, schnetpack, schnetpack_python
from race import Times, default_cache, processor, race, rounded

from piwsl.data.read import read_frames
from piwsl.data.systems import named_system

PLAIN, THEIRS = "piwsl plain", "SchNetPack plain"
FRAMES = 200
# What is to be reached: row, row it is compared with, what is compared, and how much is wanted.
TARGETS = (
    (f"{PLAIN}, forces", f"{THEIRS}, forces", "speed", ">= 2"),
    ("piwsl PITC k = 1/2, forces", f"{PLAIN}, forces", "cost", "<= 1.6"),
    ("piwsl PITC k = 0, forces", f"{PLAIN}, forces", "cost", "<= 1.6"),
    ("piwsl PITC+PISC k = 1/2, forces", f"{PLAIN}, forces", "cost", "<= 2.2"),
    ("piwsl PITC+PISC k = 0, forces", f"{PLAIN}, forces", "cost", "<= 2.2"),
    ("piwsl PITC k = 1/2, energies", f"{PLAIN}, energies", "cost", "<= 3"),
    ("piwsl PITC k = 0, energies", f"{PLAIN}, energies", "cost", "<= 3"),
)


def row(contestant: Contestant, times: dict[str, Times], batch: int) -> dict[str, float | None]:
    """Figures of one contestant."""
    own = times[contestant.key]

    def cost(name: str, labels: str, clock: str) -> float | None:
        other = times.get(f"{name}, {labels}")
        return own.cost(other, clock) if other else None

    found: dict[str, float | None] = {
        "structures_per_s": batch / median(own.wall),
        "slowest": batch / max(own.wall),
        "fastest": batch / min(own.wall),
        "wall_ms": 1e3 * median(own.wall),
        "cpu_ms": 1e3 * median(own.cpu),
        "cpu_ms_min": 1e3 * min(own.cpu),
        "cpu_ms_max": 1e3 * max(own.cpu),
        "peak_mb": own.peak_mb,
        "start_mb": own.start_mb,
    }
    for clock in ("wall", "cpu"):
        found[f"cost_to_plain_with_forces_{clock}"] = cost(PLAIN, "forces", clock)
        found[f"cost_to_plain_{clock}"] = cost(PLAIN, contestant.labels, clock)
        theirs = cost(THEIRS, contestant.labels, clock)
        found[f"speed_to_schnetpack_{clock}"] = 1 / theirs if theirs else None
    return found


def show(rows: dict[str, dict[str, float | None]], clock: str) -> None:
    """Print the table; ratios by ``clock``."""
    print(
        f"{'':39}structures/s   slowest-   ms/step  CPU ms   cost, plain =1   SchNetPack   peak memory\n"
        f"{'':39}  (median)     fastest    (wall)   /step   forces  same        = 1       MB (at start)"
    )

    def ratio(value: float | None) -> str:
        return "   -" if value is None else f"{value:4.2f}"

    for name, one in rows.items():
        print(
            f"{name:39}{one['structures_per_s']:9.1f}{one['slowest']:9.1f} -{one['fastest']:6.1f}"
            f"{one['wall_ms']:9.1f}{one['cpu_ms']:8.1f}{ratio(one[f'cost_to_plain_with_forces_{clock}']):>9}"
            f"{ratio(one[f'cost_to_plain_{clock}']):>6}{ratio(one[f'speed_to_schnetpack_{clock}']):>11}"
            f"{one['peak_mb']:11.0f} ({one['start_mb']:.0f})"
        )


def targets(times: dict[str, Times]) -> list[dict[str, object]]:
    """Print what was to be reached beside what was, by both clocks."""
    found = []
    print(f"\n{'to reach':67}{'wanted':>8}{'wall':>7}{'CPU':>7}")
    for name, other, what, wanted in TARGETS:
        if name not in times or other not in times:
            continue
        wall, cpu = (times[name].cost(times[other], clock) for clock in ("wall", "cpu"))
        if what == "speed":
            wall, cpu = 1 / wall, 1 / cpu
        print(f"{f'{what} of {name} / {other}':67}{wanted:>8}{wall:7.2f}{cpu:7.2f}")
        found.append({"what": f"{what}: {name} / {other}", "wanted": wanted, "wall": wall, "cpu": cpu})
    return found


def write_frames(path: Path) -> None:
    """Write the first training frames for a program that does not use piwsl."""
    frames = read_frames(named_system("aspirin").train)[:FRAMES]
    np.savez(
        path,
        species=frames[0].species,
        positions=np.stack([frame.positions for frame in frames]),
        energies=np.array([frame.energy for frame in frames]),
        forces=np.stack([frame.forces for frame in frames]),
    )


def main() -> None:
    cache = default_cache()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12, help="turns of each contestant (12)")
    parser.add_argument("--turn", type=float, default=2.0, help="seconds of a turn, about (2)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="thread counts (1 2)")
    parser.add_argument("--batch", type=int, default=10, help="structures in a step (10)")
    parser.add_argument("--cache", type=Path, default=cache, help=f"folder of SchNetPack's environment ({cache})")
    parser.add_argument("--torch", help="PyTorch for SchNetPack (the version that piwsl uses)")
    parser.add_argument("--without-schnetpack", action="store_true", help="only piwsl")
    options = parser.parse_args()

    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # each table as soon as it is known
    results: dict[str, object] = {}
    with TemporaryDirectory() as folder:
        contestants = piwsl(options.batch)
        if not options.without_schnetpack:
            frames = Path(folder) / "frames.npz"
            write_frames(frames)
            python = schnetpack_python(options.cache.resolve(), options.torch)
            contestants = [*schnetpack(python, frames, options.batch), *contestants]
        for threads in options.threads:
            before = os.getloadavg()[0]
            times, facts = race(contestants, threads, options.rounds, options.turn)
            clock = "cpu" if threads == 1 else "wall"
            print(
                f"\n{threads} thread{'s' * (threads > 1)}, batch {options.batch}, {options.rounds} rounds; ratios by "
                f"{clock} time; load of the machine {before:.1f} before, {os.getloadavg()[0]:.1f} after"
            )
            rows = {one.key: row(one, times, options.batch) for one in contestants}
            show(rows, clock)
            results[f"threads_{threads}"] = {"rows": rows, "targets": targets(times)}
    print("\nto make a batch (neighbor lists included for piwsl, at hand for SchNetPack), CPU ms:")
    for one, fact in zip(contestants, facts, strict=True):
        about = f"{fact['edges']} edges, {fact['parameters']} weights, {fact['library']}, PyTorch {fact['torch']}"
        print(f"{one.key:39}{fact['collate_ms']:6.2f}   {about}")
    print(json.dumps(rounded({"processor": processor(), "cpus": os.cpu_count(), **results})))


if __name__ == "__main__":
    main()
