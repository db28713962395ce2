"""Training on an idle and on a busy machine, with the chosen number of threads and with given ones.

    python benchmarks/threads.py --seconds 30

trains the default network on the bundled aspirin, ten structures in a step, and prints the steps after the same time:
as `piwsl train` does by itself (``chosen``), with all threads, and with one thread; alone, and beside as many other
processes as there are processors. The cases alternate.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

BUSY = [sys.executable, "-c", "while True: pass"]


def steps(seconds: float, threads: int | None) -> int:
    """Return the number of steps of a run."""
    settings = ["optimizer.steps=1000000", f"optimizer.minutes={seconds / 60}", "optimizer.validation_interval=1000000"]
    settings += ["data.validation=20", *([] if threads is None else [f"threads={threads}"])]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    with TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "piwsl", "train", "--system", "aspirin", "--output", str(run)]
        command += [word for setting in settings for word in ("-o", setting)]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        lines = [line for line in (run / "train.log").read_text().splitlines() if " step " in line]
    return int(lines[-1].split(" step ")[1].partition(":")[0])


@contextmanager
def others(count: int) -> Iterator[None]:
    """Run other processes within the block."""
    processes = [subprocess.Popen(BUSY) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    count = os.cpu_count() or 1
    cases = {"chosen": None, f"{count} threads": count, "1 thread": 1}
    made: dict[tuple[str, int], list[int]] = {}
    for _ in range(options.rounds):
        for name, threads in cases.items():
            for busy in (0, count):
                with others(busy):
                    made.setdefault((name, busy), []).append(steps(options.seconds, threads))
    print(f"{'':15} {'idle':>8} {'busy':>8}   median steps in {options.seconds:g} s")
    for name in cases:
        print(f"{name:15} {median(made[name, 0]):8.0f} {median(made[name, count]):8.0f}")


if __name__ == "__main__":
    main()
