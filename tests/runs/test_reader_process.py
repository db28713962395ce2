"""Readers in a child process: whatever happens there, the parent gets arrays or an error of one line."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from piwsl.errors import DataError, MissingDependencyError
from piwsl.runs import reader_process
from piwsl.runs.reader_process import call_apart, read_apart


def arrays(path: str, count: int):
    for number in range(count):
        print("noise of a library")
        yield {"a": np.full((2, number), number, dtype=np.float32), "b": np.array([number])}


def aborting(path: str):
    yield {"a": np.arange(3)}
    os.abort()


def looping(path: str):
    yield {"a": np.arange(3)}
    while True:
        pass


def waiting(path: str):
    time.sleep(60)
    yield {"a": np.arange(3)}


def failing(path: str, what: str):
    yield {"a": np.arange(3)}
    if what == "memory":
        raise MemoryError
    if what == "library":
        raise MissingDependencyError("h5py", "an HDF5 file", "data")
    if what == "data":
        raise DataError(f"{path}: frame 3 is broken")
    raise ValueError("two\nlines")


@pytest.fixture
def file(tmp_path):
    (tmp_path / "t.bin").write_bytes(b"0")
    return tmp_path / "t.bin"


def test_arrays_come_back_and_readers_can_be_interleaved(file):
    both = list(zip(read_apart(arrays, file, 3), read_apart(arrays, file, 4), strict=False))
    assert [int(first["b"][0]) for first, _ in both] == [0, 1, 2]
    assert both[2][1]["a"].tolist() == [[2.0, 2.0], [2.0, 2.0]]
    assert both[0][0]["a"].shape == (2, 0)
    assert both[1][0]["a"].dtype == np.float32


def test_a_crash_is_one_line_and_the_next_reader_works(file):
    pieces = read_apart(aborting, file)
    assert next(pieces)["a"].tolist() == [0, 1, 2]
    with pytest.raises(DataError, match=r"t.bin: damaged: the reader crashed \(SIGABRT\)$"):
        next(pieces)
    assert len(list(read_apart(arrays, file, 2))) == 2


@pytest.mark.parametrize("reader", [looping, waiting])
def test_every_read_ends(reader, file):
    with pytest.raises(DataError, match=r"t.bin: damaged: reading did not finish within 0 s"):
        list(read_apart(reader, file, cpu_seconds=0.3))


@pytest.mark.parametrize(
    ("what", "kind", "message"),
    [
        ("memory", DataError, r"t.bin: damaged \(not enough memory\)$"),
        ("library", MissingDependencyError, r"pip install 'piwsl\[data\]'$"),
        ("data", DataError, r"t.bin: frame 3 is broken$"),
        ("value", DataError, r"t.bin: damaged \(two lines\)$"),
    ],
)
def test_errors_keep_their_kind(what, kind, message, file):
    with pytest.raises(kind, match=message):
        list(read_apart(failing, file, what))


def content(path: str):
    with open(path, "rb") as stream:
        yield {"a": np.frombuffer(stream.read(), dtype=np.uint8)}


def test_relative_paths_follow_the_current_folder(tmp_path, monkeypatch):
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "t.bin").write_bytes(bytes([number]))
        monkeypatch.chdir(folder)
        assert next(read_apart(content, Path("t.bin")))["a"].tolist() == [number]


def length(path: Path, text: str):
    return len(text) if path.name else 0


def calling(path: Path, what: str):
    print("noise of a library")
    if what == "abort":
        os.abort()
    while what == "loop":
        pass
    if what in ("memory", "much"):
        return len(bytes(2**32 if what == "memory" else 2**29))
    if what == "data":
        raise DataError(f"{path}: frame 3 is broken")
    raise TypeError("two\nlines")


LIMITS = {"memory": 2**28, "cpu_seconds": 15.0}


def test_results_of_calls_come_back_from_one_process(file):
    assert call_apart(length, file, "four", **LIMITS) == 4
    process = reader_process._Server._current
    assert [call_apart(length, file, number * "a", **LIMITS) for number in range(20)] == list(range(20))
    assert reader_process._Server._current is process


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ("abort", DataError, r"t\.bin: damaged: the reader crashed \(SIGABRT\)"),
        ("memory", ValueError, "MemoryError"),
        ("data", DataError, r"t\.bin: frame 3 is broken$"),
        ("type", ValueError, "TypeError: two"),
    ],
)
def test_errors_of_calls_keep_their_kind_and_the_next_call_works(file, what, error, message):
    with pytest.raises(error, match=message):
        call_apart(calling, file, what, **LIMITS)
    assert call_apart(length, file, "four", **LIMITS) == 4
    assert call_apart(calling, file, "much", memory=2**31, cpu_seconds=15.0) == 2**29  # no limit remains
    assert len(list(read_apart(arrays, file, 3))) == 3


def test_a_call_without_an_end_is_ended(file):
    with pytest.raises(DataError, match="did not finish within 1 s"):
        call_apart(calling, file, "loop", memory=2**28, cpu_seconds=1.0)


@pytest.mark.parametrize("name", ["/dev/stdin", "/proc/self/fd/0"])
def test_names_that_mean_another_file_in_the_child_are_refused(name):
    for read in (lambda: next(read_apart(arrays, Path(name), 1)), lambda: call_apart(len, Path(name), memory=2**30)):
        with pytest.raises(DataError, match=f"{name}: not a regular file: give the name of the file"):
            read()
