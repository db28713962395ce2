"""Construction of the training objective from a configuration."""

from collections.abc import Sequence
from typing import Literal, TypeGuard

from piwsl.data.frames import Frame
from piwsl.errors import ConfigError
from piwsl.losses import (
    PISC,
    PITC,
    AbsoluteError,
    Displacement,
    EnergyMAE,
    FixedLength,
    ForceL2MAE,
    FractionOfNearestNeighbor,
    HuberError,
    NoisyNode,
    Objective,
    PISCPaths,
    PITCBack,
    RandomDirection,
    SquaredError,
    StressMAE,
    TaylorLabels,
    Teacher,
    TeacherCurvature,
    TeacherForces,
    TeacherPITC,
    Term,
    TowardsDisagreement,
    TowardsEnergyError,
    TowardsForceError,
    WeightedTerm,
)
from piwsl.losses.consistency import ErrorFunction
from piwsl.losses.contrast import ChainSettings, Contrast
from piwsl.losses.directions import Direction
from piwsl.losses.objective import SHAPES, Schedule
from piwsl.losses.predictions import FIRST
from piwsl.losses.spread import EQUAL_WEIGHTS, SpreadWeights
from piwsl.training.config import (
    Coefficient,
    DisplacementConfig,
    LossConfig,
    ScheduleConfig,
    TeacherConfig,
    TrainingConfig,
)


def build_objective(
    config: LossConfig,
    displacement: DisplacementConfig,
    spread: SpreadWeights = EQUAL_WEIGHTS,
    teacher: Teacher | None = None,
    teaching: TeacherConfig = TeacherConfig(),  # noqa: B008  # immutable
) -> Objective:
    """Build the objective of a configuration. Terms that are never active are omitted.

    Args:
        config: Section `loss`.
        displacement: Section `displacement`.
        spread: Weights of the labels by their spread.
        teacher: Teacher of the terms that require one.
        teaching: Section `teacher`.
    """
    form = (config.mixing, _error(config), config.detach, config.per_atom)
    noisy: list[tuple[EnergyMAE | ForceL2MAE, float]] = [
        (EnergyMAE(FIRST, spread), _largest(config.energy)),
        (ForceL2MAE(FIRST, spread), _largest(config.forces)),
    ]
    terms: list[tuple[Term, Coefficient | None]] = [
        (EnergyMAE(spread=spread), config.energy),
        (ForceL2MAE(spread=spread), config.forces),
        (StressMAE(), config.stress),
        (PITC(*form), config.pitc),
        (PISC(*form), config.pisc),
        (PITCBack(*form), config.pitc_back),
        (PISCPaths(*form), config.pisc_paths),
        (NoisyNode([(term, weight) for term, weight in noisy if weight > 0]), config.noisy_node),
        (TaylorLabels(), config.taylor_labels),
    ]
    if teacher is not None:
        everywhere = teaching.frames == "all"
        along = TeacherPITC(everywhere, teaching.target, _error(config), config.per_atom)
        terms += [
            (TeacherForces(everywhere), config.teacher_forces),
            (along, config.teacher_pitc),
            (TeacherCurvature(everywhere), config.teacher_curvature),
        ]
    return Objective(
        terms=[WeightedTerm(term, _schedule(coefficient)) for term, coefficient in terms if is_active(coefficient)],
        displacement=build_displacement(displacement),
        cadence=config.cadence,
        warmup=config.warmup,
        teacher=teacher,
    )


def build_contrast(config: TrainingConfig, frames: Sequence[Frame], rank: int, processes: int) -> Contrast | None:
    """Build the contrast with the dynamics of the model; None if its coefficient is never positive.

    Raises:
        ConfigError: The temperature is missing, or the forces are direct, so that dynamics has no distribution.
    """
    if not is_active(config.loss.contrast):
        return None
    settings = config.contrast
    if settings.temperature is None:
        raise ConfigError("loss.contrast: set contrast.temperature to the temperature of the training frames, in K")
    if config.model.forces == "direct":
        raise ConfigError("loss.contrast: direct forces have no energy distribution: set model.forces: conservative")
    return Contrast(
        frames,
        ChainSettings(settings.chains, settings.temperature, settings.timestep, settings.friction, settings.lifetime),
        config.model.cutoff,
        config.seed,
        _schedule(config.loss.contrast),
        rank,
        processes,
    )


def monitored_loss(config: LossConfig, monitor: Literal["loss", "energy", "forces"]) -> LossConfig:
    """Return the loss whose supervised terms are the validation loss of ``optimizer.monitor``.

    Args:
        config: Loss configuration, without the terms whose labels are missing in the training frames.
        monitor: Value of ``optimizer.monitor``.
    """
    if monitor == "loss":
        return config
    others = dict.fromkeys(("energy", "forces", "stress", "teacher_forces", "teacher_curvature"), 0.0)
    return config.model_copy(update={**others, monitor: 1.0})


def build_displacement(config: DisplacementConfig) -> Displacement:
    """Build the displacement rule of a configuration."""
    directions: dict[str, Direction] = {
        "normal": RandomDirection("normal"),
        "uniform": RandomDirection("uniform"),
        "force_error": TowardsForceError(),
        "energy_error": TowardsEnergyError(),
        "disagreement": TowardsDisagreement(),
    }
    # For an absolute length, the cap depends on the frames. `check_displacement` compares them.
    length = (
        FixedLength(config.length)
        if config.measure == "absolute"
        else FractionOfNearestNeighbor(config.length, config.cap)
    )
    return Displacement(
        direction=directions[config.direction],
        length=length,
        norm=config.norm,
        draw_length=config.draw_length,
        probability=config.probability,
        remove=config.remove,
    )


def is_active(coefficient: Coefficient | None) -> TypeGuard[Coefficient]:
    """Return whether a coefficient is positive at any step. An empty one is not."""
    return coefficient is not None and _largest(coefficient) > 0


def _largest(coefficient: Coefficient) -> float:
    return max(coefficient.first, coefficient.last) if isinstance(coefficient, ScheduleConfig) else coefficient


def _schedule(coefficient: Coefficient) -> float | Schedule:
    if not isinstance(coefficient, ScheduleConfig):
        return coefficient
    return SHAPES[coefficient.shape](coefficient.first, coefficient.last, coefficient.begin, coefficient.end)


def _error(config: LossConfig) -> ErrorFunction:
    if config.error == "huber":
        return HuberError(config.huber_delta)
    return AbsoluteError() if config.error == "mae" else SquaredError()
