"""Energy networks, one per module, and the layers they share.

A built-in network is a module here and an entry of `BUILT_IN`.
"""

from piwsl.models.networks.ace import ACE
from piwsl.models.networks.painn import DirectPaiNN, PaiNN
from piwsl.models.networks.schnet import SchNet
from piwsl.models.networks.tensornet import TensorNet

# Name, energy network, and the network with a force head where there is one.
BUILT_IN = (
    ("painn", PaiNN, DirectPaiNN),
    ("schnet", SchNet, None),
    ("tensornet", TensorNet, None),
    ("ace", ACE, None),
)
