"""One contestant of a race: a process that runs steps when it is asked to.

Shared by environments: needs nothing but PyTorch. Requests come as JSON lines on standard input, answers leave
as JSON lines on standard output.
"""

import json
import resource
import sys
import time
from collections.abc import Callable

import torch

UNTIMED_STEPS = 1  # before each timed turn: the other contestants have emptied the caches meanwhile


def peak_memory() -> float:
    """Largest resident memory of this process so far, MB.

    Linux hands a new program the resource usage of its parent, so its own high-water mark is read where there is one.
    """
    try:
        with open("/proc/self/status") as status:
            return next(float(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def serve(step: Callable[[int], float], facts: dict[str, object]) -> None:
    """Answer requests until the input ends.

    Args:
        step: the n-th step; returns the loss, or the energy.
        facts: what the first answer tells of this contestant.
    """
    before, done, loss = peak_memory(), 0, float("nan")
    facts |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        steps = json.loads(line)["steps"]
        for _ in range(UNTIMED_STEPS):
            step(done)
            done += 1
        start, start_cpu = time.perf_counter(), time.process_time()
        for _ in range(steps):
            loss = step(done)
            done += 1
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
        answer = {"seconds": seconds, "cpu_seconds": cpu_seconds, "loss": loss, "peak_mb": peak_memory()}
        print(json.dumps(answer | {"start_mb": before}), flush=True)
