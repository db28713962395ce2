"""A run of aspirin that is killed again and again equals one that is left alone.

python benchmarks/restart_kills.py kills `piwsl md` with SIGKILL at random moments of its start and its steps, 30 times
for each engine, and continues it each time with --restart; about ten minutes. In the end all frames, rows and the last
state must be those of a run without interruption, every frame once and in order. It also cuts the newest state in half
after every tenth kill: the run must fall back to the one before.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from race import processor

from piwsl.analysis.run_directory import read_run
from piwsl.md.restart import newest_states, state_files
from piwsl.trajectories.thermo import read_thermo

# More steps than a run makes between two kills on most processors; a run that ends before its last kill is an error.
STEPS_PER_KILL = 400
OPTIONS = ["--system", "aspirin", "--trajectory-interval", "10", "--state-interval", "100"]


def command(engine: str, output: Path, steps: int) -> list[str]:
    options = [*OPTIONS, "--steps", str(steps), "--engine", engine, "--output", str(output)]
    return [sys.executable, "-m", "piwsl.cli", "md", *options]


def kill_again_and_again(engine: str, output: Path, steps: int, kills: int, rng: random.Random) -> dict[str, int]:
    """Run to the end through kills; how many fell into the start-up, and how many states were cut."""
    early = cut = 0
    for number in range(kills):
        restart = ["--restart"] if state_files(output) else ["--force"] if output.exists() else []
        before = progress_of(output)
        with subprocess.Popen(
            [*command(engine, output, steps), *restart], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            wait_for_steps(process, output, before, rng)
            if process.poll() is not None:
                sys.exit(f"{engine}: the run ended with code {process.returncode} before kill {number + 1}")
            process.send_signal(signal.SIGKILL)
        early += progress_of(output) == before
        if number % 10 == 9 and len(state_files(output)) == 2:
            newest = state_files(output)[0]
            newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
            cut += 1
        if sys.stderr.isatty():
            print(f"\r{engine}: {number + 1} of {kills}", end="", file=sys.stderr)
    restart = ["--restart"] if state_files(output) else ["--force"]
    subprocess.run([*command(engine, output, steps), *restart], check=True, stdout=subprocess.DEVNULL)
    return {"kills": kills, "before a new state": early, "states cut in half": cut}


def wait_for_steps(process: "subprocess.Popen[bytes]", output: Path, before: int, rng: random.Random) -> None:
    """Mostly until the run has made steps, sometimes only into its start; then a random while."""
    deadline = time.monotonic() + 120
    if rng.random() < 0.8:
        while progress_of(output) <= before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(rng.uniform(0.0, 0.3))
    else:
        time.sleep(rng.uniform(0.5, 5.0))


def progress_of(output: Path) -> int:
    """Step of the newest state file, 0 without one."""
    files = state_files(output) if output.exists() else []
    return int(files[0].stem.split("-")[1]) if files else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30, help="for each engine (30)")
    parser.add_argument("--engines", nargs="+", default=["openmm", "ase"])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    steps = STEPS_PER_KILL * options.kills
    found: dict[str, object] = {"processor": processor()}
    for engine in options.engines:
        with TemporaryDirectory() as name:
            whole, killed = Path(name) / "whole", Path(name) / "killed"
            subprocess.run(command(engine, whole, steps), check=True, stdout=subprocess.DEVNULL)
            counts = kill_again_and_again(engine, killed, steps, options.kills, random.Random(options.seed))
            first, second = read_run(whole), read_run(killed)
            ends = [newest_states({0: one})[0][0].engine["positions"] for one in (whole, killed)]
            checks = {
                "frames": len(second.frames) == steps // 10 and np.array_equal(first.frames.all(), second.frames.all()),
                "rows": read_thermo(whole / "thermo.csv") == read_thermo(killed / "thermo.csv"),
                "state": np.array_equal(*ends),
            }
        said = ", ".join(f"{name} {'equal' if fine else 'DIFFER'}" for name, fine in checks.items())
        print(f"{engine:8}{counts}: {said}", flush=True)
        found[engine] = {**counts, **{name: bool(fine) for name, fine in checks.items()}}
        if not all(checks.values()):
            sys.exit(1)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
