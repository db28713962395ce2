"""Terms and displacements that use every kind of operation of the losses."""

from piwsl.losses import (
    PISC,
    PITC,
    Displacement,
    EnergyMAE,
    ForceL2MAE,
    FractionOfNearestNeighbor,
    NoisyNode,
    StressMAE,
    TaylorLabels,
    TowardsDisagreement,
    TowardsEnergyError,
    TowardsForceError,
)

TERMS = [EnergyMAE(), ForceL2MAE(), StressMAE(), PITC(), PISC(0.0), NoisyNode(), TaylorLabels()]
DISPLACEMENTS = [
    Displacement(draw_length=True, probability=0.7),
    Displacement(TowardsForceError(), FractionOfNearestNeighbor(0.1)),
    Displacement(TowardsEnergyError(), remove="rigid"),
    Displacement(TowardsDisagreement(), norm="structure", remove="translation"),
]
