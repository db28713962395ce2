"""What reporters, stop rules, restart states and progress cost a run of aspirin at the default intervals.

python benchmarks/md_overhead.py prints a table and a JSON line; about four minutes. The bundled model in OpenMM, as
`piwsl md --system aspirin` runs it; beside it the same engine without anything around it, taking turns.
Wanted: at most 3 %. With --memory STEPS it makes one run of so many steps instead and prints how memory grows.
"""

import argparse
import json
import logging
import resource
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
from race import processor, rounded

from piwsl.data.systems import named_system
from piwsl.md.engines.make import make_engine
from piwsl.md.progress import Progress
from piwsl.md.protocol import MDProtocol
from piwsl.md.run import run_protocol
from piwsl.md.simulation import starts


def bare(protocol: MDProtocol) -> Callable[[int], float]:
    """Seconds of some steps of the engine alone."""
    aspirin = named_system("aspirin")
    where = starts(aspirin.structure, protocol, [0])
    engine = make_engine(aspirin.exported, aspirin.structure, protocol, where)
    engine.advance(1000)

    def turn(steps: int) -> float:
        start = perf_counter()
        engine.advance(steps)
        return perf_counter() - start

    return turn


def overhead(steps: int) -> None:
    """Time of a run beside that of its engine alone."""
    aspirin, protocol = named_system("aspirin"), MDProtocol.of(steps=steps)
    turn = bare(protocol)
    costs: list[float] = []
    alone: list[float] = []
    last_step, last = 0, perf_counter()

    def interleaved(progress: Progress) -> None:
        """Let the engine alone make as many steps; the run calls this a few times a second."""
        nonlocal last_step, last
        made, seconds = progress.step - last_step, perf_counter() - last
        alone.append(turn(made) / made)
        costs.append(seconds / made / alone[-1])
        last_step, last = progress.step, perf_counter()

    with TemporaryDirectory() as folder:
        run_protocol(aspirin.structure, aspirin.exported, protocol, Path(folder) / "run", progress=interleaved)
    # A weighted mean, not the median: states and reports come seldom, and count.
    cost = float(np.average(costs[5:], weights=alone[5:]) - 1)
    print(f"{len(costs)} turns, engine alone {1e3 * np.median(alone):.3f} ms a step")
    print(f"everything around it costs {100 * cost:.1f} % (wanted: at most 3)")
    print(json.dumps(rounded({"processor": processor(), "ms": 1e3 * float(np.median(alone)), "cost": cost})))


def memory(steps: int) -> None:
    """Peak resident memory in the course of a run."""
    aspirin = named_system("aspirin")
    seen: list[tuple[int, float]] = []

    def look(progress: Progress) -> None:
        if not seen or progress.step - seen[-1][0] >= steps // 20:
            seen.append((progress.step, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
            print(f"{progress.step:10} steps {seen[-1][1]:8.1f} MB peak", flush=True)

    with TemporaryDirectory() as folder:
        run_protocol(
            aspirin.structure, aspirin.exported, MDProtocol.of(steps=steps), Path(folder) / "run", progress=look
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40_000, help="of each (40 000)")
    parser.add_argument("--memory", type=int, metavar="STEPS", help="look at memory in a run of so many steps")
    options = parser.parse_args()
    logging.getLogger("piwsl").setLevel(logging.ERROR)
    if options.memory:
        memory(options.memory)
    else:
        overhead(options.steps)


if __name__ == "__main__":
    main()
