"""An analytic potential as an exported file: harmonic springs, exact and quick, for tests of MD."""

from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from torch import Tensor, nn

from piwsl.export.exported import save_exported
from piwsl.units import KJ_PER_MOL, NANOMETER


class Springs(nn.Module):
    """Harmonic springs between atoms, in the units of the OpenMM form; NaN when one is longer than ``limit`` (nm)."""

    def __init__(self, pairs: Tensor, lengths: Tensor, constants: Tensor, limit: float) -> None:
        super().__init__()
        self.register_buffer("first", pairs[:, 0].contiguous())
        self.register_buffer("second", pairs[:, 1].contiguous())
        self.register_buffer("lengths", lengths)
        self.register_buffer("constants", constants)
        self.limit = limit

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        positions = positions.to(self.lengths.dtype)
        vectors = positions.index_select(0, self.first) - positions.index_select(0, self.second)
        distances = vectors.square().sum(1).sqrt()
        off = distances - self.lengths
        energy = 0.5 * (self.constants * off.square()).sum()
        if bool((distances > self.limit).any()):
            energy = energy * float("nan")
            off = off * float("nan")
        pulls = (self.constants * off / distances).unsqueeze(1) * vectors
        forces = torch.zeros_like(positions).index_add(0, self.second, pulls).index_add(0, self.first, -pulls)
        return energy, forces


class GeneralForm(nn.Module):
    """The springs behind the arguments and units of the general form."""

    def __init__(self, springs: nn.Module, energy_unit: float, length_unit: float) -> None:
        super().__init__()
        self.springs, self.energy_unit, self.length_unit = springs, energy_unit, length_unit

    def forward(self, species: Tensor, positions: Tensor, cell: Tensor | None) -> tuple[Tensor, Tensor]:
        energy, forces = self.springs(positions / self.length_unit)
        return energy * self.energy_unit, forces * (self.energy_unit / self.length_unit)


def springs_model(
    path: Path,
    atoms: Atoms,
    form: str = "openmm",
    first_bond: float = 1.0,
    limit: float = 10.0,
    dtype: torch.dtype = torch.float64,
) -> Path:
    """Write an exported potential of springs between all atoms closer than 2.7 angstrom.

    Bonds have 25 eV/angstrom^2, other pairs 5. ``first_bond`` multiplies the constant of the bond of atoms 0 and 1:
    a negative one tears it apart. Beyond ``limit`` (angstrom) everything is NaN.
    """
    distances = atoms.get_all_distances()
    pairs = np.argwhere(np.triu(distances < 2.7, k=1))
    lengths = distances[pairs[:, 0], pairs[:, 1]]
    constants = np.where(lengths < 1.7, 25.0, 5.0)
    constants[0] *= first_bond
    springs = Springs(
        torch.tensor(pairs),
        torch.tensor(lengths / NANOMETER, dtype=dtype),
        torch.tensor(constants * NANOMETER**2 / KJ_PER_MOL, dtype=dtype),
        limit / NANOMETER,
    )
    module = springs if form == "openmm" else GeneralForm(springs, KJ_PER_MOL, NANOMETER)
    info = {"form": form, "elements": sorted(set(atoms.numbers.tolist())), "cutoff": 5.0, "dtype": str(dtype)}
    if form == "openmm":
        info["species"] = atoms.numbers.tolist()
    save_exported(torch.jit.script(module), info, path)
    return path
