"""A training run, from a configuration to a directory with `model.pt`."""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from piwsl.export.trained_file import DTYPES, TrainedModel, save_trained
from piwsl.models.neighbor_sums.compiled import training_pairs
from piwsl.models.neighbor_sums.edge_list import use_pairs
from piwsl.models.potential import Potential
from piwsl.runs.config import to_yaml
from piwsl.runs.files import write_text
from piwsl.runs.lock import locked
from piwsl.runs.process import process_settings
from piwsl.runs.provenance import listening, log_to_file
from piwsl.training.checks import fitting_loss
from piwsl.training.config import TrainingConfig
from piwsl.training.data import TrainingFrames
from piwsl.training.directory import (
    BEST,
    CONFIG_FILE,
    LOG_FILE,
    MODEL_FILE,
    SPLIT_FILE,
    Continuation,
    check_free,
    clear,
    continuation,
    make,
    write_summary,
)
from piwsl.training.distributed.devices import backend_of, chosen_device
from piwsl.training.distributed.process_group import from_rank_zero, is_rank_zero, rank_zero_first, wait_for_all
from piwsl.training.distributed.processes import joined, launched_processes
from piwsl.training.evaluate import evaluate_potential
from piwsl.training.fit import TrainingProgress, fit
from piwsl.training.loader import share_of_process
from piwsl.training.metrics import Errors
from piwsl.training.objective import build_objective
from piwsl.training.setup import Setup
from piwsl.training.sources import stored_split, training_frames, with_absolute_sources
from piwsl.training.start import starting_potential, with_network_of_start
from piwsl.training.step_memory import step_memory
from piwsl.training.task import LOGGER, DivergedError, TrainingTask


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
    start = time.perf_counter()
    config = with_network_of_start(with_absolute_sources(config))
    with (
        process_settings(config.threads, config.deterministic),
        joined(launched_processes(), backend_of(config)) as processes,
    ):
        device = chosen_device(config, processes)
        earlier = from_rank_zero(lambda: continuation(config, output) if resume else check_free(output, force))
        with rank_zero_first():
            frames = frames or training_frames(config, stored_split(output / SPLIT_FILE) if resume else None)
        setup = Setup(config, frames, output, processes, device, share_of_process(config, frames, processes))
        memory = step_memory(setup)
        if memory:
            memory.check()
        if not is_rank_zero():
            with listening(LOGGER, logging.NullHandler()):
                return _train(setup, earlier, None, start)
        make(output)
        with locked(output):
            if on_data:
                on_data(frames)
            if earlier is None:
                clear(output)
            write_text(output / CONFIG_FILE, to_yaml(config))
            write_text(output / SPLIT_FILE, json.dumps(asdict(frames.split)))
            with log_to_file(LOGGER, output / LOG_FILE):
                for line in [*frames.lines(), f"computed on: {setup.words()}", *(earlier.notes if earlier else ())]:
                    LOGGER.info(line)
                return _train(setup, earlier, progress, start)


def _train(
    setup: Setup, earlier: Continuation | None, progress: Callable[[TrainingProgress], None] | None, start: float
) -> TrainingResult:
    config, frames, output = setup.config, setup.frames, setup.output
    torch.manual_seed(config.seed)
    begin = starting_potential(config, frames)
    task = _task(setup, begin.potential)
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
    seconds = time.perf_counter() - start
    found = quality_warnings(validation, task.consistency_share)
    if is_rank_zero():
        save_trained(trained_model(config, frames, potential, validation, test, begin.origin), output / MODEL_FILE)
        write_summary(setup, validation, test, seconds, found, begin.origin)
    for warning in found:
        LOGGER.warning(warning)
    LOGGER.info(f"done after {seconds:.0f} s: {'; '.join((test or validation).lines())}")
    return TrainingResult(output / MODEL_FILE, validation, test, seconds, found)


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
