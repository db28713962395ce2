"""Writers of trajectories, killed at random moments and continued: what others see, and what is left.

    python killed_writers.py FOLDER FORMAT...

prints for each format a list of attempts: the frames kept from the last one, those flushed and seen by this process
while the writer ran, and those flushed and left after the kill. Frames that are not as they were written fail.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
from ase.build import molecule

from piwsl.errors import DataError
from piwsl.trajectories.files import create_trajectory, read_trajectory
from tests.trajectories.test_trajectories import PRECISION, frame, protocol

ATOMS = molecule("CH3CH2OH")
FRAMES = [frame(number, ATOMS) for number in range(1, 2000)]
ATTEMPTS = 4
NUMBER = 6  # bytes of a message


def write(path: Path, kind: str, keep: int, pipe: int) -> None:
    writer = create_trajectory(path, ATOMS, protocol(kind), keep)
    for number, one in enumerate(FRAMES[keep:], start=keep + 1):
        writer.write(one)
        if number % 5 == 0:
            writer.flush()
            os.write(pipe, f"{number:{NUMBER}}".encode())
    time.sleep(60)


def whole_frames(path: Path, kind: str) -> int:
    found = read_trajectory(path).positions
    expected = np.stack([one.positions for one in FRAMES[: len(found)]])
    assert np.abs(found - expected).max() < PRECISION[kind]
    return len(found)


def attempt(path: Path, kind: str, keep: int) -> dict[str, int]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            write(path, kind, keep, writing)
        finally:
            os._exit(1)
    os.close(writing)
    try:
        seen_flushed = int(os.read(reading, NUMBER))
        seen = whole_frames(path, kind)
        time.sleep(random.random() * 0.02)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    said = b""
    while more := os.read(reading, 1 << 16):
        said += more
    flushed = int(said[-NUMBER:] or seen_flushed)
    left = whole_frames(path, kind)
    return {"kept": keep, "seen_flushed": seen_flushed, "seen": seen, "flushed": flushed, "left": left}


def killed_while_opening(path: Path, kind: str, keep: int) -> None:
    """A restart that is killed while it cuts; whatever it leaves, the next one can go on from."""
    child = os.fork()
    if child == 0:
        create_trajectory(path, ATOMS, protocol(kind), keep)
        os._exit(1)
    time.sleep(random.random() * 0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    try:
        assert whole_frames(path, kind) >= keep
    except DataError as error:
        assert "resume that run first" in str(error)  # noqa: PT017


def main(folder: Path, kinds: list[str]) -> None:
    random.seed(0)
    attempts: dict[str, list[dict[str, int]]] = {}
    for kind in kinds:
        path, keep = folder / f"t.{kind}", 0
        attempts[kind] = []
        for _ in range(ATTEMPTS):
            attempts[kind].append(attempt(path, kind, keep))
            keep = random.randint(attempts[kind][-1]["flushed"] // 4 + 1, attempts[kind][-1]["flushed"])
            for _ in range(3):
                killed_while_opening(path, kind, keep)
    print(json.dumps(attempts))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
