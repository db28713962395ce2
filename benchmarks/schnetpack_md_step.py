"""SchNetPack's side of md_step.py: a step of Langevin dynamics in ASE; runs in the environment that script makes."""

import functools
import sys
import typing
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from ase import units
from ase.io import read
from ase.md.langevin import Langevin
from step_server import serve
from torch.utils.data import dataloader

# SchNetPack 2.1.1 imports this name for an annotation; newer PyTorch no longer has it there.
if not hasattr(dataloader, "T_co"):
    dataloader.T_co = typing.TypeVar("T_co", covariant=True)

import schnetpack as spk
from schnetpack import properties
from schnetpack.interfaces import SpkCalculator
from schnetpack.transform import MatScipyNeighborList

CHANNELS, LAYERS, RADIAL_SIZE, CUTOFF = 128, 3, 20, 5.0


def main() -> None:
    atoms = read(sys.argv[1])
    torch.manual_seed(0)
    model = spk.model.NeuralNetworkPotential(
        representation=spk.representation.PaiNN(
            n_atom_basis=CHANNELS,
            n_interactions=LAYERS,
            radial_basis=spk.nn.GaussianRBF(n_rbf=RADIAL_SIZE, cutoff=CUTOFF),
            cutoff_fn=spk.nn.CosineCutoff(CUTOFF),
        ),
        input_modules=[spk.atomistic.PairwiseDistances()],
        output_modules=[spk.atomistic.Atomwise(n_in=CHANNELS, output_key=properties.energy), spk.atomistic.Forces()],
    ).eval()
    # Its calculator wants a file, which it reads as older PyTorch did.
    torch.load = functools.partial(torch.load, weights_only=False)
    with TemporaryDirectory() as folder:
        torch.save(model, Path(folder) / "model.pt")
        atoms.calc = SpkCalculator(
            str(Path(folder) / "model.pt"),
            MatScipyNeighborList(CUTOFF),
            energy_unit="eV",
            position_unit="Ang",
            energy_key="energy",
            force_key="forces",
            dtype=torch.float32,
        )
    dynamics = Langevin(atoms, 0.1 * units.fs, temperature_K=10, friction=0.005 / units.fs, fixcm=False)

    def step(number: int) -> float:
        dynamics.run(1)
        # (Asked for the energy, it would compute all once more.)
        return float(atoms.calc.results["forces"].sum())

    parameters = sum(weight.numel() for weight in model.parameters())
    serve(step, {"library": f"SchNetPack {spk.__version__}", "parameters": parameters})


if __name__ == "__main__":
    main()
