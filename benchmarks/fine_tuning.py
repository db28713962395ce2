"""Fine-tuning on a few energies without forces: plain beside the label-free losses, with seeds.

python benchmarks/fine_tuning.py model.pt aspirin_ccsd.npz --units kcal/mol --output runs/fine-tuning

starts from a model trained on another level of theory, trains with the energies of 200 frames, and prints the errors on
all frames that are left, whose forces no run has seen. Each seed has frames of its own; all variants of a seed have
the same. A run that is there is not repeated, so more seeds or variants can be added later.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from statistics import mean, stdev

from piwsl.export.trained_file import DTYPES
from piwsl.training.config import TrainingConfig, load_config
from piwsl.training.data import training_frames
from piwsl.training.directory import SUMMARY_FILE
from piwsl.training.evaluate import evaluate_potential
from piwsl.training.run import run_training
from piwsl.training.start import starting_potential, with_network_of_start

VARIANTS = {
    "plain": ["loss.pitc=0", "loss.pisc=0"],
    "Gauss-Newton": ["start.method=gauss_newton"],
    "defaults": ["loss.pitc=1", "loss.pisc=0.01"],
    "PITC 1": ["loss.pitc=1", "loss.pisc=0"],
    "PITC 10": ["loss.pitc=10", "loss.pisc=0"],
    "PITC 100": ["loss.pitc=100", "loss.pisc=0"],
    "PITC 1000": ["loss.pitc=1000", "loss.pisc=0"],
    "PITC 0.1, k=0, 0.01 A": ["loss.pitc=0.1", "loss.pisc=0", "loss.mixing=0", "displacement.length=0.01"],
    "PITC 1, k=0, 0.01 A": ["loss.pitc=1", "loss.pisc=0", "loss.mixing=0", "displacement.length=0.01"],
    "PITC 10, k=0, 0.01 A": ["loss.pitc=10", "loss.pisc=0", "loss.mixing=0", "displacement.length=0.01"],
    "PITC 100, PISC 1": ["loss.pitc=100", "loss.pisc=1"],
    "PITC 100, PISC 100": ["loss.pitc=100", "loss.pisc=100"],
}


def errors_of_run(options: argparse.Namespace, variant: str, seed: int) -> dict[str, float]:
    """Test errors of one run (meV and meV/angstrom), made unless it is there."""
    name = variant.replace(" ", "").replace(",", "-").replace("=", "")
    output = options.output / f"{name}-{seed}"
    if not (output / SUMMARY_FILE).exists():
        run_training(configuration(options, VARIANTS[variant], seed), output, force=True)
    test = json.loads((output / SUMMARY_FILE).read_text())["test"]
    return {"energy": 1e3 * test["energy_mae"], "forces": 1e3 * test["force_mae"]}


def configuration(options: argparse.Namespace, overrides: Iterable[str], seed: int) -> TrainingConfig:
    """Return the configuration of a run."""
    return load_config(
        None,
        [
            f"data.file={options.data}",
            f"data.units={options.units}" if options.units else "data.units=null",
            f"data.train={options.frames}",
            f"data.validation={options.validation}",
            f"data.test={options.test}",
            "data.forces_fraction=0",
            f"start.init_from={options.model}",
            f"optimizer.steps={options.steps}",
            f"optimizer.learning_rate={options.learning_rate}",
            "optimizer.validation_interval=100",
            "optimizer.ema_decay=0.99",
            f"seed={seed}",
            f"threads={options.threads}",
            *overrides,
            *options.set,
        ],
    )


def before(options: argparse.Namespace, seed: int) -> dict[str, float]:
    """Errors of the potential that the runs of a seed begin with: the old weights, with new reference energies."""
    config = with_network_of_start(configuration(options, VARIANTS["plain"], seed))
    frames = training_frames(config)
    potential = starting_potential(config, frames).potential
    found = evaluate_potential(potential, frames.test, config.model.cutoff, DTYPES[config.weights_dtype])
    assert found.energy_mae is not None
    assert found.force_mae is not None
    return {"energy": 1e3 * found.energy_mae, "forces": 1e3 * found.force_mae}


def show(name: str, runs: list[dict[str, float]], plain: list[dict[str, float]]) -> None:
    """Format a row: mean and standard deviation over the seeds, and the ratio to plain training for each seed."""
    cells = []
    for what in ("energy", "forces"):
        values = [run[what] for run in runs]
        spread = f" +- {stdev(values):5.1f}" if len(values) > 1 else ""
        cells.append(f"{mean(values):8.1f}{spread}")
    ratios = " ".join(f"{run['forces'] / other['forces']:.2f}" for run, other in zip(runs, plain, strict=True))
    print(f"{name:24}{'   '.join(cells)}   {ratios}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="trained file to start from")
    parser.add_argument("data", type=Path, help="labeled frames")
    parser.add_argument("--units", help="of the data, if they state none")
    parser.add_argument("--output", type=Path, default=Path("runs/fine-tuning"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--frames", type=int, default=200, help="training frames (200)")
    parser.add_argument("--validation", type=int, default=50, help="validation frames (50)")
    parser.add_argument("--test", type=int, default=450, help="test frames (450)")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="more overrides for all")
    options = parser.parse_args()
    options.model, options.data = options.model.resolve(), options.data.resolve()

    print(f"{'':24}energy MAE [meV]     force MAE [meV/A]    forces / plain, by seed")
    plain = [errors_of_run(options, "plain", seed) for seed in options.seeds]
    show("before fine-tuning", [before(options, seed) for seed in options.seeds], plain)
    for variant in options.variants:
        show(variant, [errors_of_run(options, variant, seed) for seed in options.seeds], plain)


if __name__ == "__main__":
    main()
