"""Contestants take turns: seconds of a step of each, whatever else the machine does meeting all of them."""

import math
import os
import platform
import random
import sys
from pathlib import Path
from statistics import median
from typing import Any

from contestants import Contestant, ContestantError, Runner

WARM_UP = 3  # steps


class Times:
    """Seconds of a step of one contestant, round by round."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self.peak_mb = self.start_mb = math.nan

    def add(self, answer: dict[str, float], steps: int) -> None:
        """Take down what a turn of ``steps`` steps answered."""
        self.wall.append(answer["seconds"] / steps)
        self.cpu.append(answer["cpu_seconds"] / steps)
        self.peak_mb, self.start_mb = answer["peak_mb"], answer["start_mb"]

    def cost(self, other: "Times", clock: str) -> float:
        """Time of a step over that of another contestant, median over the rounds."""
        pairs = zip(self.wall, other.wall, strict=True) if clock == "wall" else zip(self.cpu, other.cpu, strict=True)
        return median(mine / theirs for mine, theirs in pairs)


def race(
    contestants: list[Contestant], threads: int, rounds: int, turn: float
) -> tuple[dict[str, Times], list[dict[str, Any]]]:
    """Let all take turns of about ``turn`` seconds; their times, and what each says of itself."""
    runners: list[Runner] = []
    try:
        for contestant in contestants:
            runners.append(Runner(contestant, threads))
        return take_turns(runners, rounds, turn)
    except BaseException:
        for runner in runners:
            runner.process.kill()  # some may still be compiling
        raise
    finally:
        for runner in runners:
            runner.stop()


def take_turns(runners: list[Runner], rounds: int, turn: float) -> tuple[dict[str, Times], list[dict[str, Any]]]:
    """Return what `race` returns."""
    facts = [runner.wait() for runner in runners]
    steps = [max(2, round(turn * WARM_UP / runner.run(WARM_UP)["seconds"])) for runner in runners]
    times = {runner.contestant.key: Times() for runner in runners}
    for number in range(rounds):
        order = random.Random(number).sample(range(len(runners)), len(runners))
        for index in order:
            answer = runners[index].run(steps[index])
            if not math.isfinite(answer["loss"]):
                raise ContestantError(runners[index].contestant.key, f"the loss is {answer['loss']}")
            times[runners[index].contestant.key].add(answer, steps[index])
        if sys.stderr.isatty():
            print(f"\rround {number + 1} of {rounds}", end="\n" if number + 1 == rounds else "", file=sys.stderr)
    return times, facts


def default_cache() -> Path:
    """Folder of environments made for a benchmark."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "piwsl"


def rounded(value: Any) -> Any:
    """Round every number to four digits."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
