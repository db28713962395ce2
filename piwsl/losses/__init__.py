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
from piwsl.losses.lengths import FixedLength, FractionOfNearestNeighbor
from piwsl.losses.objective import Objective
from piwsl.losses.points import PointPredictions
from piwsl.losses.randomness import FrameRandom
from piwsl.losses.schedules import Cosine, Linear, Step
from piwsl.losses.supervised import EnergyMAE, ForceL2MAE, StressMAE
from piwsl.losses.terms import Term, WeightedTerm

__all__ = [
    "PISC",
    "PITC",
    "AbsoluteError",
    "ConsistencyTerm",
    "Cosine",
    "Displacement",
    "EnergyMAE",
    "FixedLength",
    "ForceL2MAE",
    "FractionOfNearestNeighbor",
    "FrameRandom",
    "HuberError",
    "Linear",
    "NoisyNode",
    "Objective",
    "PISCPaths",
    "PITCBack",
    "PointPredictions",
    "RandomDirection",
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
