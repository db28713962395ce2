"""An analytic potential as an exported file: harmonic springs, exact and quick, for tests of MD."""

from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from torch import Tensor, nn

from piwsl.export.exported_file import save_exported
from piwsl.units import KJ_PER_MOL, NANOMETER


class Springs(nn.Module):
    """Harmonic springs between atoms, eV and angstrom; NaN when one is longer than ``limit``."""

    def __init__(self, pairs: Tensor, lengths: Tensor, constants: Tensor, limit: float) -> None:
        super().__init__()
        self.register_buffer("first", pairs[:, 0].contiguous())
        self.register_buffer("second", pairs[:, 1].contiguous())
        self.register_buffer("lengths", lengths)
        self.register_buffer("constants", constants)
        self.limit = limit

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (P, 3) from first to second atoms to the energy and the pull on the first (P, 3)."""
        distances = vectors.square().sum(1).sqrt()
        off = distances - self.lengths
        energy = 0.5 * (self.constants * off.square()).sum()
        if bool((distances > self.limit).any()):
            energy = energy * float("nan")
            off = off * float("nan")
        return energy, (self.constants * off / distances).unsqueeze(1) * vectors


class MoleculeSprings(nn.Module):
    """The springs behind the arguments and units of the OpenMM form of a molecule."""

    def __init__(self, springs: nn.Module, energy_unit: float, length_unit: float) -> None:
        super().__init__()
        self.springs, self.energy_unit, self.length_unit = springs, energy_unit, length_unit

    @torch.jit.export
    def evaluate(self, positions: Tensor, cell: Tensor | None = None) -> tuple[Tensor, Tensor]:
        positions = positions.to(self.springs.lengths.dtype)
        vectors = positions.index_select(0, self.springs.second) - positions.index_select(0, self.springs.first)
        energy, pulls = self.springs(vectors)
        forces = torch.zeros_like(positions)
        forces = forces.index_add(0, self.springs.first, pulls).index_add(0, self.springs.second, -pulls)
        return energy.unsqueeze(0), forces.unsqueeze(0)

    @torch.jit.export
    def check_order(self, species: list[int]) -> None:
        if len(species) <= int(self.springs.second.max()):
            raise ValueError("fewer atoms than the springs have")

    def forward(self, positions: Tensor, box: Tensor | None = None) -> tuple[Tensor, Tensor]:
        energies, forces = self.evaluate(positions * self.length_unit, box)
        return energies[0] / self.energy_unit, forces[0] * (self.length_unit / self.energy_unit)


class GeneralSprings(nn.Module):
    """The springs behind the arguments of the general form: those of edges between their atoms."""

    def __init__(self, springs: nn.Module, spring_of: Tensor) -> None:
        super().__init__()
        self.springs = springs
        self.register_buffer("spring_of", spring_of)  # (n, n): number of the spring of a pair of atoms, or -1

    @torch.jit.export
    def of_edges(
        self, species: Tensor, edges: Tensor, edge_vectors: Tensor, structure_index: Tensor, n_structures: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        vectors = torch.zeros((self.springs.lengths.shape[0], 3), dtype=self.springs.lengths.dtype)
        spring = self.spring_of[edges[0], edges[1]]
        mine = (spring >= 0) & (edges[0] < edges[1])
        vectors = vectors.index_copy(0, spring[mine], edge_vectors[mine].to(vectors.dtype))
        energy, pulls = self.springs(vectors)
        forces = torch.zeros((species.shape[0], 3), dtype=vectors.dtype)
        forces = forces.index_add(0, self.springs.first, pulls).index_add(0, self.springs.second, -pulls)
        virial = -vectors.t().matmul(pulls)
        return energy.view(1, 1), forces.unsqueeze(0), virial.view(1, 1, 3, 3)

    def forward(
        self, species: Tensor, positions: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> dict[str, Tensor]:
        vectors = positions.index_select(0, self.springs.second) - positions.index_select(0, self.springs.first)
        edges = torch.stack((self.springs.first, self.springs.second))
        energies, forces, virials = self.of_edges(species, edges, vectors, torch.zeros_like(species), 1)
        return {"energy": energies[0, 0], "forces": forces[0], "virial": virials[0, 0]}


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
        torch.tensor(pairs), torch.tensor(lengths, dtype=dtype), torch.tensor(constants, dtype=dtype), limit
    )
    if form == "openmm":
        module = MoleculeSprings(springs, KJ_PER_MOL, NANOMETER)
    else:
        spring_of = torch.full((len(atoms), len(atoms)), -1)
        spring_of[pairs[:, 0], pairs[:, 1]] = torch.arange(len(pairs))
        module = GeneralSprings(springs, spring_of)
    moved = atoms.copy()
    moved.rattle(0.02, seed=1)
    positions = torch.from_numpy(moved.positions)
    energy, pulls = springs(positions[pairs[:, 1]] - positions[pairs[:, 0]])
    forces = np.zeros_like(moved.positions)
    np.add.at(forces, pairs[:, 0], pulls.numpy())
    np.subtract.at(forces, pairs[:, 1], pulls.numpy())
    info = {
        "target": form,
        "format_of_program": "torchscript",
        "pairs": "molecule" if form == "openmm" else "edges",
        "members": 1,
        "stress": True,
        "elements": sorted(set(atoms.numbers.tolist())),
        "cutoff": 5.0,
        "dtype": str(dtype).removeprefix("torch."),
        "check": [
            {
                "species": moved.numbers.tolist(),
                "positions": moved.positions.tolist(),
                "cell": np.zeros((3, 3)).tolist(),
                "pbc": [False] * 3,
                "energy": float(energy),
                "forces": forces.tolist(),
                "rounding": 0.0,
            }
        ],
    }
    if form == "openmm":
        info["species"] = atoms.numbers.tolist()
    save_exported(torch.jit.script(module), info, path)
    return path
