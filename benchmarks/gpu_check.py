"""Check piwsl on a GPU: what works, whether results agree with the CPU, and how fast it is.

    python benchmarks/gpu_check.py [--parts environment eager ...] [--output gpu_check.json]

takes at most eight minutes and needs no data. Each part is a process of its own with a time limit, so that a part that
fails does not stop the others. After a crash or a hang, a new process continues the part with its next row. Each row is
printed when it is known. The JSON file is written after
every part and contains all rows and the last lines of tracebacks. A last table sums up the parts. The exit code is 1 if
a part failed or a result differs.

    environment   devices, versions, platforms of OpenMM, compilers, piwsl doctor
    eager         every network: energies, forces and second derivatives beside the CPU
    forms         exported files beside the eager model
    contexts      exported files inside OpenMM, with and without CUDA graphs
    losses        losses and gradients beside the CPU, forward and reverse mode, training and resuming
    restarts      whether restarted runs give the bits of uninterrupted runs
    md_step       time of a step of dynamics with every form and engine
    replicas      1 to 4096 molecules at once
    training      training steps by loss, batch size and float type
    compiled      files compiled with AOTInductor
    scaling       21 to 100 000 atoms

piwsl does not have to be installed: the script uses the repository that contains it. It needs torch, numpy, scipy, ase,
pydantic, PyYAML, tqdm, networkx and vesin; rows that need another package that is missing are skipped. With
``--device cpu``, or without a GPU, all parts run in small on the CPU, to test the script.
"""

import argparse
import contextlib
import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # also when imported by its name, by a test

from gpu_check_parts.report import (  # noqa: E402
    CRASHED,
    DIFFERS,
    FAILED,
    SKIPPED,
    TIMED_OUT,
    Report,
    Settings,
    append,
    read_rows,
    unfinished,
)

# Seconds after which a part starts no further row.
PARTS = {
    "environment": 30.0,
    "eager": 50.0,
    "forms": 40.0,
    "contexts": 40.0,
    "losses": 50.0,
    "restarts": 40.0,
    "md_step": 60.0,
    "replicas": 45.0,
    "training": 40.0,
    "compiled": 90.0,
    "scaling": 45.0,
}
GRACE = 40.0  # seconds from there until a part is killed
SILENT = 90.0  # seconds without a row after which an attempt is given up
TOTAL = 470.0
BAD = (CRASHED, TIMED_OUT, FAILED, DIFFERS)


@dataclass(frozen=True)
class Outcome:
    """Result of a part, with its rows."""

    name: str
    result: str
    seconds: float
    rows: list[dict[str, Any]]
    errors: list[str]

    def line(self) -> str:
        """Return a line of the last table."""
        counts = {kind: sum(row["result"] == kind for row in self.rows) for kind in ("ok", SKIPPED, *BAD)}
        words = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
        return f"{self.name:14}{self.result:11}{self.seconds:7.1f} s   {words}"

    def bad_rows(self) -> list[str]:
        """Return the names of the rows that failed or differ."""
        return [f"{row['result']:10}{row['name']}" for row in self.rows if row["result"] in BAD]


def result_of(rows: Sequence[dict[str, Any]]) -> str:
    """Return the result of a part from its rows."""
    results = {str(row["result"]) for row in rows}
    if not results:
        return FAILED
    for kind in BAD:
        if kind in results:
            return kind
    return SKIPPED if results == {SKIPPED} else "ok"


def run_part(name: str, options: argparse.Namespace, folder: Path, seconds: float, limit: float) -> Outcome:
    """Run a part in a process of its own, and in further processes after an attempt that crashes or hangs."""
    short, start, errors = Path(name).stem, time.monotonic(), list[str]()
    file = folder / f"{short}.jsonl"
    while True:
        used = time.monotonic() - start
        status, lines = launched(name, options, folder, seconds - used, limit - used)
        if status == 0:
            break
        errors += lines
        attempt = unfinished(file)
        kind = TIMED_OUT if status is None else CRASHED
        if status is None and time.monotonic() - start >= limit - 1:
            attempt, words = attempt or f"part {short}", f"after the {limit:.0f} s of this part"
        elif status is None:
            words = f"after {options.silent:.0f} s without a row"
        else:
            words = f"exit status {status}: {told(lines)}"[:180]
        print(f"  {attempt or f'part {short}':66} {kind:8} {words}", flush=True)
        append(file, {"name": attempt or f"part {short}", "result": kind, "reason": words, "stderr": lines})
        if attempt is None or time.monotonic() - start > seconds:
            break
        append(file, {"end": attempt})
    rows = read_rows(file)
    return Outcome(short, result_of(rows), time.monotonic() - start, rows, errors)


def told(lines: Sequence[str]) -> str:
    """Return the most telling line of the output of a process that died."""
    return next((line for line in lines if "rror" in line), lines[-1] if lines else "")


def launched(
    name: str, options: argparse.Namespace, folder: Path, seconds: float, limit: float
) -> tuple[int | None, list[str]]:
    """Run a process of a part; return its exit status, None if it was killed, and the end of its error output."""
    file, stderr = folder / f"{Path(name).stem}.jsonl", folder / f"{Path(name).stem}.stderr"
    command = [sys.executable, "-X", "faulthandler", str(Path(__file__).resolve()), "--part", name]
    command += ["--folder", str(folder), "--device", options.device, "--seconds", str(seconds)]
    command += ["--small"] if options.small else []
    paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    if options.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    with stderr.open("wb") as errors:
        process = subprocess.Popen(command, env=environment, stderr=errors, start_new_session=True)
        try:
            status = watched(process, file, limit, options.silent)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # also compilers that it started
            process.wait()
    lines = stderr.read_text(errors="replace").splitlines()
    first = next((number for number, line in enumerate(lines) if "Fatal Python error" in line), len(lines) - 25)
    return status, lines[max(0, first) :][:25]


def watched(process: subprocess.Popen[bytes], file: Path, limit: float, silent: float) -> int | None:
    """Wait for a process; return its exit status, or None if it takes too long or writes no row for too long."""
    start = changed = time.monotonic()
    size = 0
    while process.poll() is None:
        now, written = time.monotonic(), file.stat().st_size if file.exists() else 0
        if written != size:
            size, changed = written, now
        if now - start > limit or now - changed > silent:
            return None
        time.sleep(0.05)
    return process.returncode


def in_this_process(options: argparse.Namespace) -> None:
    """Run one part in this process."""
    name = str(options.part)
    report = Report(options.folder / f"{Path(name).stem}.jsonl", options.seconds)
    report.attempt(f"part {Path(name).stem}", run_here, name, report, options)


def run_here(name: str, report: Report, options: argparse.Namespace) -> None:
    """Import and run a part."""
    function_of(name)(report, Settings(options.device, options.small, options.folder))


def function_of(name: str) -> Callable[..., None]:
    """Return the function of a part, by its name or its file."""
    if name in PARTS:
        module = importlib.import_module(f"gpu_check_parts.{name}")
    else:
        spec = importlib.util.spec_from_file_location(Path(name).stem, name)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    function: Callable[..., None] = module.run
    return function


def save(outcomes: Sequence[Outcome], options: argparse.Namespace, seconds: float) -> None:
    """Write the JSON file."""
    content = {
        "device": options.device,
        "small": options.small,
        "seconds": round(seconds, 1),
        "parts": {one.name: {k: v for k, v in vars(one).items() if k != "name"} for one in outcomes},
    }
    new = options.output.with_name(f"{options.output.name}.new")
    new.write_text(json.dumps(content, indent=1) + "\n")
    new.replace(options.output)


def has_gpu() -> bool:
    """Return whether PyTorch finds a GPU, found in a process of its own, since CUDA should be idle in this one."""
    code = "import torch; raise SystemExit(0 if torch.cuda.is_available() else 1)"
    return subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), help="parts, or files with a function run (all)")
    parser.add_argument("--device", choices=["cuda", "cpu"], help="device (cuda if there is one)")
    parser.add_argument("--small", action="store_true", help="a few seconds for each part")
    parser.add_argument("--output", type=Path, default=Path("gpu_check.json"), help="JSON file (gpu_check.json)")
    parser.add_argument("--total", type=float, default=TOTAL, help=f"time for everything, seconds ({TOTAL:g})")
    parser.add_argument("--limit", type=float, help="time limit of each part, seconds")
    text = f"time without a row after which a row is given up, seconds ({SILENT:g})"
    parser.add_argument("--silent", type=float, default=SILENT, help=text)
    for hidden in ("--part", "--folder", "--seconds"):
        parser.add_argument(
            hidden, type={"--folder": Path, "--seconds": float}.get(hidden, str), help=argparse.SUPPRESS
        )
    options = parser.parse_args(arguments)
    for name in options.parts:
        if name not in PARTS and not Path(name).is_file():
            parser.error(f"unknown part {name}: choose {', '.join(PARTS)}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = parsed(arguments)
    if options.part:
        in_this_process(options)
        return 0
    options.device = options.device or ("cuda" if has_gpu() else "cpu")
    options.small = options.small or options.device == "cpu"
    begin, outcomes = time.monotonic(), list[Outcome]()
    with TemporaryDirectory(prefix="gpu-check-") as folder:
        for name in options.parts:
            left = options.total - (time.monotonic() - begin)
            print(f"\n{Path(name).stem} ({left:.0f} s left)", flush=True)
            if left < 10:
                rows = [{"name": f"part {name}", "result": SKIPPED, "reason": "no time left"}]
                outcomes.append(Outcome(Path(name).stem, SKIPPED, 0.0, rows, []))
            else:
                seconds = PARTS.get(name, 60.0)
                limit = min(options.limit or seconds + GRACE, left)
                outcomes.append(run_part(name, options, Path(folder), min(seconds, left - 5), limit))
            save(outcomes, options, time.monotonic() - begin)
    print(f"\n{'part':14}{'result':11}{'time':>9}")
    for one in outcomes:
        print("\n".join([one.line(), *(f"    {row}" for row in one.bad_rows())]))
    print(f"{options.device}, {time.monotonic() - begin:.0f} s; details: {options.output}")
    return int(any(one.result in BAD for one in outcomes))


if __name__ == "__main__":
    sys.exit(main())
