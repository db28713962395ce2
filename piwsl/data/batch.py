"""Batches: several structures as one graph without edges between them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from piwsl.data.frames import Frame
from piwsl.structures.neighbors import neighbor_edges
from piwsl.typing import Edges, Energies, Forces, Positions, Species, StructureIndex


@dataclass(frozen=True, eq=False)
class Batch:
    """S structures with a total of N atoms and E edges.

    Attributes:
        species: Atomic numbers (N,).
        positions: Positions (N, 3), angstrom.
        edges: Center and neighbor of each edge (2, E). Edges may be longer than the cutoff; networks give such edges
            zero weight. The second half contains the edges of the first half, reversed, in the same order.
        edge_shifts: Shift (E, 3) to the periodic image of the neighbor, angstrom.
        structure_index: Structure of each atom (N,).
        n_structures: Number of structures S.
        energy: Energies (S,), eV, float64; NaN if missing.
        forces: Forces (N, 3), eV/angstrom; NaN if missing.
        stress: Stress (S, 3, 3), eV/angstrom^3; NaN if missing.
        volume: Volumes (S,), angstrom^3; infinite for structures that are not periodic in all directions.
        frame_index: Index (S,) of each structure in its data set.
        charge_spin: Charge (e) and number of unpaired electrons (S, 2), float64; NaN if a structure states none. None
            if no structure states a value.
        energy_spread: Standard deviations (S,) of the energies over an ensemble, eV; NaN if missing. None if no
            structure has spreads.
        force_spread: Standard deviations (N,) of the force on each atom, eV/angstrom; NaN if missing.
        level: Index (S,) of the level of theory of each structure, see `Frame`; None if all of them have the main
            level 0.
    """

    species: Species
    positions: Positions
    edges: Edges
    edge_shifts: Tensor
    structure_index: StructureIndex
    n_structures: int
    energy: Energies
    forces: Forces
    stress: Tensor
    volume: Tensor
    frame_index: Tensor
    charge_spin: Tensor | None = None
    energy_spread: Tensor | None = None
    force_spread: Tensor | None = None
    level: Tensor | None = None

    @property
    def n_atoms(self) -> Tensor:
        """Number of atoms of each structure (S,)."""
        return torch.bincount(self.structure_index, minlength=self.n_structures)

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch with its tensors on a device."""
        moved = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **moved)  # type: ignore[arg-type]  # these fields are tensors

    @property
    def graph(self) -> tuple[Any, ...]:
        """The arguments of a potential.

        The last of them is the level, if there are several: only a potential with levels has this argument.
        """
        return (
            self.species,
            self.positions,
            self.edges,
            self.edge_shifts,
            self.structure_index,
            self.n_structures,
            *self.states,
        )

    @property
    def states(self) -> tuple[Tensor | None, ...]:
        """The last arguments of a potential: charges and spins, and the level if there are several."""
        return (self.charge_spin,) if self.level is None else (self.charge_spin, self.level)

    def edge_vectors(self) -> Tensor:
        """Return r_j - r_i for each edge (E, 3), angstrom."""
        ends = self.positions.index_select(0, self.edges[1])
        return ends - self.positions.index_select(0, self.edges[0]) + self.edge_shifts

    def moved(self, positions: Positions) -> "Batch":
        """Return the same structures with other positions (N, 3), angstrom."""
        return replace(self, positions=positions)

    def within(self, reach: float) -> "Batch":
        """Return the batch with edges of at most this length, angstrom."""
        pairs = self.edges.shape[1] // 2
        vectors = self.edge_vectors()[:pairs]  # the second half contains the same pairs
        kept = (vectors.square().sum(-1) <= reach**2).nonzero().squeeze(-1)
        return replace(
            self,
            edges=self.edges.view(2, 2, pairs).index_select(2, kept).view(2, -1),
            edge_shifts=self.edge_shifts.view(2, pairs, 3).index_select(1, kept).view(-1, 3),
        )

    def copies(self, displacements: Sequence[Tensor | None], chosen: Sequence[int]) -> "Batch":
        """Join copies of this batch, each with one of the chosen displacements.

        Displaced copies have no labels. They reuse the edges of the undisplaced structures, which must reach beyond the
        cutoff by twice the largest displacement.

        Args:
            displacements: Displacements (N, 3), angstrom; None for no displacement.
            chosen: Indices of the displacements to use, one copy each.
        """
        moves = [displacements[index] for index in chosen]
        count, atoms = len(moves), len(self.species)
        device = self.edges.device
        pairs = self.edges.shape[1] // 2
        atom_offset = torch.arange(count, device=device).repeat_interleave(pairs) * atoms
        structure_offset = torch.arange(count, device=device).repeat_interleave(atoms) * self.n_structures
        return Batch(
            species=self.species.repeat(count),
            positions=torch.cat([self.positions if move is None else self.positions + move for move in moves]),
            # The first halves of all copies, then the second halves.
            edges=(self.edges.view(2, 2, pairs).repeat(1, 1, count) + atom_offset).view(2, -1),
            edge_shifts=self.edge_shifts.view(2, pairs, 3).repeat(1, count, 1).view(-1, 3),
            structure_index=self.structure_index.repeat(count) + structure_offset,
            n_structures=count * self.n_structures,
            energy=_labels(self.energy, moves),
            forces=_labels(self.forces, moves),
            stress=_labels(self.stress, moves),
            volume=self.volume.repeat(count),
            frame_index=self.frame_index.repeat(count),
            charge_spin=None if self.charge_spin is None else self.charge_spin.repeat(count, 1),
            level=None if self.level is None else self.level.repeat(count),
        )


def _labels(labels: Tensor, moves: Sequence[Tensor | None]) -> Tensor:
    return torch.cat([labels if move is None else torch.full_like(labels, torch.nan) for move in moves])


_NO_STRESS = np.full((3, 3), np.nan)


def collate(
    frames: Sequence[Frame], cutoff: float, dtype: torch.dtype = torch.float32, indices: Sequence[int] | None = None
) -> Batch:
    """Join frames into a batch.

    Args:
        frames: Structures with or without labels.
        cutoff: Length of the longest edge, angstrom.
        dtype: Data type of positions, forces and stress; energies are float64.
        indices: Index of each frame in its data set; by default 0, 1, ...
    """
    graphs = [neighbor_edges(frame.positions, frame.cell, frame.pbc, cutoff) for frame in frames]
    sizes = [len(frame.species) for frame in frames]
    offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return Batch(
        species=torch.from_numpy(np.concatenate([frame.species for frame in frames])),
        positions=_tensor([frame.positions for frame in frames], dtype),
        edges=torch.from_numpy(
            _halves([graph.edges + offset for graph, offset in zip(graphs, offsets, strict=True)], axis=1)
        ),
        edge_shifts=torch.from_numpy(_halves([graph.shifts for graph in graphs], axis=0)).to(dtype),
        structure_index=torch.repeat_interleave(torch.arange(len(frames)), torch.tensor(sizes)),
        n_structures=len(frames),
        energy=torch.tensor([frame.energy for frame in frames], dtype=torch.float64),
        forces=_tensor([frame.forces for frame in frames], dtype),
        stress=torch.from_numpy(np.stack([frame.stress if frame.has_stress else _NO_STRESS for frame in frames])).to(
            dtype
        ),
        volume=torch.tensor([_volume(frame) for frame in frames], dtype=torch.float64),
        frame_index=torch.tensor(range(len(frames)) if indices is None else indices),
        charge_spin=_charge_spin(frames),
        level=torch.tensor([frame.level for frame in frames]) if any(frame.level for frame in frames) else None,
        **_spreads(frames),
    )


def _charge_spin(frames: Sequence[Frame]) -> Tensor | None:
    values = np.array([(frame.charge, frame.unpaired_electrons) for frame in frames], dtype=np.float64)
    return None if np.isnan(values).all() else torch.from_numpy(values)


def _spreads(frames: Sequence[Frame]) -> dict[str, Tensor]:
    if not any(frame.has_spread for frame in frames):
        return {}
    forces = [
        np.full(len(frame.species), np.nan) if frame.force_spread is None else frame.force_spread for frame in frames
    ]
    return {
        "energy_spread": torch.tensor([frame.energy_spread for frame in frames], dtype=torch.float64),
        "force_spread": _tensor(forces, torch.float64),
    }


def _halves(arrays: list[np.ndarray], axis: int) -> np.ndarray:
    """Concatenate the first halves of all arrays, then the second halves."""
    parts = [np.split(array, 2, axis=axis) for array in arrays]
    joined: np.ndarray = np.concatenate([part[half] for half in (0, 1) for part in parts], axis=axis)
    return joined


def _tensor(arrays: list[np.ndarray], dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.concatenate(arrays)).to(dtype)


def _volume(frame: Frame) -> float:
    return abs(float(np.linalg.det(frame.cell))) if all(frame.pbc) else np.inf
