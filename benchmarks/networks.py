"""Time and memory of every network with its default options: a training step and a step of dynamics.

    python benchmarks/networks.py [--rounds 5] [--networks painn escn ...]

prints a table and a JSON line; about ten minutes on two idle cores. Structures are four aspirins, and the first TiO2
cell of at least 40 atoms in PIWSL_DATA/tio2.extxyz.gz, or 48 atoms of rutile without that file. A training step is on
energies and forces, without consistency terms. A step of dynamics is one call of the file that `piwsl export` writes:
for OpenMM from one aspirin, general from TiO2, both as TorchScript. Each row is a process of its own with one thread.
Times are CPU times, medians over the rounds; the memory is the peak of the resident memory of the process.
"""

import argparse
import gzip
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from io import StringIO
from itertools import islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from ase import Atoms
from ase.io import read
from ase.spacegroup import crystal

from piwsl.data.batch import collate
from piwsl.data.frames import Frame
from piwsl.data.read import read_frames
from piwsl.data.systems import named_system
from piwsl.export.evaluation import bind
from piwsl.export.exported_file import load_exported
from piwsl.export.exporter import Exporter
from piwsl.export.trained_file import TrainedModel, save_trained
from piwsl.models import ModelConfig, build_potential, registered_networks
from piwsl.models.training_loops import training_neighbor_sums, use_in_training

SYSTEMS = ("aspirin", "TiO2")
SEED = 0


def frames_of(system: str) -> list[Frame]:
    """Return the structures of a training step."""
    if system == "aspirin":
        return list(read_frames(named_system("aspirin").train))[:4]
    file = Path(os.environ.get("PIWSL_DATA", "nowhere")) / "tio2.extxyz.gz"
    if file.is_file():
        atoms = first_large(file, 40)
    else:
        places, lengths = [(0, 0, 0), (0.305, 0.305, 0)], [4.594, 4.594, 2.959, 90, 90, 90]
        atoms = crystal(["Ti", "O"], places, spacegroup=136, cellpar=lengths)
        atoms = atoms.repeat((2, 2, 2))
        atoms.rattle(0.05, seed=SEED)
    return [Frame.from_atoms(atoms, 0.0, np.zeros((len(atoms), 3)))]


def first_large(file: Path, smallest: int) -> Atoms:
    """Return the first structure with enough atoms; ASE would unpack the file once for each frame."""
    with gzip.open(file, "rt") as lines:
        for header in lines:
            block = [header, *islice(lines, int(header) + 1)]
            if int(header) >= smallest:
                atoms = read(StringIO("".join(block)), format="extxyz")
                assert isinstance(atoms, Atoms)
                return atoms
    raise SystemExit(f"{file} has no structure of at least {smallest} atoms")


def milliseconds(function: Callable[[], object], rounds: int) -> float:
    """Return the median CPU time of a call, after two calls to warm up."""
    times = []
    for _ in range(rounds + 2):
        start = time.process_time()
        function()
        times.append(1e3 * (time.process_time() - start))
    return median(times[2:])


def measure(network: str, system: str, rounds: int) -> dict[str, object]:
    """Return the figures of one row."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    config = ModelConfig(network=network)
    frames = frames_of(system)
    energies = {int(number): 0.0 for frame in frames for number in frame.species}
    potential = build_potential(config, energies)
    use_in_training(potential, training_neighbor_sums(torch.device("cpu"))[0])
    batch = collate(frames, config.cutoff)
    optimizer = torch.optim.AdamW(potential.parameters(), 1e-4)

    def train() -> None:
        predicted, forces = potential(*batch.graph, create_graph=True)
        loss = (predicted - batch.energy).abs().mean() + (forces - batch.forces).norm(dim=-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    row: dict[str, object] = {"network": network, "system": system, "atoms": len(batch.species)}
    row |= {"edges": batch.edges.shape[1], "weights": sum(weight.numel() for weight in potential.parameters())}
    row["training_ms"] = milliseconds(train, rounds)
    with TemporaryDirectory() as folder:
        model, file = Path(folder) / "model.pt", Path(folder) / "exported.pt"
        weights = build_potential(config, energies).network.state_dict()
        save_trained(TrainedModel(config, energies, 1.0, "float32", weights, frames[:1]), model)
        exporter = Exporter([model])
        if system == "aspirin":
            exporter.openmm(frames[0], file)
        else:
            exporter.general(file)
        call = bind(load_exported(file), frames[0].species, frames[0].pbc)
        cell = frames[0].cell if any(frames[0].pbc) else None
        row["dynamics_ms"] = milliseconds(lambda: call(frames[0].positions, cell), rounds)
    row["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="measured steps (5)")
    parser.add_argument("--networks", nargs="+", default=registered_networks(), help="networks (all)")
    parser.add_argument("--row", nargs=2, metavar=("NETWORK", "SYSTEM"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(json.dumps(measure(*options.row, options.rounds)))
        return
    print(f"{'network':15}{'weights':>9}  {'structures':10}{'atoms':>6}{'edges':>7}", end="")
    print(f"{'training, ms':>14}{'dynamics, ms':>14}{'peak, MB':>10}")
    rows = []
    for network in options.networks:
        for system in SYSTEMS:
            arguments = [sys.executable, __file__, "--rounds", str(options.rounds), "--row", network, system]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{network:15}{system:10} failed: {done.stderr.strip().splitlines()[-1]}", flush=True)
                continue
            row = json.loads(done.stdout.splitlines()[-1])
            rows.append(row)
            print(f"{network:15}{row['weights']:9d}  {system:10}{row['atoms']:6d}{row['edges']:7d}", end="")
            print(f"{row['training_ms']:14.0f}{row['dynamics_ms']:14.1f}{row['peak_mb']:10.0f}", flush=True)
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
