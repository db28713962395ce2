"""Potentials, energy networks, and the registry of networks.

A potential maps graphs of atoms to energies and forces. `build_potential` builds a potential from a `ModelConfig`, and
`register_network` makes your own network available in configurations.
"""

from typing import TYPE_CHECKING

from piwsl._lazy import attach

if TYPE_CHECKING:
    from piwsl.models.build import ModelConfig, build_network, build_potential
    from piwsl.models.neighbor_sums.edge_list import EdgeList
    from piwsl.models.networks.ace import ACE
    from piwsl.models.networks.painn import DirectPaiNN, PaiNN
    from piwsl.models.networks.radial import BesselBasis, GaussianBasis, PolynomialCutoff, RadialFeatures
    from piwsl.models.networks.schnet import SchNet
    from piwsl.models.networks.tensornet import TensorNet
    from piwsl.models.potential import DirectPotential, Potential
    from piwsl.models.register import import_modules, register_network, registered_network, registered_networks

__all__ = [
    "ACE",
    "BesselBasis",
    "DirectPaiNN",
    "DirectPotential",
    "EdgeList",
    "GaussianBasis",
    "ModelConfig",
    "PaiNN",
    "PolynomialCutoff",
    "Potential",
    "RadialFeatures",
    "SchNet",
    "TensorNet",
    "build_network",
    "build_potential",
    "import_modules",
    "register_network",
    "registered_network",
    "registered_networks",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "ACE": "networks.ace",
        "BesselBasis": "networks.radial",
        "DirectPaiNN": "networks.painn",
        "DirectPotential": "potential",
        "EdgeList": "neighbor_sums.edge_list",
        "GaussianBasis": "networks.radial",
        "ModelConfig": "build",
        "PaiNN": "networks.painn",
        "PolynomialCutoff": "networks.radial",
        "Potential": "potential",
        "RadialFeatures": "networks.radial",
        "SchNet": "networks.schnet",
        "TensorNet": "networks.tensornet",
        "build_network": "build",
        "build_potential": "build",
        "import_modules": "register",
        "register_network": "register",
        "registered_network": "register",
        "registered_networks": "register",
    },
)
