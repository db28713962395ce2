"""What a potential is taught: supervised terms, label-free consistency terms, baselines."""

from piwsl.losses.baselines import NoisyNode, TaylorLabels
from piwsl.losses.consistency import PISC, PITC, ConsistencyTerm, PISCPaths, PITCBack
from piwsl.losses.directions import (
    RandomDirection,
    TowardsDisagreement,
    TowardsEnergyError,
    TowardsForceError,
    unit_vectors,
)
from piwsl.losses.displacements import Displacement
from piwsl.losses.errors import AbsoluteError, HuberError, SquaredError
from piwsl.losses.lengths import Absolute, NearestNeighbourShare
from piwsl.losses.objective import Objective
from piwsl.losses.points import Points
from piwsl.losses.randomness import Randomness
from piwsl.losses.schedules import Cosine, Linear, Step
from piwsl.losses.supervised import EnergyMAE, ForceL2MAE, StressMAE
from piwsl.losses.terms import Term, WeightedTerm

__all__ = [
    "PISC",
    "PITC",
    "Absolute",
    "AbsoluteError",
    "ConsistencyTerm",
    "Cosine",
    "Displacement",
    "EnergyMAE",
    "ForceL2MAE",
    "HuberError",
    "Linear",
    "NearestNeighbourShare",
    "NoisyNode",
    "Objective",
    "PISCPaths",
    "PITCBack",
    "Points",
    "RandomDirection",
    "Randomness",
    "SquaredError",
    "Step",
    "StressMAE",
    "TaylorLabels",
    "Term",
    "TowardsDisagreement",
    "TowardsEnergyError",
    "TowardsForceError",
    "WeightedTerm",
    "unit_vectors",
]
