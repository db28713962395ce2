"""A training run, from a configuration to a directory with `model.pt`."""

import json
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from piwsl.data.files import write_text
from piwsl.data.reference_energies import fit_reference_energies
from piwsl.export.trained import DTYPES, TrainedModel, save_trained
from piwsl.models.build import build_potential
from piwsl.provenance import log_to_file
from piwsl.training.batches import Batches
from piwsl.training.callbacks import AtomicCheckpointIO, AveragedWeights, ProgressCallback, TrainingProgress
from piwsl.training.config import dump, with_absolute_paths
from piwsl.training.directory import (
    BEST,
    CHECKPOINTS,
    CONFIG_FILE,
    LOG_FILE,
    MODEL_FILE,
    SPLIT_FILE,
    check_free,
    checkpoint_to_continue,
    metrics_name,
    prepare,
    write_summary,
)
from piwsl.training.evaluate import evaluate_potential
from piwsl.training.memory import keep_freed_memory
from piwsl.training.metrics import Errors
from piwsl.training.objective import build_objective
from piwsl.training.sections import TrainingConfig
from piwsl.training.sources import TrainingFrames, training_frames
from piwsl.training.task import LOGGER, DivergedError, TrainingTask

CHECK_FRAMES = 5
FLAT = 0.5  # spread of predicted energies over that of the labels
NOTABLE_SHARE = 0.2


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
) -> TrainingResult:
    """Train a potential; the directory afterwards explains itself.

    Args:
        config: everything that decides the run.
        output: run directory.
        resume: go on from the newest checkpoint in the directory.
        force: start anew although the directory holds a run.
        on_data: called with the frames before training starts.
        progress: called after every step.

    Raises:
        RunDirectoryError: the directory holds another run, or none to resume.
        DataError, ConfigError: the frames cannot be used.
        DivergedError: the loss is no longer finite.
    """
    start = time.perf_counter()
    config = with_absolute_paths(config)
    checkpoint = checkpoint_to_continue(config, output) if resume else None
    if not resume:
        check_free(output, force)
    if config.threads:
        torch.set_num_threads(config.threads)
    keep_freed_memory()
    frames = training_frames(config.data, config.loss, config.seed)
    if on_data:
        on_data(frames)
    if not resume:
        prepare(output)
    write_text(output / CONFIG_FILE, dump(config))
    write_text(output / SPLIT_FILE, json.dumps(asdict(frames.split)))
    with log_to_file(LOGGER, output / LOG_FILE):
        for line in frames.report.lines():
            LOGGER.info(line)
        return _train(config, frames, output, checkpoint, progress, start)


def _train(
    config: TrainingConfig,
    frames: TrainingFrames,
    output: Path,
    checkpoint: Path | None,
    progress: Callable[[TrainingProgress], None] | None,
    start: float,
) -> TrainingResult:
    task = _task(config, frames)
    try:
        _fit(config, frames, task, output, checkpoint, progress)
    except DivergedError as error:
        LOGGER.error(str(error))
        raise
    best = _best_weights(task, output)
    task.potential.load_state_dict(best)
    potential = task.potential.requires_grad_(False).eval()
    dtype = DTYPES[config.weights_dtype]
    validation = evaluate_potential(potential, frames.validation, config.model.cutoff, dtype)
    test = evaluate_potential(potential, frames.test, config.model.cutoff, dtype) if len(frames.test) else None
    seconds = time.perf_counter() - start
    found = _doubts(validation, task.consistency_share)
    model = _trained_model(config, frames, task, validation, test)
    save_trained(model, output / MODEL_FILE)
    write_summary(config, frames, output, validation, test, seconds, found)
    for warning in found:
        LOGGER.warning(warning)
    LOGGER.info(f"done after {seconds:.0f} s: {'; '.join((test or validation).lines())}")
    return TrainingResult(output / MODEL_FILE, validation, test, seconds, found)


def _task(config: TrainingConfig, frames: TrainingFrames) -> TrainingTask:
    torch.manual_seed(config.seed)
    elements = sorted({*frames.train.elements, *frames.validation.elements})
    scale = frames.report.force_rms or frames.report.energy_spread or 1.0
    potential = build_potential(config.model, fit_reference_energies(frames.train, elements), scale)
    potential.network.to(DTYPES[config.weights_dtype])
    return TrainingTask(potential, build_objective(config.loss, config.displacement), config.optimiser, config.seed)


def _fit(
    config: TrainingConfig,
    frames: TrainingFrames,
    task: TrainingTask,
    output: Path,
    checkpoint: Path | None,
    progress: Callable[[TrainingProgress], None] | None,
) -> None:
    optimiser = config.optimiser
    interval = min(optimiser.validation_interval, optimiser.steps)
    callbacks: list[Callback] = [
        AveragedWeights(optimiser.ema_decay),
        _checkpoint(output, "best", monitor="validation/loss"),
        _checkpoint(output, "last", monitor=None),
    ]
    if optimiser.patience:
        callbacks.append(EarlyStopping("validation/loss", patience=optimiser.patience))
    if progress:
        callbacks.append(ProgressCallback(progress))
    loggers: list[Logger] = [CSVLogger(output, name="", version=metrics_name(output))]
    if find_spec("tensorboard"):
        loggers.append(TensorBoardLogger(output, name="", version="tensorboard"))
    with _quiet_lightning():
        trainer = Trainer(
            max_steps=optimiser.steps,
            max_epochs=-1,
            accelerator="auto",
            devices=1,
            callbacks=callbacks,
            logger=loggers,
            plugins=[AtomicCheckpointIO()],
            gradient_clip_val=optimiser.gradient_clip,
            log_every_n_steps=min(50, interval),
            num_sanity_val_steps=0,
            reload_dataloaders_every_n_epochs=1,
            inference_mode=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        batches = Batches(frames, config, task.objective.margin, lambda: task.global_step)
        try:
            trainer.fit(task, datamodule=batches, ckpt_path=checkpoint, weights_only=True)
        except SystemExit:  # what Lightning makes of Ctrl-C
            raise KeyboardInterrupt from None


def _checkpoint(output: Path, name: str, monitor: str | None) -> ModelCheckpoint:
    """A checkpoint at the end of an epoch: there a resumed run starts with whole batches."""
    return ModelCheckpoint(
        output / CHECKPOINTS,
        filename=name,
        monitor=monitor,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )


def _best_weights(task: TrainingTask, output: Path) -> dict[str, torch.Tensor]:
    """The averaged weights of the best validation."""
    stored = torch.load(output / BEST, map_location="cpu", weights_only=True)["state_dict"]
    return {name.removeprefix("potential."): value for name, value in stored.items()}


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Lightning's own messages go; what a user needs to know is said by the command line."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # The last epoch may be short.
        warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
        warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
        warnings.filterwarnings("ignore", message=".*Experiment logs directory .* exists and is not empty.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning against torch >= 2.10
        # A resumed run ends the epoch of its checkpoint once more, without new metrics.
        warnings.filterwarnings("ignore", message=".*could not find the monitored key.*")
        # Chained schedulers pass the epoch on in a way that torch itself deprecates.
        warnings.filterwarnings("ignore", message=".*epoch parameter in `scheduler.step.*")
        try:
            yield
        finally:
            logger.setLevel(level)


def _doubts(errors: Errors, consistency_share: float) -> list[str]:
    """What the user should know although the run ended well."""
    ratio = errors.energy_spread_ratio
    if ratio is None or ratio >= FLAT:
        return []
    advice = "train longer"
    if consistency_share > NOTABLE_SHARE:
        advice = f"PITC and PISC made up to {consistency_share:.0%} of the loss: lower their coefficients"
    return [f"the predicted energies spread only {ratio:.2f} times as much as the labels: {advice}"]


def _trained_model(
    config: TrainingConfig, frames: TrainingFrames, task: TrainingTask, validation: Errors, test: Errors | None
) -> TrainedModel:
    potential = task.potential
    elements = potential.elements
    step = max(1, len(frames.validation) // CHECK_FRAMES)
    return TrainedModel(
        config=config.model,
        reference_energies={z: float(potential.reference_energies[z]) for z in elements},
        scale=float(potential.scale),
        dtype=config.weights_dtype,
        tensors={name: value.detach().clone() for name, value in potential.network.state_dict().items()},
        check_frames=frames.validation.frames[::step][:CHECK_FRAMES],
        training={
            "data": frames.source.name,
            "data_sha256": frames.sha256,
            "train_frames": len(frames.train),
            "loss": config.loss.model_dump(),
            "seed": config.seed,
            "validation": asdict(validation),
            "test": asdict(test) if test else None,
        },
    )
