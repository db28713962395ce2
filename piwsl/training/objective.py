"""The objective that a configuration describes."""

from piwsl.losses import PISC, PITC, EnergyMAE, ForceL2MAE, Objective, RandomDisplacement, WeightedTerm
from piwsl.losses.consistency import ConsistencyTerm
from piwsl.losses.supervised import SupervisedTerm
from piwsl.training.sections import Coefficient, DisplacementConfig, LossConfig, ScheduleConfig


def _number(coefficient: Coefficient) -> float:
    return coefficient.last if isinstance(coefficient, ScheduleConfig) else coefficient


def build_objective(config: LossConfig, displacement: DisplacementConfig) -> Objective:
    """The objective that a configuration describes; terms with coefficient zero are left out."""
    supervised: list[WeightedTerm[SupervisedTerm]] = [
        WeightedTerm(EnergyMAE(), _number(config.energy)),
        WeightedTerm(ForceL2MAE(), _number(config.forces)),
    ]
    mixing, detach, per_atom = config.mixing, config.detach, config.per_atom
    consistency: list[WeightedTerm[ConsistencyTerm]] = [
        WeightedTerm(PITC(mixing, detach, per_atom), _number(config.pitc)),
        WeightedTerm(PISC(mixing, detach, per_atom), _number(config.pisc)),
    ]
    return Objective(
        supervised=[weighted for weighted in supervised if weighted.coefficient > 0],
        consistency=[weighted for weighted in consistency if weighted.coefficient > 0],
        displacement=RandomDisplacement(displacement.length, draw_length=displacement.draw_length),
        cadence=config.cadence,
        warmup=config.warmup,
    )
