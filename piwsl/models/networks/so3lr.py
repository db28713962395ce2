"""SO3LR: So3krates with nuclear repulsion, electrostatics and dispersion (Kabylda et al., JACS 147, 33723, 2025)."""

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from piwsl.errors import ConfigError
from piwsl.models.networks.electronic import of_structures
from piwsl.models.networks.long_range import Dispersion, Electrostatics, NuclearRepulsion
from piwsl.models.networks.options import Layers, RadialSize
from piwsl.models.networks.radial import edge_lengths
from piwsl.models.networks.so3krates import So3krates
from piwsl.models.networks.spherical import SphericalHarmonics
from piwsl.typing import MAX_ATOMIC_NUMBER, Edges, EdgeVectors, Species, StructureIndex
from piwsl.units import ASE_BOHR


class AtomicHead(nn.Module):
    """One number for each atom, as a function of its features plus a constant of its element."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, 1))
        self.element = nn.Embedding(MAX_ATOMIC_NUMBER + 1, 1)

    def forward(self, species: Species, features: Tensor) -> Tensor:
        """Map species (N,) and features (N, F) to numbers (N,)."""
        numbers: Tensor = (self.network(features) + self.element(species)).squeeze(1)
        return numbers


class EnergyHead(nn.Module):
    """Energy of each atom, as a function of its features times a factor of its element."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, 1))
        self.factor = nn.Embedding(MAX_ATOMIC_NUMBER + 1, 1)
        nn.init.ones_(self.factor.weight)

    def forward(self, species: Species, features: Tensor) -> Tensor:
        """Map species (N,) and features (N, F) to energies (N,)."""
        energies: Tensor = (self.network(features) * self.factor(species)).squeeze(1)
        return energies


class VolumeHead(nn.Module):
    """Ratio between the volumes of an atom and of the free atom, |s + k . q / sqrt(F/2)|.

    The vector k is a function of the features. The element determines s and q.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        width = channels // 2
        self.network = nn.Sequential(nn.Linear(channels, width), nn.SiLU(), nn.Linear(width, width))
        self.query = nn.Embedding(MAX_ATOMIC_NUMBER + 1, width)
        self.shift = nn.Embedding(MAX_ATOMIC_NUMBER + 1, 1)
        nn.init.ones_(self.shift.weight)
        self.norm = width**-0.5

    def forward(self, species: Species, features: Tensor) -> Tensor:
        """Map species (N,) and features (N, F) to ratios (N,)."""
        products = (self.query(species) * self.network(features)).sum(1) * self.norm
        ratios: Tensor = (self.shift(species).squeeze(1) + products).abs()
        return ratios


class SO3LR(nn.Module):
    """SO3LR energy network.

    The second half of the edges must repeat the first half in the other direction, as in all batches and
    neighbor lists of piwsl.

    Args:
        cutoff: Range of electrostatics and dispersion, angstrom.
        message_cutoff: Range of the messages, angstrom.
        channels: Number of invariant features F, a multiple of ``heads`` and of ``degrees``.
        layers: Number of layers.
        heads: Number of attention heads.
        degrees: Largest degree of the Euclidean variables.
        radial_size: Number of radial functions.
        neighbors: Mean number of neighbors within the range of the messages.
        charge_width: Width of the partial charges, angstrom.
        damping: Factor for the damping radius of the dispersion.
        dispersion_switch: Width of the range below the cutoff in which the dispersion is switched off, angstrom.
        charge: Total charge of a structure that states none, e.
        unpaired_electrons: Number of unpaired electrons of a structure that states none.

    Raises:
        ConfigError: ``channels`` is not a multiple of ``heads`` and ``degrees``.
    """

    takes_charge = True
    own_repulsion: ClassVar[bool] = True
    head_weights: ClassVar[tuple[str, ...]] = ("energy", "charges", "volumes")

    def __init__(
        self,
        cutoff: float = 12.0,
        message_cutoff: Annotated[float, Field(gt=0.5, le=20.0, description="range of the messages [A]")] = 4.5,
        channels: Annotated[int, Field(ge=4, le=1024, multiple_of=4, description="features of an atom")] = 128,
        layers: Layers = 3,
        heads: Annotated[int, Field(ge=1, le=64, description="attention heads")] = 4,
        degrees: Annotated[int, Field(ge=1, le=8, description="largest degree of directions")] = 4,
        radial_size: RadialSize = 32,
        neighbors: Annotated[float, Field(gt=0.0, description="mean number of neighbors")] = 13.168995780096482,
        charge_width: Annotated[float, Field(gt=0.0, description="width of partial charges [A]")] = 4.0,
        damping: Annotated[float, Field(gt=0.0, description="factor of the damping radius of dispersion")] = 1.2,
        dispersion_switch: Annotated[float, Field(gt=0.0, description="width of the dispersion switch [A]")] = 2.0,
        charge: Annotated[
            int, Field(ge=-100, le=100, description="total charge of a structure that states none [e]")
        ] = 0,
        unpaired_electrons: Annotated[
            int, Field(ge=0, le=100, description="unpaired electrons of a structure that states none")
        ] = 0,
    ) -> None:
        super().__init__()
        if channels % heads or channels % degrees:
            raise ConfigError(
                f"model.channels: {channels} must be a multiple of heads ({heads}) and of degrees ({degrees})"
            )
        self.cutoff = cutoff
        self.message_cutoff = min(message_cutoff, cutoff)
        self.total_charge = float(charge)
        self.unpaired_electrons = float(unpaired_electrons)
        self.harmonics = SphericalHarmonics(degrees)
        self.transformer = So3krates(
            self.message_cutoff, channels, layers, heads, degrees, radial_size, 0.5 / ASE_BOHR, neighbors
        )
        self.energy = EnergyHead(channels)
        self.charges = AtomicHead(channels)
        self.volumes = VolumeHead(channels)
        self.repulsion = NuclearRepulsion()
        self.electrostatics = Electrostatics(cutoff, charge_width)
        self.dispersion = Dispersion(cutoff, dispersion_switch, damping)

    def forward(
        self,
        species: Species,
        edges: Edges,
        edge_vectors: EdgeVectors,
        structure_index: StructureIndex,
        charge_spin: Tensor,
    ) -> Tensor:
        """Return the energy of each atom (N,), in units of the scale of the potential.

        ``charge_spin`` (S, 2) contains the charge (e) and the number of unpaired electrons of each structure.
        """
        # Filters and pair energies are the same for both directions, so the first half of the edges is sufficient.
        count = edges.shape[1] // 2
        pairs, vectors = edges[:, :count], edge_vectors[:count]
        distances = edge_lengths(vectors)
        near = torch.nonzero(distances < self.message_cutoff).squeeze(1)
        near_pairs, near_distances = pairs.index_select(1, near), distances.index_select(0, near)
        units = vectors.index_select(0, near) / near_distances.unsqueeze(1)
        ones = torch.ones_like(species, dtype=vectors.dtype)
        total_charge, unpaired = charge_spin.index_select(0, structure_index).unbind(1)
        features = self.transformer(
            species,
            torch.cat((near_pairs, near_pairs.flip(0)), dim=1),
            near_distances,
            self.harmonics(units)[:, 1:],
            structure_index,
            total_charge,
            unpaired,
        )
        energies = self.energy(species, features)

        numbers = species.to(vectors.dtype)
        near_numbers = numbers.index_select(0, near_pairs[0]), numbers.index_select(0, near_pairs[1])
        repulsion = self.repulsion(near_numbers[0], near_numbers[1], near_distances)
        repulsion = repulsion * self.transformer.switch(near_distances)
        energies = energies.index_add(0, near_pairs[0], repulsion).index_add(0, near_pairs[1], repulsion)

        charges = self.charges(species, features)
        # All atoms of a structure receive an equal part of the missing charge.
        surplus = total_charge - of_structures(charges, structure_index)
        charges = charges + surplus / of_structures(ones, structure_index)
        far = self.electrostatics(charges.index_select(0, pairs[0]), charges.index_select(0, pairs[1]), distances)
        far = far + self.dispersion(species, self.volumes(species, features), pairs, distances)
        atomic: Tensor = energies.index_add(0, pairs[0], far).index_add(0, pairs[1], far)
        return atomic
