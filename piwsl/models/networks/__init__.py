"""Energy networks, one per module, and the layers they share."""

from piwsl.models.networks.ace import ACE
from piwsl.models.networks.painn import DirectPaiNN, PaiNN
from piwsl.models.networks.schnet import SchNet
from piwsl.models.networks.tensornet import TensorNet
from piwsl.models.register import register_network

register_network("painn", PaiNN, direct=DirectPaiNN)
register_network("schnet", SchNet)
register_network("tensornet", TensorNet)
register_network("ace", ACE)
