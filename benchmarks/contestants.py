"""The processes that race.py lets take turns: how each is started, asked and installed."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SCHNETPACK = "schnetpack==2.1.1"
# What piwsl.runs.process_settings asks of the GNU C library, for a program that does not ask itself.
KEEP_FREED_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "MALLOC_TOP_PAD_": str(64 * 2**20),
}


class ContestantError(SystemExit):
    """A contestant failed. A script that does not catch this ends with the message.

    Attributes:
        key: name of the contestant.
        reason: what went wrong.
    """

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.key, self.reason = key, reason


class InstallationError(Exception):
    """The environment of another program could not be created."""


@dataclass(frozen=True)
class Contestant:
    """What is timed, and how it is started.

    Attributes:
        name: row of the table.
        labels: of training, ``forces`` (energies and forces are supervised) or ``energies``; else empty.
        command: the program.
        environment: variables added to this process's own.
    """

    name: str
    labels: str
    command: Sequence[str]
    environment: dict[str, str]

    @property
    def key(self) -> str:
        """Name in the results."""
        return f"{self.name}, {self.labels}" if self.labels else self.name


class Runner:
    """A started contestant, ready to run steps."""

    def __init__(self, contestant: Contestant, threads: int) -> None:
        counts = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        self.contestant = contestant
        self.process = subprocess.Popen(
            contestant.command,
            env=os.environ | counts | contestant.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.threads = threads

    def wait(self) -> dict[str, Any]:
        """Wait until it is ready; what it says of itself."""
        facts = self._answer()
        if facts["threads"] > self.threads:
            raise ContestantError(self.contestant.key, f"{facts['threads']} threads, {self.threads} offered")
        return facts

    def run(self, steps: int) -> dict[str, Any]:
        """Run steps; their seconds, CPU seconds, last loss and the peak memory so far."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the missing answer is reported
            self.process.stdin.write(json.dumps({"steps": steps}) + "\n")
            self.process.stdin.flush()
        return self._answer()

    def stop(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it may have ended by itself
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise ContestantError(self.contestant.key, f"ended with status {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ContestantError(self.contestant.key, str(answer["error"]))
        return answer


def piwsl(batch: int) -> list[Contestant]:
    """Ours: plain, PITC and PITC + PISC at k = 1/2 and 0, with and without force labels."""
    variants = {
        "plain": [],
        "PITC k = 1/2": ["loss.pitc=1", "loss.pisc=0", "loss.mixing=0.5"],
        "PITC k = 0": ["loss.pitc=1", "loss.pisc=0", "loss.mixing=0"],
        "PITC+PISC k = 1/2": ["loss.pitc=1", "loss.pisc=0.01", "loss.mixing=0.5"],
        "PITC+PISC k = 0": ["loss.pitc=1", "loss.pisc=0.01", "loss.mixing=0"],
    }
    program = [
        sys.executable,
        str(HERE / "piwsl_step.py"),
        "model.channels=128",
        "model.radial_size=20",
        f"optimizer.batch_size={batch}",
    ]
    return [
        Contestant(f"piwsl {name}", labels, [*program, *overrides, *without], {})
        for labels, without in (("forces", []), ("energies", ["loss.forces=0"]))
        for name, overrides in variants.items()
    ]


def schnetpack(python: Path, frames: Path, batch: int) -> list[Contestant]:
    """SchNetPack, plain: as it is, and with freed memory kept as piwsl keeps it."""
    found = []
    for labels in ("forces", "energies"):
        command = [str(python), str(HERE / "schnetpack_step.py"), str(frames), f"--batch={batch}", f"--labels={labels}"]
        found.append(Contestant("SchNetPack plain", labels, command, {"PYTHONPATH": ""}))
        kept = {"PYTHONPATH": "", **KEEP_FREED_MEMORY}
        found.append(Contestant("SchNetPack plain, memory kept", labels, command, kept))
    return found


def schnetpack_python(cache: Path, torch: str | None) -> Path:
    """Return the interpreter of an environment with SchNetPack, which the first call creates.

    Args:
        cache: folder for the environment.
        torch: version of PyTorch; None: the one that piwsl uses.
    """
    try:
        return peer_python(SCHNETPACK, cache, torch)
    except InstallationError as error:
        sys.exit(str(error))


def peer_python(package: str, cache: Path, torch: str | None = None) -> Path:
    """Return the interpreter of an environment with another program, which the first call creates.

    All environments with the same version of PyTorch share one installation of it. The program itself is installed
    without dependencies: the file ``NAME-requirements.txt`` beside this script lists what it imports.

    Args:
        package: name and version, as in ``schnetpack==2.1.1``.
        cache: folder for the environments.
        torch: version of PyTorch; None: the one that piwsl uses.

    Raises:
        InstallationError: pip fails.
    """
    torch = torch or version("torch").split("+")[0]
    requirements = HERE / f"{package.partition('==')[0]}-requirements.txt"
    shared = _environment(cache / f"torch-{torch}", [[f"torch=={torch}"]])
    installed = [[f"torch=={torch}", "--requirement", str(requirements)], ["--no-deps", package]]
    recipe = requirements.read_text()
    folder = cache / f"{package.replace('==', '-')}-torch-{torch}"
    return _environment(folder, installed, recipe, shared)


def _environment(folder: Path, installed: list[list[str]], recipe: str = "", shared: Path | None = None) -> Path:
    """Return the interpreter of an environment, which also contains the packages of the environment ``shared``."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done = folder / "installed.txt"  # written last: without it the environment is incomplete
    recipe = f"{sys.version}\n{installed}\n{shared}\n{recipe}"
    if done.is_file() and done.read_text() == recipe:
        return python
    print(f"installing {installed[-1][-1]} in {folder}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    _install([sys.executable, "-m", "venv", str(folder)])
    if shared:
        (_packages(python) / "shared.pth").write_text(f"{_packages(shared)}\n")
    for arguments in installed:
        _install([str(python), "-m", "pip", "install", "-qq", *arguments])
    done.write_text(recipe)
    return python


def _packages(python: Path) -> Path:
    """Return the folder of the packages of an environment."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True).stdout.strip())


def _install(command: list[str]) -> None:
    done = subprocess.run(command, check=False, stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
    sys.stderr.write(done.stderr)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.strip()] or [f"status {done.returncode}"]
        reason = next((line for line in errors if line.startswith("ERROR")), errors[-1])
        raise InstallationError(f"{' '.join(command)}: {reason}")
