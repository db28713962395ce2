"""A learning job that is killed again and again labels nothing twice and comes to its end.

python benchmarks/learn_kills.py kills `piwsl learn` for water (GFN2-xTB, 24 labels, no foundation model) with SIGKILL
at ten random moments, continues it each time, and counts the labels; about five minutes.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from ase.build import molecule
from ase.io import write

from piwsl.learning.learn import LearnResult

SETTINGS = [
    "labels.rounds=2", "teacher.members=2", "explore.replicas=2", "explore.picoseconds=0.05",
    "explore.frame_interval=5", "student.frames=60", "student.attempts=1", "verify.replicas=3",
    "verify.picoseconds=0.05", "verify.constant_energy=0.05", "temperature=300", "minutes=0.2",
    "teacher.training={model: {channels: 16, layers: 1}}", "student.training={model: {channels: 16, layers: 1}}",
]  # fmt: skip


def command(output: Path) -> list[str]:
    """Return the command of the job."""
    options = [word for setting in SETTINGS for word in ("-o", setting)]
    water = output.parent / "water.xyz"
    write(water, molecule("H2O"))
    start = [sys.executable, "-m", "piwsl.cli", "learn", str(water), "--budget", "24", "--init-from", "scratch"]
    return [*start, "--output", str(output), *options]


def stored_labels(output: Path) -> list[tuple[str, int]]:
    """Return the stage and the index of every label that was computed, also of those computed again."""
    labels = []
    for store in sorted(output.glob("*/labels/labels.jsonl")):
        labels += [(store.parent.parent.name, json.loads(line)["index"]) for line in store.read_text().splitlines()]
    return labels


def main() -> None:
    """Kill the job, continue it, and print what was labeled."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with TemporaryDirectory() as folder:
        output = Path(folder) / "job"
        kills = 0
        while True:
            process = subprocess.Popen(command(output), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            if kills < options.kills:
                time.sleep(rng.uniform(2.0, 25.0))
                if process.poll() is None:
                    process.kill()
                    process.communicate()
                    kills += 1
                    print(f"kill {kills}: {len(stored_labels(output))} labels so far", flush=True)
                    continue
            _, errors = process.communicate()
            assert process.returncode == 0, errors
            break
        labels = stored_labels(output)
        summary = LearnResult.read(output).summary
        assert len(labels) == len(set(labels)), "a structure was labeled twice"
        assert summary.labels == 24, summary.labels
        print(f"{kills} kills, {len(labels)} labels, none twice; {summary.verdict}")


if __name__ == "__main__":
    main()
