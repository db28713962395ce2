"""Alter files, read them in limited child processes, and judge the outcome."""

import faulthandler
import io
import json
import logging
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

from piwsl.errors import PiwslError
from tests.fuzz.mutations import BYTES, Mutation

CPU_SECONDS = 20
WALL_SECONDS = 150  # beside other jobs
MEMORY = 3 * 2**30  # bytes of address space beyond those of the process before the case
LONGEST_LINE = 1000  # characters of an error


@dataclass(frozen=True)
class Target:
    """A kind of file.

    Attributes:
        name: of the target.
        file: name of the file; its suffix may select the reader.
        make: writes a small valid file.
        read: reads it and returns a text that depends on all that was read.
        mutations: changes to choose from.
        crafted: files that are written on purpose, such as bombs, by name.
        sealed: whether the file has a checksum, so that damage (not a valid archive written around a change) may
            never alter what is read without an error.
        beside: makes the other files that the reader needs, in the folder of the file.
        seconds: of CPU for one file, roughly; the short form reads few of those that take long.
    """

    name: str
    file: str
    make: Callable[[Path], object]
    read: Callable[[Path], str]
    mutations: Sequence[Mutation] = BYTES
    crafted: Mapping[str, Callable[[Path], object]] = field(default_factory=dict)
    sealed: bool = False
    beside: Callable[[Path], object] | None = None
    seconds: float = 0.1


@dataclass(frozen=True)
class Outcome:
    """What reading a file came to: ``ok`` with what was read, ``error`` with its line, or a fault."""

    kind: str
    text: str

    @property
    def is_fault(self) -> bool:
        """Whether a user would call this a bug."""
        return self.kind not in ("ok", "error")


@dataclass(frozen=True)
class Case:
    """An altered file: a target, the name of the change, what reproduces it, and whether a checksum must show it."""

    target: Target
    name: str
    write: Callable[[Path], object]
    is_damage: bool = False


def cases(target: Target, count: int, seed: int) -> Iterator[Case]:
    """Yield the valid file, the crafted files, and ``count`` random changes of the valid one."""
    yield Case(target, "valid", target.make)
    for name, write in target.crafted.items():
        yield Case(target, name, write)
    with tempfile.TemporaryDirectory() as folder:
        valid = Path(folder) / target.file
        target.make(valid)
        data = valid.read_bytes()
    for index in range(count):
        rng = random.Random(crc32(f"{target.name} {seed} {index}".encode()))
        chosen = [rng.choice(target.mutations) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
        chosen.sort(key=lambda mutation: mutation in BYTES)  # changes of content need an intact container
        changed, names, is_damage = data, [], target.sealed
        for mutation in chosen:
            try:
                changed = mutation(changed, rng) or b"\0"
            except Exception:  # an earlier change left no archive or document to change
                continue
            names.append(mutation.__name__)
            is_damage = is_damage and mutation in BYTES
        name = f"seed {seed} case {index}: {', '.join(names)}"
        yield Case(target, name, lambda path, changed=changed: path.write_bytes(changed), is_damage)  # type: ignore[misc]


def run_case(case: Case, keep: Path | None = None) -> Outcome:
    """Write the file of a case and read it in a forked child; keep the file of a fault in ``keep``."""
    folder = Path(tempfile.mkdtemp(prefix="piwsl-fuzz-"))
    try:
        path = folder / case.target.file
        temporary = folder / "tmp"
        temporary.mkdir()
        if case.target.beside is not None:
            case.target.beside(folder)
        case.write(path)
        before = sorted(folder.rglob("*")), path.read_bytes()
        outcome = _in_child(case.target, path, temporary)
        if not outcome.is_fault:
            left = [str(name.relative_to(folder)) for name in sorted(folder.rglob("*")) if name not in before[0]]
            if left:
                outcome = Outcome("temporary left", ", ".join(left))
            elif path.read_bytes() != before[1]:
                outcome = Outcome("file changed", "by reading it")
        if outcome.is_fault and keep is not None:
            place = keep / f"{case.target.name}-{crc32(case.name.encode()):08x}"
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place / case.target.file)
            (place / "outcome.txt").write_text(f"{case.name}\n{outcome.kind}\n{outcome.text}\n")
        return outcome
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_target(
    target: Target, count: int, seed: int, keep: Path | None = None, until: float = float("inf")
) -> tuple[int, list[tuple[str, Outcome]]]:
    """Run the cases of a target, until a time of `time.monotonic`; return their number and the faults."""
    faults, done, expected = [], 0, None
    for case in cases(target, count, seed):
        outcome = run_case(case, keep)
        done += 1
        if case.name == "valid":
            expected = outcome.text
            if outcome.kind != "ok":
                outcome = Outcome("valid file refused", f"{outcome.kind}: {outcome.text}")
        elif case.is_damage and outcome.kind == "ok" and outcome.text != expected:
            outcome = Outcome("silent change", outcome.text)
        if outcome.is_fault:
            faults.append((case.name, outcome))
        if time.monotonic() > until:
            break
    return done, faults


def _in_child(target: Target, path: Path, temporary: Path) -> Outcome:
    """Fork, limit the child, and read the file there."""
    report, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of forks beside threads, of which a reader needs none
        child = os.fork()
    if child == 0:
        os.close(report)
        os.setsid()  # with its own children in one group
        try:
            text = json.dumps(_read(target, path, temporary))
        except BaseException as error:
            text = json.dumps(["harness", repr(error)])
        with os.fdopen(writing, "w") as stream:
            stream.write(text)
            stream.flush()
        os._exit(0)
    os.close(writing)
    os.set_blocking(report, False)
    received, deadline = b"", time.monotonic() + WALL_SECONDS
    status = None
    while status is None:
        try:
            while chunk := os.read(report, 1 << 16):
                received += chunk
        except BlockingIOError:
            pass
        done, raw = os.waitpid(child, os.WNOHANG)
        if done:
            status = os.waitstatus_to_exitcode(raw)
        elif time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(report)
            return Outcome("hang", f"no end after {WALL_SECONDS} s")
        else:
            time.sleep(0.001)
    try:
        while chunk := os.read(report, 1 << 16):
            received += chunk
    except BlockingIOError:  # a grandchild still holds the pipe
        pass
    os.close(report)
    if status in (-signal.SIGXCPU, -signal.SIGKILL):
        return Outcome("hang", f"more than {CPU_SECONDS} s of CPU")
    if status != 0:
        return Outcome("crash", signal.Signals(-status).name if status < 0 else f"exit code {status}")
    kind, text = json.loads(received)
    return Outcome(kind, text)


def _read(target: Target, path: Path, temporary: Path) -> tuple[str, str]:
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 2))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    faulthandler.disable()
    printed = io.StringIO()
    logging.getLogger("piwsl").addHandler(logging.NullHandler())  # the command line prints what is logged
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # libraries of C print there
        os.dup2(null, stream)
    try:
        with redirect_stdout(printed), redirect_stderr(printed), warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.simplefilter("ignore", DeprecationWarning)  # as Python does outside of tests
            text = target.read(path)
    except PiwslError as error:
        line = str(error)
        if "\n" in line or "\r" in line:
            return "several lines", line[:LONGEST_LINE]
        if len(line) > LONGEST_LINE:
            return "long line", f"{len(line)} characters: {line[:200]}"
        if not line.isprintable():
            return "unprintable line", repr(line[:LONGEST_LINE])
        return "error", line
    except MemoryError:
        return "out of memory", traceback.format_exc()[-3000:]
    except BaseException:
        return "traceback", traceback.format_exc()[-3000:]
    if printed.getvalue().strip():
        return "printed", printed.getvalue()[:LONGEST_LINE]
    return "ok", text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the long form from the command line; 1 if there are faults."""
    import argparse

    from tests.fuzz.targets import all_targets

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Alter files and read them.")
    parser.add_argument("-n", type=int, default=300, help="changes of each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", action="append", help="name of a target, or its beginning; several are possible")
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="folder for the files of faults")
    chosen = parser.parse_args(arguments)
    total, failed = 0, 0
    for target in all_targets():
        if chosen.target and not any(target.name.startswith(name) for name in chosen.target):
            continue
        began = time.monotonic()
        done, faults = run_target(target, chosen.n, chosen.seed, chosen.keep)
        total, failed = total + done, failed + len(faults)
        print(f"{target.name}: {done} files, {len(faults)} faults, {time.monotonic() - began:.0f} s", flush=True)
        for name, outcome in faults:
            print(f"  {name}\n    {outcome.kind}: {outcome.text.strip().splitlines()[-1] if outcome.text else ''}")
    print(f"{total} files, {failed} faults" + (f"; the files are in {chosen.keep}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
