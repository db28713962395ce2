"""Side of another program in peers.py: a step of dynamics or of training, in the environment of that program.

python benchmarks/peers_step.py md|train PEER SIZES FILE [--form FORM] [--folder FOLDER] [--batch 5]

SIZES is a JSON object with the arguments of the class in peers_models.py. FILE contains the molecule (md) or the frames
(train) that peers.py writes. If the program fails, the first answer contains the reason.
"""

import argparse
import contextlib
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import ase
import numpy as np
import torch
from ase import units
from ase.io import read
from ase.md.langevin import Langevin
from peers_models import PEERS, Peer
from step_server import serve

WARM_UP = 3  # steps before the first answer; they also compile


def dynamics_step(peer: Peer, file: Path, folder: Path) -> Callable[[int], float]:
    """Return a step of Langevin dynamics in ASE, as in piwsl_md_step.py."""
    atoms = read(file)
    assert isinstance(atoms, ase.Atoms)
    atoms.calc = peer.calculator(atoms, folder)
    dynamics = Langevin(atoms, 0.1 * units.fs, temperature_K=10, friction=0.005 / units.fs, fixcm=False)

    def step(number: int) -> float:
        dynamics.run(1)
        return float(atoms.calc.results["forces"].sum())

    return step


def training_step(peer: Peer, file: Path, size: int) -> Callable[[int], float]:
    """Return a training step with the loss and the optimizer of schnetpack_step.py; batches are built beforehand."""
    with np.load(file) as arrays:
        species, positions, energies, forces = (arrays[key] for key in ("species", "positions", "energies", "forces"))
    frames = [ase.Atoms(species, one) for one in positions]
    energies = torch.tensor(energies - energies.mean(), dtype=torch.float32)
    forces = torch.tensor(forces, dtype=torch.float32)
    starts = range(0, len(frames) - size + 1, size)
    batches = [peer.batch(frames[start : start + size]) for start in starts]
    peer.model.train()
    weights = [weight for weight in peer.model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-3, weight_decay=0.0, amsgrad=True)

    def step(number: int) -> float:
        index = number % len(batches)
        labeled = slice(starts[index], starts[index] + size)
        batch = batches[index]
        energy, force = peer.predict(batch.copy() if isinstance(batch, dict) else batch)
        error = force - forces[labeled].reshape(-1, 3)
        loss = (energy - energies[labeled]).abs().mean() + 100.0 * torch.linalg.vector_norm(error, dim=-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["md", "train"])
    parser.add_argument("peer", choices=list(PEERS))
    parser.add_argument("sizes", type=json.loads)
    parser.add_argument("file", type=Path)
    parser.add_argument("--form", default="plain")
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--batch", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable()
    os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = (
        "1"  # e3nn 0.4 and mace-torch read their files as older PyTorch did
    )
    torch.manual_seed(0)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # only answers go to the output
            peer = PEERS[options.peer](options.form, **options.sizes)
            parameters = sum(weight.numel() for weight in peer.model.parameters() if weight.requires_grad)
            if options.what == "md":
                step = dynamics_step(peer, options.file, options.folder)
            else:
                step = training_step(peer, options.file, options.batch)
            for number in range(WARM_UP):
                step(number)
            torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        print(json.dumps({"error": f"{type(error).__name__}: {lines[0]}"}), flush=True)
        raise
    serve(step, {"library": options.peer, "parameters": parameters})


if __name__ == "__main__":
    main()
