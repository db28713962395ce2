"""Particles of an OpenMM System on which a potential acts."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from piwsl.errors import ConfigError, ElementError, quoted
from piwsl.typing import MAX_ATOMIC_NUMBER, FloatArray, IntArray


def described_system(topology_or_species: Any) -> tuple[IntArray, FloatArray | None]:
    """Return atomic numbers (0 if not an atom), and box vectors (3, 3) in angstrom or None, of all particles.

    Args:
        topology_or_species: The ``openmm.app.Topology`` of a System, or the atomic numbers of its particles.

    Raises:
        ElementError: A value is not an atomic number.
    """
    if hasattr(topology_or_species, "atoms"):
        topology = topology_or_species
        numbers = [0 if atom.element is None else atom.element.atomic_number for atom in topology.atoms()]
        return np.array(numbers, dtype=np.int64), _angstrom(topology)
    if not isinstance(topology_or_species, Iterable):
        raise ElementError(
            f"{quoted(topology_or_species)} is neither a topology nor atomic numbers: pass the Topology of the System, "
            "or one atomic number per particle"
        )
    values = list(topology_or_species)
    for particle, value in enumerate(values):
        number = _integer(value)
        if number is None or not 0 <= number <= MAX_ATOMIC_NUMBER:
            raise ElementError(
                f"particle {particle} has the atomic number {quoted(value)}: pass one integer from 1 to "
                f"{MAX_ATOMIC_NUMBER} per particle, or 0 for a particle that is no atom"
            )
    return np.array(values, dtype=np.int64), None


def chosen_particles(atoms: Iterable[Any], count: int) -> list[int]:
    """Return the indices of the particles on which a potential acts, after checking them.

    Args:
        atoms: Indices that a user has passed.
        count: Number of particles in the topology.

    Raises:
        ConfigError: There are no indices, an index is not an integer or not that of a particle, or one occurs twice.
    """
    chosen: list[int] = []
    for value in atoms:
        index = _integer(value)
        if index is None:
            raise ConfigError(f"atoms contains {quoted(value)}: pass indices of particles, which are integers")
        if not 0 <= index < count:
            raise ConfigError(
                f"atoms contains {index}, but the indices of the {count} particles are 0 to {count - 1}: pass these"
            )
        chosen.append(index)
    if not chosen:
        raise ConfigError("atoms is empty: pass the indices of the particles, or leave it out for all particles")
    indices, counts = np.unique(chosen, return_counts=True)
    if counts.max() > 1:
        raise ConfigError(f"atoms contains {indices[counts.argmax()]} more than once: pass each particle once")
    return chosen


def _integer(value: Any) -> int | None:
    """Return a number as an integer; None for other values, truth values and numbers with a fraction."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        return None
    return int(value) if np.isfinite(value) and int(value) == value else None


def _angstrom(topology: Any) -> FloatArray | None:
    """Return the box vectors (3, 3) of a topology in angstrom; None if there is no box."""
    vectors = topology.getPeriodicBoxVectors()
    if vectors is None:
        return None
    from openmm import unit

    return np.array(vectors.value_in_unit(unit.angstrom), dtype=np.float64)


class Subset(nn.Module):
    """Module that applies the OpenMM form to a selection of particles; the forces on other particles are zero."""

    indices: Tensor

    def __init__(self, form: nn.Module, indices: list[int]) -> None:
        super().__init__()
        self.form = form
        self.needed = max(indices) + 1
        self.register_buffer("indices", torch.tensor(indices))

    def forward(self, positions: Tensor, box: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the energy () in kJ/mol and forces (N, 3) in kJ/mol/nm for positions (N, 3) of all particles in nm."""
        if positions.size(0) < self.needed:
            raise ValueError(
                f"the System has {positions.size(0)} particles, but the force acts on particle {self.needed - 1}: "
                "pass the topology of this System to openmm_force"
            )
        energy, forces = self.form(positions.index_select(0, self.indices), box)
        return energy, torch.zeros_like(positions).index_copy(0, self.indices, forces)


DEFAULT_BOX = 2.0 * np.eye(3)  # nm; the box of a System whose box was never set
UNSET_BOX = (
    "the System has OpenMM's default box of 2 nm, not the box of the topology: call "
    "system.setDefaultPeriodicBoxVectors(*topology.getPeriodicBoxVectors())"
)


class BoxCheck(nn.Module):
    """Module that refuses OpenMM's default box in the first call of the OpenMM form."""

    default: Tensor

    def __init__(self, form: nn.Module) -> None:
        super().__init__()
        self.form = form
        self.message = UNSET_BOX
        self.checked = False
        self.register_buffer("default", torch.tensor(DEFAULT_BOX))

    def forward(self, positions: Tensor, box: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the energy () in kJ/mol and forces (N, 3) in kJ/mol/nm for positions (N, 3) in nm."""
        if not self.checked:
            if box is not None and torch.equal(box.to(self.default), self.default):
                raise ValueError(self.message)
            self.checked = True
        energy, forces = self.form(positions, box)
        return energy, forces
