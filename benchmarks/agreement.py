"""How often equal distributions agree: the coverage of what an analysis says about noise.

python benchmarks/agreement.py cuts the bundled reference of aspirin into parts of equal length, takes each as a run and
each later one as its reference, and counts the observables that are within noise: 95 of 100 are wanted. It does the
same with frames of the data set of --frames, such as rMD17, in random halves.

It prints a table and a JSON line; a minute.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np

from piwsl.analysis import Reference, Run, bundled_reference, compare_run, read_reference
from piwsl.runs.summary import MDSummary, SystemRecord
from piwsl.trajectories.frame_source import FrameSource
from piwsl.typing import FloatArray, IntArray

INTERVAL = 50.0  # fs; only for frames without times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=4, type=int, help="of the bundled reference")
    parser.add_argument("--frames", help="a file of frames without order, too")
    parser.add_argument("--halvings", default=5, type=int, help="random halves of these frames")
    options = parser.parse_args()
    reference = bundled_reference("aspirin")
    counts = {"halves of the reference": count(parts_of(reference, 2))}
    counts[f"{options.parts} parts of the reference"] = count(parts_of(reference, options.parts))
    if options.frames:
        counts[f"random halves of {Path(options.frames).name}"] = count(
            halves_of(read_reference(Path(options.frames), units="kcal/mol"), options.halvings)
        )
    rows = {}
    for name, (agreeing, compared) in counts.items():
        good, all_of_them = sum(agreeing.values()), sum(compared.values())
        print(f"{name:32s} {good:5d} of {all_of_them:5d} within noise: {100 * good / all_of_them:.1f} %")
        worst = sorted(compared, key=lambda key: agreeing[key] / compared[key])[:5]
        print("    least often: " + ", ".join(f"{key} {agreeing[key]}/{compared[key]}" for key in worst))
        rows[name] = {"within_noise": good, "compared": all_of_them}
    print(json.dumps({"agreement": rows}))


def parts_of(reference: Reference, parts: int) -> Iterator[tuple[FloatArray, FloatArray, IntArray]]:
    """Pairs of consecutive parts of a trajectory."""
    frames = reference.frames.all()
    for one, other in combinations(np.array_split(frames, parts), 2):
        yield one, other, reference.species


def halves_of(reference: Reference, times: int) -> Iterator[tuple[FloatArray, FloatArray, IntArray]]:
    """Random halves of frames without order."""
    frames = reference.frames.all()
    for seed in range(times):
        order = np.random.default_rng(seed).permutation(len(frames))
        one, other = np.array_split(frames[order], 2)
        yield one, other, reference.species


def count(pairs: Iterator[tuple[FloatArray, FloatArray, IntArray]]) -> tuple[Counter[str], Counter[str]]:
    """How often each observable is within noise, and how often it was compared."""
    agreeing: Counter[str] = Counter()
    compared: Counter[str] = Counter()
    for one, other, species in pairs:
        found = compare_run(run_of(one, species), Reference.of_frames("other", species, other))
        for observable in found.observables:
            if observable.agrees is not None:
                compared[observable.key] += 1
                agreeing[observable.key] += observable.agrees
    return agreeing, compared


def run_of(positions: FloatArray, species: IntArray) -> Run:
    """Frames as those of a run."""
    times = INTERVAL * np.arange(1, len(positions) + 1)
    summary = MDSummary(
        system=SystemRecord(name="frames"),
        ensemble="nvt",
        temperature_K=500.0,
        timestep_fs=INTERVAL,
        steps_requested=len(positions),
        steps_done=len(positions),
        trajectory_interval=1,
        result="completed",
    )
    return Run(Path("frames"), summary, FrameSource.of_array(species, positions, times), None)


if __name__ == "__main__":
    main()
