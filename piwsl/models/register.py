"""Networks by name, and a potential from its configuration."""

from collections.abc import Callable, Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from piwsl.errors import ConfigError
from piwsl.models.neighbor_sums.edge_list import NeighborSums
from piwsl.models.networks.ace import ACE
from piwsl.models.networks.painn import DirectPaiNN, PaiNN
from piwsl.models.networks.schnet import SchNet
from piwsl.models.networks.tensornet import TensorNet
from piwsl.models.potential import DirectPotential, Potential

NETWORKS: dict[str, type[PaiNN] | type[SchNet] | type[TensorNet] | type[ACE]] = {
    "painn": PaiNN,
    "schnet": SchNet,
    "tensornet": TensorNet,
    "ace": ACE,
}
WITH_FORCE_HEAD: dict[str, type[DirectPaiNN]] = {"painn": DirectPaiNN}


class ModelConfig(BaseModel):
    """Which energy network, and how large."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: Literal["painn", "schnet", "tensornet", "ace"] = Field("painn", description="energy network")
    cutoff: float = Field(5.0, gt=0.5, le=20.0, description="range of the interaction [A]")
    channels: int = Field(64, ge=4, le=1024, multiple_of=2, description="features of an atom")
    layers: int = Field(3, ge=1, le=12, description="interaction layers")
    radial_size: int = Field(20, ge=2, le=256, description="number of radial functions")
    radial: Literal["bessel", "gaussian"] = Field("bessel", description="radial functions")
    forces: Literal["conservative", "direct"] = Field(
        "conservative", description="gradient of the energy, or a head of their own (painn)"
    )


def build_network(config: ModelConfig, pairs: NeighborSums | None = None) -> nn.Module:
    """A new network; ``pairs`` says how sums over neighbors are taken (edge lists by default).

    Raises:
        ConfigError: direct forces of a network that has no force head.
    """
    networks: Mapping[str, Callable[..., nn.Module]] = WITH_FORCE_HEAD if config.forces == "direct" else NETWORKS
    if config.network not in networks:
        raise ConfigError(
            f"model.forces: {config.network} has no force head: choose conservative, or network "
            f"{' or '.join(WITH_FORCE_HEAD)}"
        )
    return networks[config.network](
        cutoff=config.cutoff,
        channels=config.channels,
        layers=config.layers,
        radial_size=config.radial_size,
        radial=config.radial,
        pairs=pairs,
    )


def build_potential(
    config: ModelConfig,
    reference_energies: dict[int, float],
    scale: float = 1.0,
    pairs: NeighborSums | None = None,
) -> Potential:
    """A new potential for the elements of ``reference_energies`` (eV), with ``scale`` eV per unit of its network."""
    kind = DirectPotential if config.forces == "direct" else Potential
    network = build_network(config, pairs)
    return kind(network, list(reference_energies), list(reference_energies.values()), scale)
