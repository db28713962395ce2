"""Runs of an experiment: each in a process of its own, stored under the hash of what determines its result."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

import piwsl
from benchmarks.study.experiment import Experiment, Run, digest
from piwsl.data.read import read_frames
from piwsl.data.write import write_frames
from piwsl.errors import DataError
from piwsl.runs.files import sha256, write_text
from piwsl.runs.summary import SUMMARY_FILE, MDSummary
from piwsl.training.config import TrainingConfig
from piwsl.training.directory import TrainingSummary
from piwsl.training.task import DivergedError

RESULT = "result.json"
TIMED_STEPS, ROUNDS = 60, 3  # of the measurement of costs


class Study:
    """Runs of one experiment in a folder.

    Args:
        name: Name of the experiment.
        experiment: Experiment.
        output: Folder of all studies.
        source: Folder of the data.
        small: Make short runs only.
    """

    def __init__(self, name: str, experiment: Experiment, output: Path, source: Path, small: bool = False) -> None:
        self.name, self.experiment, self.source, self.small = name, experiment, source, small
        self.output = output / (f"{name}-small" if small else name)
        self._costs: dict[str, float] | None = None

    @property
    def file(self) -> Path:
        """File of the data.

        Raises:
            DataError: The file is missing.
        """
        path = self.source / self.experiment.data.file
        if not path.is_file():
            raise DataError(f"{path}: missing; {self.experiment.data.get}, and set PIWSL_DATA to its folder")
        return path

    def parts(self) -> tuple[Path, Path]:
        """Return the files of the frames for training, and of the test frames, which depend on no seed."""
        folder = self.output.parent / "data"
        count = self.experiment.data.test if not self.small else min(20, self.experiment.data.test)
        stem = f"{Path(self.experiment.data.file).name.split('.')[0]}-{count}"
        pool, test = folder / f"{stem}-pool.extxyz", folder / f"{stem}-test.extxyz"
        if not (pool.is_file() and test.is_file()):
            folder.mkdir(parents=True, exist_ok=True)
            frames = read_frames(self.file, self.experiment.data.units)
            order = np.random.default_rng(0).permutation(len(frames))
            for path, chosen in ((pool, order[count:]), (test, order[:count])):
                part = piwsl.FrameSet([frames[int(index)] for index in np.sort(chosen)])
                write_frames(part, path, force=True)
        return pool, test

    def config(self, run: Run, steps: int | None = None) -> TrainingConfig:
        """Return the configuration of a run, with equal steps or the steps of equal time."""
        start = self.experiment.data.start
        more: dict[str, Any] = {
            "seed": run.seed,
            "threads": 1,
            "data": {"file": str(self.parts()[0]), "test": 0},
            **({"start": {"init_from": str(self.source / start)}} if start else {}),
        }
        config = self.experiment.config(run.case, run.variant, run.small, **more)
        steps = steps or max(1, round(config.optimizer.steps * self.relative_steps(run)))
        return config.model_copy(update={"optimizer": config.optimizer.model_copy(update={"steps": steps})})

    def relative_steps(self, run: Run) -> float:
        """Return the steps of a variant that take as long as one step of the baseline."""
        if self.experiment.equal == "steps" or run.variant == self.experiment.baseline:
            return 1.0
        costs = self.costs(run.case)
        return costs[self.experiment.baseline] / costs[run.variant]

    def costs(self, case: str) -> dict[str, float]:
        """Return the processor time of a step of each variant, s, measured in turns and stored."""
        path = self.output / "costs.json"
        if self._costs is None:
            self._costs = json.loads(path.read_text()) if path.is_file() else {}
        names = {variant: f"{case}/{variant}" for variant in self.experiment.variants}
        missing = [variant for variant, name in names.items() if name not in self._costs]
        if missing:
            print(f"{self.name}: measuring the cost of a step: {case or 'all variants'}", flush=True)
            measured: dict[str, list[float]] = {variant: [] for variant in names}
            for _ in range(1 if self.small else ROUNDS):
                for variant in names:
                    measured[variant].append(self._cost_of(Run(case, variant, 0, self.small)))
            self._costs |= {names[variant]: median(values) for variant, values in measured.items()}
            write_text(path, json.dumps(self._costs, indent=1))
        return {variant: self._costs[name] for variant, name in names.items()}

    def _cost_of(self, run: Run) -> float:
        """Return the median processor time of a step, s."""
        config = self.config(run, 2 if self.small else TIMED_STEPS)
        times: list[float] = []
        _train(config, self.output / "costs" / f"{os.getpid()}", progress=lambda _: times.append(time.process_time()))
        return median(np.diff(times[len(times) // 3 :]).tolist() or [1.0])

    def directory(self, run: Run) -> Path:
        """Return the directory of a run, named by the hash of its configuration and data."""
        config = self.config(run).model_dump(mode="json")
        config["data"]["file"] = sha256(self.parts()[0])
        dynamics = None if self.experiment.dynamics is None else self.experiment.dynamics.model_dump()
        return self.output / "runs" / digest(config, sha256(self.parts()[1]), dynamics)

    def is_done(self, run: Run) -> bool:
        """Return whether a run has a result of this version."""
        path = self.directory(run) / RESULT
        if not path.is_file():
            return False
        version = json.loads(path.read_text())["piwsl"]
        if version != piwsl.__version__:
            print(f"{run.label}: made by piwsl {version}: computed again", flush=True)
        return bool(version == piwsl.__version__)

    def perform(self, run: Run) -> dict[str, Any]:
        """Train, measure and store the result of a run in this process; an interrupted training continues."""
        config, directory = self.config(run), self.directory(run)
        directory.mkdir(parents=True, exist_ok=True)
        began, used = time.perf_counter(), time.process_time()
        result: dict[str, Any] = {"experiment": self.name, **asdict(run), "steps": config.optimizer.steps}
        try:
            _train(config, directory / "train", resume=(directory / "train" / "checkpoints" / "last.ckpt").exists())
        except DivergedError as error:
            result |= {"outcome": "diverged", "reason": str(error)}
        else:
            result |= {"outcome": "completed", **self._measured(directory / "train", directory)}
        result |= {
            "seconds": round(time.perf_counter() - began, 1),
            "cpu_seconds": round(time.process_time() - used, 1),
            "piwsl": piwsl.__version__,
            "torch": torch.__version__,
        }
        write_text(directory / RESULT, json.dumps(result, indent=1))
        return result

    def _measured(self, trained: Path, directory: Path) -> dict[str, Any]:
        errors = piwsl.evaluate(trained / "model.pt", self.parts()[1], progress=False).errors
        summary = TrainingSummary.read(trained)
        row: dict[str, Any] = {
            "energy_mae_mev": _in_mev(errors.energy_mae),
            "force_mae_mev_per_angstrom": _in_mev(errors.force_mae),
            "warnings": summary.warnings,
        }
        dynamics = self.experiment.dynamics
        if dynamics is not None:
            row["survival"] = self._survival(trained / "model.pt", directory / "md")
        return row

    def _survival(self, model: Path, directory: Path) -> dict[str, Any]:
        dynamics = self.experiment.dynamics
        assert dynamics is not None
        replicas, length = (2, 0.1) if self.small else (dynamics.replicas, dynamics.picoseconds)
        with suppress(piwsl.UnphysicalError):
            piwsl.run_md(
                read_frames(self.parts()[1])[0].atoms(),
                model,
                output=directory,
                replicas=replicas,
                steps=round(2000 * length),
                ensemble=dynamics.ensemble,
                temperature=dynamics.temperature,
                seed=1,
                progress=False,
                force=True,
            )
        records = MDSummary.read(directory).replicas
        return {
            "replicas": len(records),
            "survived": sum(record.result == "completed" for record in records),
            "stable_ps": float(np.mean([record.steps_done for record in records])) / 2000,
        }

    def results(self, runs: Sequence[Run]) -> list[dict[str, Any]]:
        """Return the stored results of runs, and write them to one JSON lines file."""
        paths = [self.directory(run) / RESULT for run in runs]
        found = [json.loads(path.read_text()) for path in paths if path.is_file()]
        write_text(self.output / "results.jsonl", "".join(json.dumps(result) + "\n" for result in found))
        return found


def run_all(study: Study, runs: Sequence[Run], arguments: list[str], jobs: int) -> int:
    """Make the runs that are missing, each in a process of its own, and return how many failed.

    Args:
        study: Study.
        runs: Runs.
        arguments: Arguments of the command line that lead a process to the same study.
        jobs: Number of processes.
    """
    missing = [run for run in runs if not study.is_done(run)]
    print(f"{study.name}: {len(runs)} runs, {len(runs) - len(missing)} of them stored", flush=True)
    failed = 0
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {pool.submit(_in_process, run, arguments): run for run in missing}
        for count, future in enumerate(as_completed(waiting), 1):
            run, error = waiting[future], future.result()
            failed += bool(error)
            if error:
                print(f"{count} of {len(missing)}: {run.label}: failed: {error}", flush=True)
                continue
            result = json.loads((study.directory(run) / RESULT).read_text())
            print(f"{count} of {len(missing)}: {run.label}: {described(result)}", flush=True)
    return failed


def described(result: dict[str, Any]) -> str:
    """Return one line about a result."""
    if result["outcome"] == "diverged":
        return f"diverged: {result['reason']}"
    parts = [f"{result['steps']} steps, {result['cpu_seconds']:.0f} s"]
    for key, unit in (("energy_mae_mev", "meV"), ("force_mae_mev_per_angstrom", "meV/A")):
        parts += [f"{result[key]:.1f} {unit}"] if result[key] is not None else []
    if "survival" in result:
        parts.append("{survived} of {replicas} whole, {stable_ps:.1f} ps".format(**result["survival"]))
    return ", ".join(parts)


def _in_process(run: Run, arguments: list[str]) -> str:
    """Make a run in a process of its own, and return the last line of its error, or an empty text."""
    command = [sys.executable, "-m", "benchmarks.study", "one", *arguments, "--run", json.dumps(asdict(run))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return lines[-1] if done.returncode else ""


def _train(config: TrainingConfig, directory: Path, resume: bool = False, progress: Any = False) -> None:
    if not (directory / SUMMARY_FILE).exists() or not resume:
        piwsl.train(config=config, output=directory, resume=resume, force=not resume, progress=progress)


def _in_mev(value: float | None) -> float | None:
    return None if value is None else 1e3 * value
