"""Evaluation of exported potentials in eV and angstrom, for all Python interfaces and engines."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from ase.data import chemical_symbols
from torch import Tensor

from piwsl.data.charges import NO_CHARGE, ChargeSpin
from piwsl.errors import ConfigError, DataError, ElementError, EngineError
from piwsl.export.exported_file import ExportedPotential
from piwsl.export.supported import check_elements, check_formula, check_molecule, trained_order
from piwsl.models.priors.walls import WallRanges
from piwsl.structures.cells import NO_PBC, PBC, cell_heights
from piwsl.structures.neighbors import SkinnedNeighbors
from piwsl.typing import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Result for one structure. For an ensemble, energy, forces and virial are means over the members.

    Attributes:
        energy: Energy, eV.
        forces: Forces (n, 3), eV/angstrom.
        virial: Negative derivative (3, 3) of the energy with respect to strain, eV; None if it is not available.
        forces_std: Standard deviation (n, 3) of the forces over the members, eV/angstrom; None for a single model.
        energy_std: Standard deviation of the energy over the members, eV; None for a single model.
    """

    energy: float
    forces: FloatArray
    virial: FloatArray | None = None
    forces_std: FloatArray | None = None
    energy_std: float | None = None


class BoundPotential:
    """Potential bound to fixed atoms, whose positions and cell may change."""

    def __call__(self, positions: FloatArray, cell: FloatArray | None = None) -> Evaluation:
        """Evaluate positions (n, 3) and the cell (3, 3) of a periodic structure, angstrom, float64.

        Energy and forces are NaN if a position or the cell is not finite.

        Raises:
            DataError: The number of positions is wrong, or the cell is flat or too small for its atoms.
            EngineError: The cell is narrower than the file supports.
        """
        raise NotImplementedError


def bind(
    potential: ExportedPotential,
    species: IntArray | None = None,
    pbc: PBC = NO_PBC,
    stated: ChargeSpin = NO_CHARGE,
) -> BoundPotential:
    """Bind a potential to the atoms of a structure.

    Args:
        potential: Loaded exported file.
        species: Atomic numbers (n,). With None, the atomic numbers in the file are used.
        pbc: Periodic directions.
        stated: Charge and spin of the structure. Values that are not stated are the defaults of the model.

    Raises:
        ElementError: The file was exported for other atoms.
        ConfigError: The file was exported for another charge or spin.
        DataError: No species are given, and the file contains none.
        EngineError: The file does not support these periodic directions.
    """
    if species is None:
        if not potential.species:
            raise DataError(
                f"{potential.path}: the file was exported for any structure and contains no species: pass species"
            )
        species = np.array(potential.species)
    if potential.species:
        check_species(species, potential.species, str(potential.path))
    else:
        check_elements(potential.info["elements"], species.tolist(), potential.path)
    check_charge(potential, stated)
    if potential.is_molecule:
        return BoundMolecule(potential, species, pbc)
    walls = potential.walls
    if walls is None or walls.molecule is None:
        return BoundEdges(potential, species, pbc, stated)
    if potential.species:
        check_molecule(walls.molecule, species.tolist(), any(pbc))
        return BoundEdges(potential, species, pbc, stated)
    return BoundWithWalls(potential, walls, species, pbc, stated)


class BoundMolecule(BoundPotential):
    """Potential bound to a molecule with all pairs in one graph. Periodic boxes use the minimum image of each pair."""

    def __init__(self, potential: ExportedPotential, species: IntArray, pbc: PBC) -> None:
        if any(pbc) and not all(pbc):
            raise EngineError(
                f"{potential.path}: the file supports only molecules and boxes that are periodic in all directions: "
                "export with target='general' for slabs and wires"
            )
        self._potential = potential
        self._periodic = all(pbc)
        self._atoms = len(species)
        self._no_cell = torch.zeros((3, 3), dtype=torch.float64, device=potential.device)
        self._call = self._compiled if potential.format == "aotinductor" else self._scripted

    def __call__(self, positions: FloatArray, cell: FloatArray | None = None) -> Evaluation:
        """Evaluate positions (n, 3) and the cell (3, 3) of a periodic structure, angstrom, float64."""
        if len(positions) != self._atoms:  # compiled code would read beyond the array
            raise DataError(
                f"{self._potential.path}: exported for {self._atoms} atoms, got {len(positions)} positions: pass one "
                "per atom"
            )
        if not self._periodic:
            cell = None
        elif cell is not None:
            check_width(self._potential, cell)
        energies, forces = self._call(_tensor(positions, self._potential), cell)
        # The shape is (M,) for a molecule, and (M, R) for copies, whose energies are added.
        return _evaluation(energies.view(self._potential.members, -1).sum(1), forces, None)

    def _scripted(self, positions: Tensor, cell: FloatArray | None) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            box = None if cell is None else _tensor(cell, self._potential)
            energies, forces = self._potential.program.evaluate(positions, box)
        return energies, forces

    def _compiled(self, positions: Tensor, cell: FloatArray | None) -> tuple[Tensor, Tensor]:
        box = inverse = self._no_cell
        if cell is not None:
            box, inverse = _tensor(cell, self._potential), _tensor(np.linalg.inv(cell), self._potential)
        energies, forces = self._potential.program.run([positions, box, inverse])
        return energies, forces


class BoundEdges(BoundPotential):
    """Potential bound to any structure, with a neighbor list that includes a skin."""

    def __init__(
        self, potential: ExportedPotential, species: IntArray, pbc: PBC, stated: ChargeSpin = NO_CHARGE
    ) -> None:
        self._potential = potential
        self._states = charge_inputs(potential, stated)
        self._species = torch.as_tensor(np.asarray(species), dtype=torch.int64, device=potential.device)
        self._index = torch.zeros_like(self._species)
        self._pbc = pbc
        self.neighbors = SkinnedNeighbors(potential.cutoff, pbc)
        self._call = self._compiled if potential.format == "aotinductor" else self._scripted
        if potential.format == "aotinductor" and len(species) < 2:
            raise EngineError(
                f"{potential.path}: compiled files require at least two atoms: export with format='torchscript'"
            )

    def __call__(self, positions: FloatArray, cell: FloatArray | None = None) -> Evaluation:
        """Evaluate positions (n, 3) and the cell (3, 3) of a periodic structure, angstrom, float64."""
        positions = np.asarray(positions, dtype=np.float64)
        if len(positions) != len(self._species):  # compiled code would read beyond the arrays
            raise DataError(
                f"{self._potential.path}: bound to {len(self._species)} atoms, got {len(positions)} positions: "
                "pass one per atom"
            )
        edges, vectors = self.neighbors(positions, cell if any(self._pbc) else None)
        if not math.isfinite(positions.sum() + (0.0 if cell is None else cell.sum())):
            # Without neighbors, the result would look like that of isolated atoms.
            nothing = np.full_like(positions, np.nan)
            deviation = nothing if self._potential.members > 1 else None
            return Evaluation(math.nan, nothing, np.full((3, 3), np.nan), deviation)
        device, dtype = self._potential.device, self._potential.dtype
        energies, forces, virials = self._call(
            torch.as_tensor(edges, device=device), torch.as_tensor(vectors, dtype=dtype, device=device)
        )
        virial = virials[:, 0].mean(0).to("cpu", torch.float64).numpy() if self._potential.has_stress else None
        return _evaluation(energies[:, 0], forces, virial)

    def _scripted(self, edges: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        energies, forces, virials = self._potential.program.of_edges(
            self._species, edges, vectors, self._index, 1, *self._states
        )
        return energies, forces, virials

    def _compiled(self, edges: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if edges.shape[1] < 4:
            # Compiled code requires two pairs, so pairs beyond the cutoff are added, which do not contribute.
            first = edges.shape[1] // 2
            pair = edges.new_tensor([[0], [1]]).expand(2, 2)
            far = vectors.new_tensor([[2.0, 0.0, 0.0]]).expand(2, 3) * self._potential.cutoff
            edges = torch.cat([edges[:, :first], pair, edges[:, first:], pair.flip(0)], dim=1)
            vectors = torch.cat([vectors[:first], far, vectors[first:], -far])
        # Compiled code assumes that every tensor is contiguous.
        inputs = [self._species, edges.contiguous(), vectors.contiguous(), *self._states]
        energies, forces, virials = self._potential.program.run(inputs)
        return energies, forces, virials


class BoundWithWalls(BoundPotential):
    """Potential with walls of one molecule, bound to this molecule with its atoms in any order.

    The first positions that are finite determine the order in the training data.
    """

    def __init__(
        self, potential: ExportedPotential, walls: WallRanges, species: IntArray, pbc: PBC, stated: ChargeSpin
    ) -> None:
        check_formula(walls.molecule or [], species.tolist(), any(pbc))
        self._potential, self._walls, self._species, self._stated = potential, walls, species, stated
        self._order: IntArray | None = None  # for each atom of the training data, its index
        self._back: IntArray | None = None
        self._bound: BoundPotential | None = None

    def __call__(self, positions: FloatArray, cell: FloatArray | None = None) -> Evaluation:
        """Evaluate positions (n, 3), angstrom, float64."""
        positions = np.asarray(positions, dtype=np.float64)
        if len(positions) != len(self._species) or not np.isfinite(positions).all():
            # An error, or NaN: both are independent of the order.
            return BoundEdges(self._potential, self._species, NO_PBC, self._stated)(positions)
        if self._bound is None:
            self._order = trained_order(self._walls, self._species.tolist(), positions, periodic=False)
            species = self._species if self._order is None else self._species[self._order]
            self._back = None if self._order is None else np.argsort(self._order)
            self._bound = BoundEdges(self._potential, species, NO_PBC, self._stated)
        if self._order is None:
            return self._bound(positions)
        result = self._bound(positions[self._order])
        spread = None if result.forces_std is None else result.forces_std[self._back]
        return replace(result, forces=result.forces[self._back], forces_std=spread)


def charge_inputs(potential: ExportedPotential, stated: ChargeSpin, structures: int = 1) -> tuple[Tensor, ...]:
    """Return charge and spin (S, 2) as an additional argument of a program; an empty tuple if it has no such input."""
    if not potential.takes_charge:
        return ()
    values = torch.tensor([[stated.charge, stated.unpaired_electrons]], dtype=torch.float64, device=potential.device)
    return (values.repeat(structures, 1),)


def check_charge(potential: ExportedPotential, stated: ChargeSpin) -> None:
    """Raise an error if a structure has another charge or spin than the file was exported for.

    Raises:
        ConfigError: The values differ.
    """
    fixed = potential.fixed_charge
    if fixed.is_stated and stated.over(fixed) != fixed:
        wanted = ", ".join(f"{name}={value}" for name, value in stated.over(fixed).info().items())
        raise ConfigError(
            f"{potential.path}: exported for {fixed}, but the structure has {stated}: export it with {wanted}"
        )


def check_given_charge(potential: ExportedPotential, given: ChargeSpin) -> None:
    """Raise an error if a caller passed a charge or spin to a network that ignores them.

    Raises:
        ConfigError: A value other than 0 was passed.
    """
    if potential.takes_charge or potential.fixed_charge.is_stated:
        return
    network = str(potential.info.get("network", {}).get("network", "of this file"))
    refuse_ignored_charge(given, network)


def refuse_ignored_charge(given: ChargeSpin, network: str) -> None:
    """Raise an error for a charge or spin other than 0, which a network ignores.

    Raises:
        ConfigError: A value other than 0 was passed.
    """
    passed = [f"{name}={value}" for name, value in given.info().items() if value]
    if passed:
        raise ConfigError(
            f"{', '.join(passed)}: network {network} ignores charge and spin: leave this out, or train network so3lr "
            "or painn with model.charge_embedding: true"
        )


def check_width(potential: ExportedPotential, cell: FloatArray) -> None:
    """Raise an error if a periodic cell (3, 3), angstrom, is too narrow for the minimum image convention.

    Raises:
        EngineError: The cell is narrower than twice the cutoff.
    """
    narrowest = min(cell_heights(cell))
    if potential.is_molecule and not narrowest >= 2.0 * potential.cutoff:  # true for NaN
        raise EngineError(
            f"the box is {narrowest:.1f} angstrom wide, but {potential.path} requires at least twice its cutoff "
            f"({2.0 * potential.cutoff:g} angstrom): use a larger box, or export with target='general'"
        )


def check_species(numbers: IntArray, species: list[int], where: str) -> None:
    """Raise an error if atomic numbers differ from the atomic numbers that a potential was exported for.

    Raises:
        ElementError: The number, kinds or order of the atoms differ. The message contains the first difference.
    """
    given = [int(number) for number in numbers]
    if given == species:
        return
    advice = "export the potential for this structure"
    if len(given) != len(species):
        raise ElementError(f"{where}: exported for {len(species)} atoms, but the structure has {len(given)}: {advice}")
    first = next(i for i, pair in enumerate(zip(given, species, strict=True)) if pair[0] != pair[1])
    if sorted(given) == sorted(species):
        advice = f"the order of the atoms differs: reorder them, or {advice}"
    raise ElementError(
        f"{where}: atom {first} is {chemical_symbols[given[first]]}, "
        f"but the potential was exported with {chemical_symbols[species[first]]}: {advice}"
    )


def _tensor(values: FloatArray, potential: ExportedPotential) -> Tensor:
    """Return values as a float64 tensor on the device of a potential."""
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64)).to(potential.device)


def _evaluation(energies: Tensor, forces: Tensor, virial: FloatArray | None) -> Evaluation:
    """Return the means of energies (M,) and forces (M, n, 3) over the members, with standard deviations."""
    values = forces.cpu().numpy().astype(np.float64)
    if len(values) == 1:
        return Evaluation(energies.item(), values[0], virial)
    spread = float(energies.std(correction=1))
    return Evaluation(float(energies.mean()), values.mean(0), virial, values.std(0, ddof=1), spread)
