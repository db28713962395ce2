"""The short form: a few altered files of each kind. `make fuzz` reads thousands."""

import os
import time
from dataclasses import replace

import pytest

from piwsl.errors import DataError
from tests.fuzz.harness import Target, run_target
from tests.fuzz.targets import all_targets

QUICK = [target for target in all_targets() if target.seconds < 1]
BOMBS_AND_SLOW = [target for target in all_targets() if target.crafted or target.seconds >= 1]


@pytest.mark.parametrize("target", QUICK, ids=lambda target: target.name)
def test_altered_files(target):
    """Read all kinds but those that take seconds, which are left to the slow test."""
    count = 1 if target.seconds > 0.2 else 3
    _, faults = run_target(replace(target, crafted={}), count, seed=3)
    assert faults == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "target",
    [target for target in all_targets() if target.crafted or target not in QUICK],
    ids=lambda target: target.name,
)
def test_slow_kinds_and_bombs(target):
    _, faults = run_target(target, 1, seed=4)
    assert faults == []


@pytest.mark.slow
@pytest.mark.parametrize("target", all_targets(), ids=lambda target: target.name)
def test_many_altered_files(target, tmp_path):
    _, faults = run_target(target, 25, seed=int(os.environ.get("PIWSL_FUZZ_SEED", "0")), keep=tmp_path)
    assert faults == []


def fake(read, sealed=False):
    """A target of one word."""
    return Target("fake", "a.txt", lambda path: path.write_text("some words"), read, sealed=sealed)


def raises(error):
    def read(path):
        if path.read_bytes() == b"some words":
            return "read"
        raise error

    return read


class Lines(DataError):
    def __str__(self):
        return "two\nlines"


class Bell(DataError):
    """An error whose text escapes nothing."""

    def __str__(self):
        return "bell \a"


def leaves_a_file(path):
    (path.parent / "tmp" / "left").touch()
    return ""


def test_a_line_of_ours_is_no_fault():
    assert run_target(fake(raises(DataError("one line"))), 5, seed=0) == (6, [])


@pytest.mark.parametrize(
    ("read", "kind"),
    [
        (raises(ValueError("unexpected")), "traceback"),
        (raises(Lines()), "several lines"),
        (raises(DataError("x" * 2000)), "long line"),
        (raises(Bell()), "unprintable line"),
        (raises(MemoryError()), "out of memory"),
        (leaves_a_file, "temporary left"),
        (lambda path: os.kill(os.getpid(), 11), "crash"),
        (lambda path: print("hello") or "", "printed"),
        (lambda path: path.write_text("other") and "", "file changed"),
    ],
)
def test_the_harness_finds(read, kind):
    found = {outcome.kind for _, outcome in run_target(fake(read), 3, seed=0)[1]}
    assert kind in found or found == {"valid file refused"}


def test_the_harness_ends_what_does_not_end(monkeypatch):
    monkeypatch.setattr("tests.fuzz.harness.WALL_SECONDS", 0.2)
    (_, outcome), *_ = run_target(fake(lambda path: time.sleep(5) or ""), 0, seed=0)[1]
    assert "hang" in outcome.text


def test_a_silent_change_of_a_sealed_file_is_found():
    target = fake(lambda path: path.read_bytes().hex(), sealed=True)
    assert {outcome.kind for _, outcome in run_target(target, 5, seed=0)[1]} == {"silent change"}
