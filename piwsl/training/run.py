"""A training run, from a configuration to a directory with `model.pt`."""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import torch

from piwsl.export.trained_file import DTYPES, TrainedModel, save_trained
from piwsl.models.neighbor_sums.compiled import training_pairs
from piwsl.models.neighbor_sums.edge_list import use_pairs
from piwsl.models.potential import Potential
from piwsl.runs.config import to_yaml
from piwsl.runs.directory import RunDirectory
from piwsl.runs.files import sha256, write_text
from piwsl.runs.process import process_settings
from piwsl.runs.provenance import listening
from piwsl.runs.summary import iso, provenance
from piwsl.training.config import TrainingConfig
from piwsl.training.data import TrainingFrames, fitting_loss, stored_split, training_frames, with_absolute_sources
from piwsl.training.directory import (
    BEST,
    CONFIG_FILE,
    LOG_FILE,
    MODEL_FILE,
    SPLIT_FILE,
    TRAINING_RUN,
    Continuation,
    TrainingSummary,
    continuation,
)
from piwsl.training.distributed.devices import backend_of, chosen_device
from piwsl.training.distributed.process_group import from_rank_zero, is_rank_zero, rank_zero_first, wait_for_all
from piwsl.training.distributed.processes import launched_processes, process_group
from piwsl.training.evaluate import evaluate_potential
from piwsl.training.fit import Setup, TrainingProgress, fit
from piwsl.training.loader import share_of_process
from piwsl.training.metrics import Errors
from piwsl.training.objective import build_objective
from piwsl.training.start import StartingPoint, starting_potential, with_network_of_start
from piwsl.training.step_memory import step_memory
from piwsl.training.task import DivergedError, TrainingTask

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingResult:
    """What came out: the model file and its errors on validation and test frames."""

    model: Path
    validation: Errors
    test: Errors | None
    seconds: float
    warnings: list[str]


def train(
    config: TrainingConfig,
    output: Path,
    resume: bool = False,
    force: bool = False,
    on_data: Callable[[TrainingFrames], None] | None = None,
    progress: Callable[[TrainingProgress], None] | None = None,
    frames: TrainingFrames | None = None,
) -> TrainingResult:
    """Train a potential; the directory afterwards explains itself.

    Under torchrun or srun all processes call this; the first one writes and calls back. Where one fails all end: the
    first to fail raises its error, the others SystemExit.

    Args:
        config: everything that decides the run.
        output: run directory.
        resume: go on from the newest checkpoint in the directory.
        force: start anew although the directory holds a run.
        on_data: called with the frames before training starts.
        progress: called after every step.
        frames: of the run, where they are at hand: they are not read and split again.

    Raises:
        RunDirectoryError: the directory holds another run, or none to resume, or another process trains there.
        DataError, ConfigError: the frames cannot be used, or the machine lacks what the configuration asks for.
        DivergedError: the loss is no longer finite.
    """
    began = time.perf_counter()
    config = with_network_of_start(with_absolute_sources(config))
    with (
        process_settings(config.threads, config.deterministic),
        process_group(launched_processes(), backend_of(config)) as processes,
    ):
        device = chosen_device(config, processes)
        directory = RunDirectory(output, TRAINING_RUN)
        earlier = from_rank_zero(lambda: continuation(config, output) if resume else directory.check_free(force))
        with rank_zero_first():
            frames = frames or training_frames(config, stored_split(output / SPLIT_FILE) if resume else None)
        setup = Setup(config, frames, output, processes, device, share_of_process(config, frames, processes))
        torch.manual_seed(config.seed)
        start = starting_potential(config, frames)
        task = _task(setup, start.potential)
        memory = step_memory(setup, task.objective, start.potential)
        if memory:
            memory.check()
        if not is_rank_zero():
            with listening(logging.getLogger("piwsl"), logging.NullHandler()):
                return _train(setup, task, start, earlier, None, began)
        directory.create()
        with directory.lock():
            if on_data:
                on_data(frames)
            if earlier is None:
                directory.clear()
            write_text(output / CONFIG_FILE, to_yaml(config))
            write_text(output / SPLIT_FILE, json.dumps(asdict(frames.split)))
            with directory.log():
                for line in [*frames.lines(), f"computed on: {setup.describe_device()}"]:
                    LOGGER.info(line)
                for line in earlier.notes if earlier else ():
                    LOGGER.info(line)
                start.log()
                return _train(setup, task, start, earlier, progress, began)


def _train(
    setup: Setup,
    task: TrainingTask,
    start: StartingPoint,
    earlier: Continuation | None,
    progress: Callable[[TrainingProgress], None] | None,
    began: float,
) -> TrainingResult:
    config, frames, output = setup.config, setup.frames, setup.output
    try:
        fit(setup, task, earlier.checkpoint if earlier else None, progress)
    except DivergedError as error:
        LOGGER.error(str(error))
        raise
    wait_for_all()
    task.potential.load_state_dict(best_weights(output))
    potential = task.potential.requires_grad_(False).eval().to(setup.device)
    dtype = DTYPES[config.weights_dtype]
    validation = evaluate_potential(potential, frames.validation, config.model.cutoff, dtype)
    test = evaluate_potential(potential, frames.test, config.model.cutoff, dtype) if len(frames.test) else None
    seconds = time.perf_counter() - began
    warnings = quality_warnings(validation, task.consistency_share)
    result = TrainingResult(output / MODEL_FILE, validation, test, seconds, warnings)
    if is_rank_zero():
        save_trained(trained_model(config, frames, potential, validation, test, start.origin), result.model)
        _summary(setup, result, start.origin).write(output)
    for warning in warnings:
        LOGGER.warning(warning)
    LOGGER.info(f"done after {seconds:.0f} s: {'; '.join((test or validation).lines())}")
    return result


def _summary(setup: Setup, result: TrainingResult, origin: dict[str, Any] | None) -> TrainingSummary:
    frames = setup.frames
    ended = datetime.now(timezone.utc)
    return TrainingSummary(
        **provenance(("torch", "lightning", "numpy")) | {"started": iso(ended - timedelta(seconds=result.seconds))},
        finished=iso(ended),
        wall_seconds=round(result.seconds, 1),
        computed_on=setup.describe_device(),
        inputs={"data": str(frames.source), "sha256": frames.sha256},
        start=origin,
        frames={"train": len(frames.train), "validation": len(frames.validation), "test": len(frames.test)},
        data_report=frames.report.lines(),
        seed=setup.config.seed,
        validation=result.validation,
        test=result.test,
        warnings=result.warnings,
        outputs={"model": MODEL_FILE, "config": CONFIG_FILE, "split": SPLIT_FILE, "log": LOG_FILE},
        model_sha256=sha256(result.model),
        result="completed",
    )


def _task(setup: Setup, potential: Potential) -> TrainingTask:
    config = setup.config
    use_pairs(potential.network, training_pairs(setup.device, config.mixed_precision))
    objective = build_objective(fitting_loss(config.loss, setup.frames), config.displacement)
    return TrainingTask(potential, objective, config.optimizer, config.seed)


CHECK_FRAMES = 5
FLAT = 0.5  # spread of predicted energies over that of the labels
NOTABLE_SHARE = 0.2


def best_weights(output: Path) -> dict[str, torch.Tensor]:
    """The averaged weights of the best validation."""
    stored = torch.load(output / BEST, map_location="cpu", weights_only=True)["state_dict"]
    return {name.removeprefix("potential."): value for name, value in stored.items()}


def quality_warnings(errors: Errors, consistency_share: float) -> list[str]:
    """What the user should know although the run ended well."""
    ratio = errors.energy_spread_ratio
    if ratio is None or ratio >= FLAT:
        return []
    advice = "train longer"
    if consistency_share > NOTABLE_SHARE:
        advice = f"PITC and PISC made up to {consistency_share:.0%} of the loss: lower their coefficients"
    return [f"the predicted energies spread only {ratio:.2f} times as much as the labels: {advice}"]


def trained_model(
    config: TrainingConfig,
    frames: TrainingFrames,
    potential: Potential,
    validation: Errors,
    test: Errors | None,
    origin: dict[str, Any] | None = None,
) -> TrainedModel:
    """The trained file of a run; ``origin`` tells what it started from."""
    step = max(1, len(frames.validation) // CHECK_FRAMES)
    return TrainedModel(
        config=config.model,
        reference_energies={z: float(potential.reference_energies[z]) for z in potential.elements},
        scale=float(potential.scale),
        dtype=config.weights_dtype,
        tensors={name: value.detach().cpu().clone() for name, value in potential.network.state_dict().items()},
        check_frames=frames.validation.frames[::step][:CHECK_FRAMES],
        training={
            "data": frames.source.name,
            "data_sha256": frames.sha256,
            "train_frames": len(frames.train),
            "loss": config.loss.model_dump(),
            "seed": config.seed,
            "labels": {purpose: asdict(counts) for purpose, counts in frames.labels.items()},
            "start": origin,
            "validation": asdict(validation),
            "test": asdict(test) if test else None,
        },
    )
