"""`piwsl learn` on the bundled aspirin, beside a PaiNN trained on as many random frames.

python benchmarks/learn.py --init-from so3lr.pt --budget 100 --seed 0 --output runs/learn-study

runs `piwsl learn` with GFN2-xTB labels, and trains a PaiNN for as many minutes on BUDGET random frames of the bundled
training set. For both it prints the errors on the bundled test frames (from other trajectories), and how many replicas
survive at 500 K. Repeat the command to continue; `-o KEY=VALUE` changes settings of the job, for example
`-o minutes=40 -o verify.picoseconds=10`.
"""

import argparse
import contextlib
from pathlib import Path

import numpy as np

import piwsl
from piwsl.data.systems import named_system
from piwsl.errors import UnphysicalError
from piwsl.learning.directory import SurvivalRecord
from piwsl.learning.dynamics import survival_of
from piwsl.learning.learn import LearnResult
from piwsl.learning.settings import LearnSettings, load_learn_settings
from piwsl.training.directory import LAST

SYSTEM = named_system("aspirin")


def main() -> None:
    """Run both roads and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--init-from", default="auto")
    parser.add_argument("--budget", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("-o", dest="options", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    texts = [f"labels.budget={options.budget}", f"seed={options.seed}", f"teacher.init_from={options.init_from}"]
    settings = load_learn_settings(None, [*texts, *options.options])
    folder = options.output / f"{options.budget}-labels-seed-{options.seed}"
    learned = piwsl.learn(system="aspirin", config=settings, output=folder / "learn", progress=True)
    print_row("teacher", learned.teacher, None)
    print_row("student", learned.student, learned.summary.students[-1].survival)
    print(learned.summary.verdict)
    print_row("random frames", *random_frames(settings, learned, folder / "random"))


def random_frames(settings: LearnSettings, learned: LearnResult, output: Path) -> tuple[Path, SurvivalRecord]:
    """Train a PaiNN on random frames, with the same number of labels and the same time, and run its replicas."""
    count = learned.summary.labels
    frames = piwsl.read_frames(SYSTEM.train)
    chosen = np.random.default_rng(settings.seed).permutation(len(frames))[:count]
    held_back = learned.summary.held_back
    training = {
        "optimizer": {"minutes": settings.minutes, "steps": 1_000_000, "batch_size": 5},
        "data": {"validation": held_back, "train": count - held_back},
        "seed": settings.seed,
    }
    done = (output / "train" / "summary.json").is_file()
    if not done:
        resume = (output / "train" / LAST).is_file()
        piwsl.train(
            None if resume else frames.select(sorted(chosen)),
            config=None if resume else training,
            output=output / "train",
            resume=resume,
            progress=True,
        )
    model, directory = output / "train" / "model.pt", output / "replicas"
    if not (directory / "summary.json").is_file() or not piwsl.MDRun.read(directory).summary.ended:
        with contextlib.suppress(UnphysicalError):
            piwsl.run_md(
                SYSTEM.structure,
                model,
                output=directory,
                restart=any(directory.glob("replica-*/state-*.npz")),
                temperature=settings.temperature,
                steps=settings.steps(settings.verify.picoseconds),
                replicas=settings.verify.replicas,
                trajectory_format="extxyz",
                progress=True,
            )
    return model, survival_of(piwsl.MDRun.read(directory))


def print_row(name: str, model: Path, survival: SurvivalRecord | None) -> None:
    """Print the errors of a model on the test frames, and the survival of its replicas."""
    errors = piwsl.evaluate(model, SYSTEM.test).errors
    assert errors.energy_mae is not None
    assert errors.force_mae is not None
    end = ""
    if survival is not None:
        mean = sum(survival.times) / len(survival.times)
        end = f"  {survival.text()}, {mean:.1f} ps on average; {survival.steps_per_second:.0f} steps/s"
    print(
        f"{name:15s} energy MAE {1e3 * errors.energy_mae:6.1f} meV  force MAE {1e3 * errors.force_mae:6.1f} meV/A{end}"
    )


if __name__ == "__main__":
    main()
