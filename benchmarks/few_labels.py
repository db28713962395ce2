"""Stability from few labels: how each road from the same few frames ends in molecular dynamics.

python benchmarks/few_labels.py rmd17_aspirin.npz --units kcal/mol --start so3lr.pt --output runs/few-labels

trains on the same FRAMES frames along several roads:

plain           a PaiNN from random weights
walls           the same with model.walls: molecule
contrast        the same as plain with loss.contrast
ace             an ACE from random weights with walls, as a teacher of piwsl learn
fine-tuned      the foundation model START, fine-tuned
replay          the same with start.replay
distilled       a PaiNN with walls that learns from structures which the fine-tuned model sampled and labeled
ace-distilled   the same with the ACE as teacher

For each road the script prints the errors on the test frames and how many of REPLICAS replicas survive PICOSECONDS at
500 K (Langevin), and how many survive without a thermostat from 300 K. Runs that are complete are not repeated; an
interrupted run continues. `--roads` and `--seed` select what is computed. Each road has the same time for training its
last model; sampling and labeling are printed in addition.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase.io import read

import piwsl
from piwsl.data.read import read_frames
from piwsl.learning.settings import LearnSettings
from piwsl.learning.teacher import teacher_training
from piwsl.runs.summary import SUMMARY_FILE, MDSummary

ROADS = ("plain", "walls", "contrast", "ace", "fine-tuned", "replay", "distilled", "ace-distilled")
TEACHERS = {"distilled": "fine-tuned", "ace-distilled": "ace"}
FINE_TUNING = {
    "optimizer.batch_size": 5,
    "optimizer.learning_rate": 5e-4,
    "optimizer.validation_interval": 100,
    "optimizer.ema_decay": 0.99,
}
NO_LOSS = {"loss.pitc": 0.0, "loss.pisc": 0.0}
SAMPLING = {500: 40_000, 700: 40_000, 1000: 20_000}  # steps of the teacher by temperature
INTERVAL = 40


class Study:
    """Runs of one seed, each made unless it is there."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.output = options.output / f"seed-{options.seed}"
        self.output.mkdir(parents=True, exist_ok=True)
        self.seconds: dict[str, float] = {}

    def timed(self, name: str, make: Callable[[], Any]) -> Any:
        """Call a function, and remember how long it took."""
        began = time.perf_counter()
        result = make()
        self.seconds[name] = time.perf_counter() - began
        return result

    def frames(self) -> piwsl.FrameSet:
        """Return all labeled frames."""
        return read_frames(self.options.data, self.options.units)

    def split(self) -> tuple[piwsl.FrameSet, piwsl.FrameSet]:
        """Return the few frames of this seed and the test frames, which are the same for all seeds."""
        frames = self.frames()
        test = np.sort(np.random.default_rng(0).permutation(len(frames))[: self.options.test])
        rest = np.setdiff1d(np.arange(len(frames)), test)
        few = np.sort(np.random.default_rng(1 + self.options.seed).choice(rest, self.options.frames, replace=False))
        return tuple(piwsl.FrameSet([frames[int(i)] for i in chosen]) for chosen in (few, test))

    def train(self, name: str, data: piwsl.FrameSet, values: dict[str, Any], start: Path | None = None) -> Path:
        """Return the trained file of a run."""
        directory = self.output / name
        if not (directory / SUMMARY_FILE).exists():
            settings = {
                "data.validation": max(10, len(data) // 30),
                "optimizer.steps": 1_000_000,
                "optimizer.minutes": self.options.minutes,
                "threads": self.options.threads,
                "seed": self.options.seed,
                **NO_LOSS,
                **values,
            }
            piwsl.train(
                data,
                output=directory,
                options=settings,
                init_from=start,
                resume=(directory / "checkpoints" / "last.ckpt").exists(),
                force=not (directory / "checkpoints" / "last.ckpt").exists(),
                progress=False,
            )
        return directory / "model.pt"

    def model(self, road: str) -> Path:
        """Return the trained file at the end of a road."""
        few, _ = self.split()
        if road == "plain":
            return self.train("plain", few, {"model.walls": "none"})
        if road == "walls":
            return self.train("walls", few, {"model.walls": "molecule"})
        if road == "contrast":
            values = {"loss.contrast": 0.1, "contrast.temperature": 500.0, "model.walls": "none"}
            return self.train("contrast", few, values)
        if road == "ace":
            teachers = teacher_training(LearnSettings(), None, periodic=False)
            values = {f"{section}.{key}": value for section, given in teachers.items() for key, value in given.items()}
            return self.train("ace", few, values)
        if road in ("fine-tuned", "replay"):
            replay = {"start.replay": len(few)} if road == "replay" else {}
            return self.train(road, few, FINE_TUNING | replay, self.options.start)
        values = {"optimizer.validation_interval": 500, "model.walls": "molecule"}
        return self.train(road, self.taught(TEACHERS[road]), values)

    def taught(self, name: str) -> piwsl.FrameSet:
        """Return structures that the model of another road sampled, with its labels."""
        teacher = self.model(name)
        compiled = teacher.with_name("teacher.pt2")
        if not compiled.exists():
            piwsl.export_model(teacher, compiled, format="aotinductor")
        start = self.split()[0][0].atoms()
        structures = []
        for temperature, steps in SAMPLING.items():
            directory = self.output / f"{name}-sampled-{temperature}"
            if not (directory / SUMMARY_FILE).exists() or MDSummary.read(directory).result == "interrupted":
                self.timed(
                    directory.name,
                    lambda directory=directory, steps=steps, temperature=temperature: self._dynamics(
                        compiled, directory, start, engine="ase", steps=steps, temperature=float(temperature)
                    ),
                )
            structures += read(directory / "trajectory.extxyz", "5:")
        return self.timed(
            f"{name}-labels",
            lambda: piwsl.label(structures, f"model:{compiled}", output=self.output / f"{name}-labels", progress=False),
        )

    def _dynamics(self, model: Path, directory: Path, start: Any, **settings: Any) -> None:
        try:
            piwsl.run_md(
                start,
                model,
                output=directory,
                restart=(directory / SUMMARY_FILE).exists(),
                trajectory_interval=INTERVAL,
                trajectory_format="extxyz",
                seed=self.options.seed,
                progress=False,
                **settings,
            )
        except piwsl.UnphysicalError as error:
            print(f"{directory.name}: {error}", flush=True)

    def survival(self, road: str, model: Path, ensemble: str, temperature: float) -> dict[str, Any]:
        """Return how many replicas survive, and their mean stable time in ps."""
        directory = self.output / f"{road}-{ensemble}"
        slow = road in ("ace", "fine-tuned", "replay")
        count = self.options.slow_replicas if slow else self.options.replicas
        steps = round(2000 * self.options.picoseconds)
        if not (directory / SUMMARY_FILE).exists() or MDSummary.read(directory).result == "interrupted":
            try:
                piwsl.run_md(
                    self.split()[0][0].atoms(),
                    model,
                    output=directory,
                    restart=(directory / SUMMARY_FILE).exists(),
                    replicas=count,
                    steps=steps,
                    ensemble=ensemble,
                    temperature=temperature,
                    equilibration=2000 if ensemble == "nve" else 0,
                    trajectory_interval=1000,
                    seed=1000 + self.options.seed,
                    progress=False,
                )
            except piwsl.UnphysicalError as error:
                print(f"{directory.name}: {error}", flush=True)
        summary = MDSummary.read(directory)
        done = [record.steps_done for record in summary.replicas]
        return {
            "replicas": len(done),
            "survived": sum(record.result == "completed" for record in summary.replicas),
            "stable_ps": float(np.mean(done)) / 2000,
            "steps_per_second": summary.speed.steps_per_second,
        }

    def row(self, road: str) -> dict[str, Any]:
        """Return the figures of a road."""
        model = self.timed(road, lambda: self.model(road))
        errors = piwsl.evaluate(model, self.split()[1], progress=False).errors
        assert errors.energy_mae is not None
        assert errors.force_mae is not None
        row: dict[str, Any] = {
            "road": road,
            "seed": self.options.seed,
            "energy_mae_mev": 1e3 * errors.energy_mae,
            "force_mae_mev_per_angstrom": 1e3 * errors.force_mae,
        }
        if self.options.picoseconds:
            row["nvt"] = self.survival(road, model, "nvt-langevin", 500.0)
            row["nve"] = self.survival(road, model, "nve", 300.0)
        return {**row, "seconds": {name: round(value) for name, value in self.seconds.items()}}


def main() -> None:
    """Print a table and JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--units")
    parser.add_argument("--start", type=Path, required=True, help="trained file of the foundation model")
    parser.add_argument("--output", type=Path, default=Path("runs/few-labels"))
    parser.add_argument("--roads", nargs="+", choices=ROADS, default=list(ROADS))
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--replicas", type=int, default=32)
    parser.add_argument("--slow-replicas", type=int, default=2, help="replicas of a teacher")
    parser.add_argument("--picoseconds", type=float, default=50.0, help="length of the dynamics; 0: only the errors")
    options = parser.parse_args()
    study = Study(options)
    print(f"{'road':12} {'E MAE meV':>10} {'F MAE meV/A':>12} {'500 K':>18} {'NVE from 300 K':>18} {'steps/s':>8}")
    rows = [study.row(road) for road in options.roads]
    for row in rows:
        runs = [row.get(name) for name in ("nvt", "nve")]
        texts = [f"{run['survived']} of {run['replicas']}, {run['stable_ps']:.1f} ps" if run else "-" for run in runs]
        speed = f"{runs[0]['steps_per_second']:.0f}" if runs[0] else "-"
        print(
            f"{row['road']:12} {row['energy_mae_mev']:10.1f} {row['force_mae_mev_per_angstrom']:12.1f} "
            f"{texts[0]:>18} {texts[1]:>18} {speed:>8}"
        )
    for row in rows:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
