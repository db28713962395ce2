"""Loss terms: supervised terms, label-free consistency terms (PITC, PISC), and baselines.

Each term computes one value per structure from the `PointPredictions` of a structure and its displaced copies.
`PointPredictions.of` converts the predictions of any model, so that the terms can be used in any training loop.
`Objective` combines terms for the potentials of piwsl.
"""

from typing import TYPE_CHECKING

from piwsl._lazy import attach

if TYPE_CHECKING:
    from piwsl.losses.baselines import NoisyNode, TaylorLabels
    from piwsl.losses.consistency import (
        PISC,
        PITC,
        AbsoluteError,
        ConsistencyTerm,
        HuberError,
        PISCPaths,
        PITCBack,
        SquaredError,
    )
    from piwsl.losses.directions import (
        FrameRandom,
        RandomDirection,
        TowardsDisagreement,
        TowardsEnergyError,
        TowardsForceError,
        unit_vectors,
    )
    from piwsl.losses.displacements import Displacement, FixedLength, FractionOfNearestNeighbor
    from piwsl.losses.evaluation import evaluate
    from piwsl.losses.objective import Cosine, Linear, Objective, Step, Term, WeightedTerm
    from piwsl.losses.predictions import PointPredictions, Prediction, PredictionRequest, Work
    from piwsl.losses.spread import SpreadWeights
    from piwsl.losses.supervised import EnergyMAE, ForceL2MAE, StressMAE
    from piwsl.losses.teacher import Teacher, TeacherCurvature, TeacherForces, TeacherPITC

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
    "Prediction",
    "PredictionRequest",
    "RandomDirection",
    "SpreadWeights",
    "SquaredError",
    "Step",
    "StressMAE",
    "TaylorLabels",
    "Teacher",
    "TeacherCurvature",
    "TeacherForces",
    "TeacherPITC",
    "Term",
    "TowardsDisagreement",
    "TowardsEnergyError",
    "TowardsForceError",
    "WeightedTerm",
    "Work",
    "evaluate",
    "unit_vectors",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "PISC": "consistency",
        "PITC": "consistency",
        "AbsoluteError": "consistency",
        "ConsistencyTerm": "consistency",
        "Cosine": "objective",
        "Displacement": "displacements",
        "EnergyMAE": "supervised",
        "FixedLength": "displacements",
        "ForceL2MAE": "supervised",
        "FractionOfNearestNeighbor": "displacements",
        "FrameRandom": "directions",
        "HuberError": "consistency",
        "Linear": "objective",
        "NoisyNode": "baselines",
        "Objective": "objective",
        "PISCPaths": "consistency",
        "PITCBack": "consistency",
        "PointPredictions": "predictions",
        "Prediction": "predictions",
        "PredictionRequest": "predictions",
        "RandomDirection": "directions",
        "SpreadWeights": "spread",
        "SquaredError": "consistency",
        "Step": "objective",
        "StressMAE": "supervised",
        "TaylorLabels": "baselines",
        "Teacher": "teacher",
        "TeacherCurvature": "teacher",
        "TeacherForces": "teacher",
        "TeacherPITC": "teacher",
        "Term": "objective",
        "TowardsDisagreement": "directions",
        "TowardsEnergyError": "directions",
        "TowardsForceError": "directions",
        "WeightedTerm": "objective",
        "Work": "predictions",
        "evaluate": "evaluation",
        "unit_vectors": "directions",
    },
)
