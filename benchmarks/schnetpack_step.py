"""SchNetPack's side of training_throughput.py; runs in the environment that script makes.

PaiNN as SchNetPack's own configuration for MD17 builds it, its neighbor lists and its batches, made once beforehand.
"""

import argparse
import time
import typing

import numpy as np
import torch
from step_server import serve
from torch.utils.data import dataloader

# SchNetPack 2.1.1 imports this name for an annotation; newer PyTorch no longer has it there.
if not hasattr(dataloader, "T_co"):
    dataloader.T_co = typing.TypeVar("T_co", covariant=True)

import schnetpack as spk
from schnetpack import properties
from schnetpack.data.loader import AtomsLoader
from schnetpack.transform import MatScipyNeighborList

CHANNELS, LAYERS, RADIAL_SIZE, CUTOFF = 128, 3, 20, 5.0


def batches(frames: str, size: int) -> tuple[list[dict[str, torch.Tensor]], float]:
    """All batches, and the CPU seconds that joining one takes with neighbor lists at hand."""
    with np.load(frames) as file:
        species, positions, energies, forces = (file[name] for name in ("species", "positions", "energies", "forces"))
    neighbors = MatScipyNeighborList(cutoff=CUTOFF)
    items = []
    for index in range(len(energies)):
        item = {
            properties.idx: torch.tensor([index]),
            properties.Z: torch.tensor(species),
            properties.R: torch.tensor(positions[index]),
            properties.n_atoms: torch.tensor([len(species)]),
            properties.cell: torch.zeros(1, 3, 3, dtype=torch.float64),
            properties.pbc: torch.zeros(3, dtype=torch.bool),
            # without the mean, as its RemoveOffsets leaves it
            properties.energy: torch.tensor([energies[index] - energies.mean()]),
            properties.forces: torch.tensor(forces[index]),
        }
        item = neighbors(item)
        items.append({k: v.float() if v.dtype == torch.float64 else v for k, v in item.items()})
    start = time.process_time()
    made = list(AtomsLoader(items, batch_size=size))
    return made, (time.process_time() - start) / len(made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("frames")
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--labels", choices=["energies", "forces"], required=True)
    options = parser.parse_args()
    torch.manual_seed(0)
    supervised_forces = options.labels == "forces"

    energy = spk.atomistic.Atomwise(n_in=CHANNELS, output_key=properties.energy)
    model = spk.model.NeuralNetworkPotential(
        representation=spk.representation.PaiNN(
            n_atom_basis=CHANNELS,
            n_interactions=LAYERS,
            radial_basis=spk.nn.GaussianRBF(n_rbf=RADIAL_SIZE, cutoff=CUTOFF),
            cutoff_fn=spk.nn.CosineCutoff(CUTOFF),
        ),
        input_modules=[spk.atomistic.PairwiseDistances()],
        output_modules=[energy, spk.atomistic.Forces()] if supervised_forces else [energy],
    )
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0, amsgrad=True)
    made, collate_seconds = batches(options.frames, options.batch)

    def step(number: int) -> float:
        labels = made[number % len(made)]
        predicted = model(dict(labels))  # the model writes into the dictionary it is given
        loss = (predicted[properties.energy] - labels[properties.energy]).abs().mean()
        if supervised_forces:
            error = predicted[properties.forces] - labels[properties.forces]
            loss = loss + 100.0 * torch.linalg.vector_norm(error, dim=-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    facts = {
        "library": f"SchNetPack {spk.__version__}",
        "parameters": sum(p.numel() for p in model.parameters()),
        "edges": made[0][properties.idx_i].shape[0],
        "collate_ms": 1e3 * collate_seconds,
    }
    serve(step, facts)


if __name__ == "__main__":
    main()
