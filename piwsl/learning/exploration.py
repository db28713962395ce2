"""Dynamics of a model at the target temperature and above, in which structures are found."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms

from piwsl.learning.directory import SurvivalRecord
from piwsl.learning.dynamics import Harvest, harvest, replica_protocol, replicas_of, survival_of
from piwsl.learning.settings import LearnSettings
from piwsl.md.run import MDRun

LOGGER = logging.getLogger(__name__)
_SEEDS_PER_STAGE = 1000
_SEEDS_PER_TEMPERATURE = 100


@dataclass(frozen=True)
class Explored:
    """Dynamics of a model at one temperature: the run, the survival of its replicas, and their frames."""

    run: MDRun
    survival: SurvivalRecord
    harvest: Harvest


def explore(
    structure: Atoms,
    name: str,
    model: Path,
    settings: LearnSettings,
    stage: int,
    folder: Path,
    progress: bool | None = None,
) -> list[Explored]:
    """Run replicas of a model at all temperatures, or continue after an interruption.

    Args:
        structure: Start structure.
        name: Name of the system.
        model: Trained file.
        settings: Settings of the job.
        stage: Number of the stage, which determines the seeds.
        folder: Directory of the stage.
        progress: Show progress bars.
    """
    wanted = settings.explore
    explored = []
    for place, factor in enumerate(wanted.temperature_factors):
        protocol = replica_protocol(
            settings,
            factor * settings.temperature,
            wanted.picoseconds,
            wanted.replicas,
            wanted.frame_interval,
            settings.seed + _SEEDS_PER_STAGE * stage + _SEEDS_PER_TEMPERATURE * place,
        )
        LOGGER.info(f"dynamics  {wanted.replicas} replicas of {wanted.picoseconds:g} ps at {protocol.temperature} K")
        output = folder / f"dynamics-{place + 1}"
        run = replicas_of(structure, model, protocol, output, name, settings.replicas_scheduler, progress)
        explored.append(Explored(run, survival_of(run), harvest(run, structure)))
        LOGGER.info(f"dynamics  {explored[-1].survival.text()}")
    return explored


def warn_of_breaking(explored: Sequence[Explored], temperature: float) -> None:
    """Warn if the molecule breaks at the target temperature or below.

    Args:
        explored: Dynamics of a model.
        temperature: Target temperature, K.
    """
    for one in explored:
        if one.survival.temperature > temperature or one.survival.complete:
            continue
        broken = next(replica for replica in one.run.summary.replicas or [] if replica.stop is not None)
        message = broken.stop.message if broken.stop else ""
        LOGGER.warning(
            f"{one.survival.text()}, with the present model ({message}; {one.run.directory / broken.directory}): "
            "if the final model breaks too, lower the temperature"
        )
