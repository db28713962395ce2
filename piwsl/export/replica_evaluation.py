"""Evaluation of exported potentials for replicas of a structure, with tensors in eV and angstrom.

Replicas are non-interacting copies of a structure with different positions. They are evaluated in chunks, with one
chunk per call. On a CPU, several threads process chunks independently. The arrays of a few copies fit into the cache of
a core, and threads do not wait for each other within a call.
"""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from piwsl.compat.aotinductor import AotiRunners
from piwsl.data.charges import NO_CHARGE, ChargeSpin
from piwsl.errors import DataError, EngineError
from piwsl.export.evaluation import (
    BoundPotential,
    Evaluation,
    charge_inputs,
    check_charge,
    check_species,
    check_width,
)
from piwsl.export.exported_file import ExportedPotential
from piwsl.export.neighbors.batch import Batch, BatchNeighbors
from piwsl.export.supported import check_elements, check_molecule
from piwsl.runs.scratch import scratch_directory
from piwsl.structures.cells import NO_PBC, PBC
from piwsl.typing import FloatArray, IntArray

# Atoms per chunk if the file does not fix the number of copies. Chunks fit into the caches, or the memory of a GPU.
CHUNK_ATOMS = {"cpu": 256, "cuda": 32768}

LOGGER = logging.getLogger(__name__)
Program = Callable[[Tensor], tuple[Tensor, Tensor]]
Run = Callable[[list[Tensor]], list[Tensor]]


@dataclass(frozen=True, eq=False)
class ReplicaEvaluation:
    """Result for R replicas on the device of the potential. For an ensemble, energies and forces are means.

    Attributes:
        energies: Energies (R,), eV, float64.
        forces: Forces (R, n, 3), eV/angstrom, float64.
        forces_std: Standard deviation (R, n, 3) of the forces over the members; None for a single model.
    """

    energies: Tensor
    forces: Tensor
    forces_std: Tensor | None = None


class BoundReplicas:
    """Potential bound to fixed atoms, which evaluates any number of replicas without a cell or in a fixed cell.

    Attributes:
        n_atoms: Number n of atoms of a replica.
        members: Number M of models in an ensemble; 1 for a single model.
        device: Device of positions and results.
        chunk: Number of replicas per call.
        threads: Number of simultaneous calls.
    """

    def __init__(self, potential: ExportedPotential, n_atoms: int, chunk: int, threads: int) -> None:
        self.n_atoms = n_atoms
        self.members = potential.members
        self.device = torch.device(potential.device)
        self.chunk = chunk
        self.threads = threads
        # Some libraries have a thread count per calling thread and would start additional threads in a new thread.
        self._pool = ThreadPoolExecutor(threads, "replicas", torch.set_num_threads, (1,)) if threads > 1 else None

    def __call__(self, positions: Tensor) -> ReplicaEvaluation:
        """Evaluate positions (R, n, 3), angstrom, float64. NaN positions affect only the results of their replica."""
        count = len(positions)
        if positions.shape[1:] != (self.n_atoms, 3):  # compiled code would read beyond the array
            raise DataError(f"positions have shape {tuple(positions.shape)}: the shape must be (R, {self.n_atoms}, 3)")
        energies = torch.empty((self.members, count), dtype=torch.float64, device=self.device)
        forces = torch.empty((self.members, *positions.shape), dtype=torch.float64, device=self.device)
        size = self._chunk_of(count)
        starts = iter(range(0, count, size))  # shared by the threads

        def work(thread: int) -> None:
            for start in starts:
                end = min(start + size, count)
                energies[:, start:end], forces[:, start:end] = self._evaluate(thread, start, positions[start:end])

        if self._pool is None or count <= size:
            work(0)
        else:
            list(self._pool.map(work, range(self.threads)))
        deviation = forces.std(0) if self.members > 1 else None
        return ReplicaEvaluation(energies.mean(0), forces.mean(0), deviation)

    def _chunk_of(self, count: int) -> int:
        """Return the number of replicas per call for a number of replicas."""
        return self.chunk

    def _evaluate(self, thread: int, start: int, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return energies (M, C) and forces (M, C, n, 3) for positions (C, n, 3) of at most ``chunk`` replicas."""
        raise NotImplementedError


class BakedReplicas(BoundReplicas):
    """Replicas of a molecule with a file for a fixed number of copies. Incomplete chunks are padded with copies."""

    def __init__(self, potential: ExportedPotential, n_atoms: int, cell: FloatArray | None, threads: int) -> None:
        self._programs = _programs(potential, cell, threads)
        super().__init__(potential, n_atoms, potential.copies, len(self._programs))

    def _evaluate(self, thread: int, start: int, positions: Tensor) -> tuple[Tensor, Tensor]:
        count = len(positions)
        if count < self.chunk:
            repeats = torch.arange(self.chunk, device=self.device) % count
            positions = positions.index_select(0, repeats)
        energies, forces = self._programs[thread](positions.reshape(-1, 3))
        energies = energies.view(self.members, self.chunk)
        forces = forces.view(self.members, self.chunk, self.n_atoms, 3)
        return energies[:, :count], forces[:, :count]


class EdgesReplicas(BoundReplicas):
    """Replicas of any structure. The replicas of a chunk form one graph, and neighbor lists include a skin."""

    def __init__(
        self,
        potential: ExportedPotential,
        species: IntArray,
        pbc: PBC,
        cell: FloatArray | None,
        threads: int,
        stated: ChargeSpin,
    ) -> None:
        atoms = CHUNK_ATOMS[torch.device(potential.device).type]
        super().__init__(potential, len(species), max(1, atoms // len(species)), threads)
        self._potential = potential
        self._stated = stated
        self._species = torch.as_tensor(np.asarray(species), dtype=torch.int64, device=self.device)
        self._cell = torch.zeros(3, 3, dtype=torch.float64) if cell is None else torch.from_numpy(np.array(cell))
        self._pbc = torch.tensor(pbc)
        self._neighbors: dict[int, BatchNeighbors] = {}

    def _chunk_of(self, count: int) -> int:
        # A few replicas are divided among the threads, although one call could evaluate all of them.
        return min(self.chunk, -(-count // self.threads))

    def _evaluate(self, thread: int, start: int, positions: Tensor) -> tuple[Tensor, Tensor]:
        count, n_atoms, _ = positions.shape
        index = torch.arange(count, device=self.device).repeat_interleave(n_atoms)
        cells = self._cell.to(self.device).expand(count, 3, 3)
        batch = Batch(positions.reshape(-1, 3), cells, self._pbc.to(self.device).expand(count, 3), index)
        if start not in self._neighbors:
            self._neighbors[start] = BatchNeighbors(self._potential.cutoff)
        edges, vectors = self._neighbors[start](batch)
        species = self._species.repeat(count)
        with torch.enable_grad():
            states = charge_inputs(self._potential, self._stated, count)
            energies, forces, _ = self._potential.program.of_edges(species, edges, vectors, index, count, *states)
        # Atoms with NaN positions have no neighbors. The results of their replica must be NaN.
        lost = 0.0 * positions
        return energies + lost.sum((1, 2)), forces.view(-1, count, n_atoms, 3) + lost


class OneReplica(BoundPotential):
    """Adapter of a potential for replicas that evaluates a single structure."""

    def __init__(self, potential: BoundReplicas) -> None:
        self._potential = potential

    def __call__(self, positions: FloatArray, cell: FloatArray | None = None) -> Evaluation:
        """Evaluate positions (n, 3), angstrom. The argument ``cell`` is ignored, because replicas have a fixed cell."""
        result = self._potential(torch.from_numpy(positions[None]).to(self._potential.device))
        deviation = None if result.forces_std is None else result.forces_std[0].cpu().numpy()
        return Evaluation(float(result.energies[0]), result.forces[0].cpu().numpy(), None, deviation)


def bind_replicas(
    potential: ExportedPotential,
    species: IntArray,
    pbc: PBC = NO_PBC,
    cell: FloatArray | None = None,
    threads: int = 1,
    stated: ChargeSpin = NO_CHARGE,
) -> BoundReplicas:
    """Bind a potential to replicas of a structure.

    Args:
        potential: Exported file with the target ``openmm`` for this molecule, or a TorchScript file with the target
            ``general``.
        species: Atomic numbers (n,) of one replica.
        pbc: Periodic directions.
        cell: Cell (3, 3) of all replicas, angstrom; None without periodic directions.
        threads: Number of simultaneous calls on a CPU. If it is greater than 1, each call uses one thread.
        stated: Charge and spin of the structure. Values that are not stated are the defaults of the model.

    Raises:
        ElementError: The file was exported for other atoms.
        ConfigError: The file was exported for another charge or spin.
        EngineError: The file does not support replicas of this structure.
    """
    box = cell if any(pbc) else None
    threads = 1 if potential.device.startswith("cuda") else threads
    check_charge(potential, stated)
    if potential.is_molecule:
        check_species(species, potential.molecule, str(potential.path))
        if any(pbc) and not all(pbc):
            raise EngineError(f"{potential.path} does not support slabs and wires: export with target='general'")
        if box is not None:
            check_width(potential, box)
        return BakedReplicas(potential, len(species), box, threads)
    if potential.species or potential.format != "torchscript":
        raise EngineError(
            f"{potential.path} does not support replicas: use the trained model.pt, or export with "
            "target='general', or export a molecule with target='openmm' and copies=N"
        )
    check_elements(potential.info["elements"], species.tolist(), potential.path)
    if potential.walls is not None:
        check_molecule(potential.walls.molecule, species.tolist(), any(pbc))
    return EdgesReplicas(potential, species, pbc, box, threads, stated)


def _programs(potential: ExportedPotential, cell: FloatArray | None, threads: int) -> list[Program]:
    """Return one function per thread that maps positions (R n, 3) to energies and forces of all members."""
    box = None if cell is None else torch.from_numpy(np.array(cell, dtype=np.float64)).to(potential.device)
    if potential.format == "aotinductor":
        return [_compiled(run, box, potential.device) for run in _runs(potential, threads)]

    def scripted(positions: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            energies, forces = potential.program.evaluate(positions, box)
        return energies, forces

    return [scripted] * threads


def _runs(potential: ExportedPotential, threads: int) -> list[Run]:
    """Return functions that run a compiled package, on a CPU one independent function per thread."""
    try:
        if potential.device == "cpu":
            with scratch_directory("library") as folder:
                calls = AotiRunners(potential.content, folder)
            return [calls.new() for _ in range(threads)]
    except EngineError as error:
        LOGGER.warning(f"{potential.path.name}: replicas are evaluated with a single thread: {error}")
    return [potential.program.run]


def _compiled(run: Run, box: Tensor | None, device: str) -> Program:
    """Return a function of positions that calls a package with the fixed cell and its inverse."""
    none = torch.zeros((3, 3), dtype=torch.float64, device=device)
    around = [none, none] if box is None else [box, torch.linalg.inv(box).contiguous()]

    def call(positions: Tensor) -> tuple[Tensor, Tensor]:
        # Compiled code assumes that every tensor is contiguous.
        energies, forces = run([positions.contiguous(), *around])
        return energies, forces

    return call
