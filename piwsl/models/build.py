"""Networks by name, and a potential from its configuration."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from piwsl.models.painn import PaiNN
from piwsl.models.pairs import AllPairs, EdgeList
from piwsl.models.potential import Potential
from piwsl.models.schnet import SchNet

NETWORKS: dict[str, type[PaiNN] | type[SchNet]] = {"painn": PaiNN, "schnet": SchNet}


class ModelConfig(BaseModel):
    """Which energy network, and how large."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: Literal["painn", "schnet"] = Field("painn", description="energy network")
    cutoff: float = Field(5.0, gt=0.5, le=20.0, description="range of the interaction [A]")
    channels: int = Field(64, ge=4, le=1024, multiple_of=2, description="features of an atom")
    layers: int = Field(3, ge=1, le=12, description="interaction layers")
    radial_size: int = Field(20, ge=2, le=256, description="number of radial functions")
    radial: Literal["bessel", "gaussian"] = Field("bessel", description="radial functions")


def build_network(config: ModelConfig, pairs: EdgeList | AllPairs | None = None) -> nn.Module:
    """A new energy network; ``pairs`` says how sums over neighbours are taken (edge lists by default)."""
    return NETWORKS[config.network](
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
    pairs: EdgeList | AllPairs | None = None,
) -> Potential:
    """A new potential for the elements of ``reference_energies`` (eV), with ``scale`` eV per unit of its network."""
    network = build_network(config, pairs)
    return Potential(network, list(reference_energies), list(reference_energies.values()), scale)
