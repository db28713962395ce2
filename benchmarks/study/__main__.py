"""Studies of what the losses do: run an experiment, print its table, draw its figure.

python -m benchmarks.study run few-forces
python -m benchmarks.study table few-forces
python -m benchmarks.study plot few-forces

An experiment is a file in benchmarks/study/experiments, or any YAML file. Each run is stored under the hash of its
configuration and data in runs/study/NAME; a run that is there is not repeated, and an interrupted run continues. The
data lie in the folder that the environment variable PIWSL_DATA names. `--jobs` sets the number of processes, each of
which has one thread. `--small` makes short runs only, to test the experiment.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from benchmarks.study.experiment import Run, load_experiment, runs_of
from benchmarks.study.report import plot, table
from benchmarks.study.runner import Study, run_all
from piwsl.errors import PiwslError


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "table", "plot", "one"), help="one: a single run, used by `run`")
    parser.add_argument("experiment")
    parser.add_argument("--output", type=Path, default=Path("runs/study"))
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("PIWSL_DATA", ".")), help="folder of the data")
    parser.add_argument("--seeds", type=int, nargs="+", help="the default is those of the experiment")
    parser.add_argument("--variants", nargs="+", default=[], help="the default is all")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        experiment = load_experiment(options.experiment)
        unknown = [name for name in options.variants if name not in experiment.variants]
        if unknown:
            raise PiwslError(f"--variants {unknown[0]}: choose from {', '.join(experiment.variants)}")
        study = Study(Path(options.experiment).stem, experiment, options.output, options.data, options.small)
        runs = list(runs_of(experiment, options.seeds, options.variants, options.small))
        if options.command == "one":
            study.perform(Run(**json.loads(options.run)))
            return 0
        if options.command == "run":
            again = [options.experiment, "--output", str(options.output), "--data", str(options.data)]
            failed = run_all(study, runs, [*again, *(["--small"] if options.small else [])], options.jobs)
            print(table(experiment, study.results(runs)))
            return 1 if failed else 0
        results = study.results(runs)
        if options.command == "table":
            print(table(experiment, results))
        else:
            path = study.output / "figure.png"
            plot(experiment, results, path)
            print(f"written: {path}")
    except PiwslError as error:
        print(f"study: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
