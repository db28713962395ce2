"""What a potential is taught: supervised terms and label-free consistency terms."""

from piwsl.losses.consistency import PISC, PITC, ConsistencyTerm
from piwsl.losses.displacements import RandomDisplacement
from piwsl.losses.objective import Objective, WeightedTerm
from piwsl.losses.supervised import EnergyMAE, ForceL2MAE, SupervisedTerm

__all__ = [
    "PISC",
    "PITC",
    "ConsistencyTerm",
    "EnergyMAE",
    "ForceL2MAE",
    "Objective",
    "RandomDisplacement",
    "SupervisedTerm",
    "WeightedTerm",
]
