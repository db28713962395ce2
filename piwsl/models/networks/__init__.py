"""Energy networks, one per module, and shared layers.

Each built-in network has a module in this package and an entry in `BUILT_IN`.
"""

from piwsl.models.networks.ace import ACE
from piwsl.models.networks.equiformer_v2 import DirectEquiformerV2, EquiformerV2
from piwsl.models.networks.escn import ESCN, DirectESCN
from piwsl.models.networks.mace import MACE
from piwsl.models.networks.painn import DirectPaiNN, PaiNN
from piwsl.models.networks.schnet import SchNet
from piwsl.models.networks.so3lr import SO3LR
from piwsl.models.networks.spinconv import DirectSpinConv, SpinConv
from piwsl.models.networks.tensornet import TensorNet

# Name, energy network, and network with a force head (None if there is no such network).
BUILT_IN = (
    ("painn", PaiNN, DirectPaiNN),
    ("schnet", SchNet, None),
    ("tensornet", TensorNet, None),
    ("ace", ACE, None),
    ("escn", ESCN, DirectESCN),
    ("equiformer_v2", EquiformerV2, DirectEquiformerV2),
    ("spinconv", SpinConv, DirectSpinConv),
    ("so3lr", SO3LR, None),
    ("mace", MACE, None),
)
