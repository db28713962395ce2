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
    from piwsl.models.networks.equiformer_v2 import DirectEquiformerV2, EquiformerV2
    from piwsl.models.networks.escn import ESCN, DirectESCN
    from piwsl.models.networks.mace import MACE
    from piwsl.models.networks.painn import DirectPaiNN, PaiNN
    from piwsl.models.networks.radial import BesselBasis, GaussianBasis, PolynomialCutoff, RadialFeatures
    from piwsl.models.networks.schnet import SchNet
    from piwsl.models.networks.so3lr import SO3LR
    from piwsl.models.networks.spinconv import DirectSpinConv, SpinConv
    from piwsl.models.networks.tensornet import TensorNet
    from piwsl.models.potential import DirectPotential, Potential
    from piwsl.models.register import import_modules, register_network, registered_network, registered_networks

__all__ = [
    "ACE",
    "ESCN",
    "MACE",
    "SO3LR",
    "BesselBasis",
    "DirectESCN",
    "DirectEquiformerV2",
    "DirectPaiNN",
    "DirectPotential",
    "DirectSpinConv",
    "EdgeList",
    "EquiformerV2",
    "GaussianBasis",
    "ModelConfig",
    "PaiNN",
    "PolynomialCutoff",
    "Potential",
    "RadialFeatures",
    "SchNet",
    "SpinConv",
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
        "MACE": "networks.mace",
        "SO3LR": "networks.so3lr",
        "BesselBasis": "networks.radial",
        "DirectESCN": "networks.escn",
        "DirectEquiformerV2": "networks.equiformer_v2",
        "DirectPaiNN": "networks.painn",
        "DirectPotential": "potential",
        "DirectSpinConv": "networks.spinconv",
        "ESCN": "networks.escn",
        "EdgeList": "neighbor_sums.edge_list",
        "EquiformerV2": "networks.equiformer_v2",
        "GaussianBasis": "networks.radial",
        "ModelConfig": "build",
        "PaiNN": "networks.painn",
        "PolynomialCutoff": "networks.radial",
        "Potential": "potential",
        "RadialFeatures": "networks.radial",
        "SchNet": "networks.schnet",
        "SpinConv": "networks.spinconv",
        "TensorNet": "networks.tensornet",
        "build_network": "build",
        "build_potential": "build",
        "import_modules": "register",
        "register_network": "register",
        "registered_network": "register",
        "registered_networks": "register",
    },
)
