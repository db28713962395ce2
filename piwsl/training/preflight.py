"""Preflight of a training run: report what would be trained, on which data, and at which cost. Nothing is written."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from piwsl.data.batch import collate
from piwsl.data.read import FrameSource
from piwsl.errors import ConfigError, public
from piwsl.export.trained_file import DTYPES
from piwsl.losses import FrameRandom
from piwsl.models import Potential, import_modules
from piwsl.models.levels import named_weights
from piwsl.runs import notebook
from piwsl.runs.directory import RunDirectory
from piwsl.runs.process_settings import process_settings
from piwsl.runs.progress import rough_duration
from piwsl.runs.scratch import scratch_directory
from piwsl.training.blocks import blocks_of_weights
from piwsl.training.config import GAUSS_NEWTON, TrainingConfig, check_seeds
from piwsl.training.data import training_frames
from piwsl.training.directory import TRAINING_RUN
from piwsl.training.distributed.devices import chosen_device
from piwsl.training.distributed.processes import Processes, launched_processes
from piwsl.training.ensemble import ENSEMBLE
from piwsl.training.evaluate import evaluated_batches
from piwsl.training.frames import TrainingFrames
from piwsl.training.gauss_newton import gradient_seconds, plan_gauss_newton
from piwsl.training.inputs import Config, training_inputs
from piwsl.training.loader import VALIDATION_BATCH, batch_counts, training_order
from piwsl.training.lora import LowRank
from piwsl.training.preparation import Preparation, prepare
from piwsl.training.presets import resolved
from piwsl.training.replay import with_replay
from piwsl.training.step_memory import GIGABYTE, StepMemory, fullest_step, step_memory
from piwsl.training.teacher import load_teacher

_TIMED = 2  # timed steps of each kind, after one step in which code is compiled and memory is allocated
_LABEL = 18  # width of the labels in front of the lines


@dataclass(frozen=True)
class TrainingPlan:
    """Plan of a training run.

    Attributes:
        lines: Description of the run, one fact per line.
        warnings: What the user should check before the run starts.
        trained: Number of weights that are trained, by block of the network.
        low_rank: Number of weights in low-rank changes (LoRA), by block of the network.
        fixed: Number of weights that are not trained, by block of the network.
        seconds_per_step: Measured mean duration of a step, s.
        seconds: Estimated duration of the run, s.
        memory: Estimated memory of a step, bytes; None if the system does not report its memory.
    """

    lines: list[str]
    warnings: list[str]
    trained: dict[str, int]
    low_rank: dict[str, int]
    fixed: dict[str, int]
    seconds_per_step: float
    seconds: float
    memory: float | None

    def __repr__(self) -> str:
        weights = f"{sum(self.trained.values()) + sum(self.low_rank.values())} trained weights"
        total = rough_duration(self.seconds)
        return f"TrainingPlan({weights}, {self.seconds_per_step:.3g} s per step, {total} in total)"

    def _repr_html_(self) -> str:
        facts = [(line[:_LABEL].strip(), line[_LABEL:].strip()) for line in self.lines]
        return notebook.block(notebook.facts(facts), notebook.lines(f"warning: {warning}" for warning in self.warnings))


@public
def plan_training(
    data: FrameSource | None = None,
    *,
    config: Config | None = None,
    system: str | None = None,
    units: str | None = None,
    init_from: str | PathLike[str] | None = None,
    seeds: Sequence[int] | None = None,
    output: str | PathLike[str] | None = None,
    force: bool = False,
    options: Mapping[str, Any] | None = None,
) -> TrainingPlan:
    """Return the plan of the run that `piwsl.train` would start with the same arguments; nothing is written.

    A few steps are computed in memory to measure their duration.

    Args:
        data: See `piwsl.train`. Frames in memory require no ``output`` here.
        config: See `piwsl.train`.
        system: See `piwsl.train`.
        units: See `piwsl.train`.
        init_from: See `piwsl.train`.
        seeds: Seeds of an ensemble, see `piwsl.train_ensemble`. The plan describes its first member.
        output: See `piwsl.train`.
        force: See `piwsl.train`.
        options: See `piwsl.train`.

    Raises:
        PiwslError: The run would fail with the same error.
    """
    if launched_processes().count > 1:
        raise ConfigError("a dry run uses one process: start it without torchrun or srun")
    in_memory = data is not None and not isinstance(data, str | PathLike)
    with scratch_directory("train") as scratch:  # for frames in memory
        settings, _, directory = training_inputs(
            data,
            config,
            system=system,
            units=units,
            init_from=init_from,
            output=scratch / "run" if in_memory else output,
            options=options,
        )
        directory = Path(output) if in_memory and output is not None else directory
        if seeds is None:
            return plan_run(settings, directory, force)
        check_seeds(seeds)
        RunDirectory(directory, ENSEMBLE).check_free(force)
        plan = plan_run(settings, directory / "seed-N", force)
        total = len(seeds) * plan.seconds
        members = _line("members", f"{len(seeds)}, about {rough_duration(total)} in total")
        return replace(plan, lines=[*plan.lines, members], seconds=total)


def plan_run(config: TrainingConfig, output: Path, force: bool = False) -> TrainingPlan:
    """Prepare a run with a complete configuration, time a few steps, and return the plan.

    Args:
        config: Complete training configuration.
        output: Run directory.
        force: The run replaces another run in the directory.

    Raises:
        PiwslError: The run would fail with the same error.
    """
    import_modules(config.imports)
    config = resolved(config)
    with process_settings(config.threads, config.deterministic):
        processes = Processes()
        device = chosen_device(config, processes)
        RunDirectory(output, TRAINING_RUN).check_free(force)
        frames = training_frames(config)
        teacher = load_teacher(config, frames.main, frames.level, [level.frames for level in frames.levels])
        prepared = prepare(config, frames, output, processes, device, teacher, most_replay=config.optimizer.batch_size)
        weights = _weights(prepared.start.potential)
        cost = _cost_of_fit(prepared) if config.start.training_method == GAUSS_NEWTON else _cost_of_steps(prepared)
    lines = [line for line in frames.lines() if not line.startswith("warning:")]
    lines += [_line("start", line) for line in prepared.start.lines()]
    lines += [_line(*fact.split(": ", 1)) for fact in prepared.facts]
    lines += _weight_lines(weights)
    lines += [*cost.lines, _line("output", f"{output} (nothing is written in a dry run)")]
    return TrainingPlan(
        lines=lines,
        warnings=[*frames.report.warnings, *advice(config, prepared)],
        trained=weights["trained"],
        low_rank=weights["low-rank"],
        fixed=weights["fixed"],
        seconds_per_step=cost.seconds_per_step,
        seconds=cost.seconds,
        memory=cost.memory,
    )


@dataclass(frozen=True)
class _Cost:
    """Lines about steps, memory and time of a run, and the values in `TrainingPlan`."""

    lines: list[str]
    seconds_per_step: float
    seconds: float
    memory: float | None


def _cost_of_steps(prepared: Preparation) -> _Cost:
    setup = prepared.setup
    memory = step_memory(setup, prepared.task.objective, prepared.start.potential)
    if memory:
        memory.check()
    times = _measured(prepared)
    seconds = times.total(setup.config, prepared)
    lines = [
        _line("steps", _steps(setup.config, setup.frames)),
        _line("memory", _memory_words(memory, setup.device)),
        _line("time of a step", times.words()),
        _line("time in total", f"about {rough_duration(seconds)}{_budget_words(setup.config)}"),
    ]
    return _Cost(lines, times.step(), seconds, memory.needed if memory else None)


def _cost_of_fit(prepared: Preparation) -> _Cost:
    """Return the cost of the largest number of Gauss-Newton steps."""
    plan = plan_gauss_newton(prepared.setup, prepared.start.potential)
    plan.check()
    seconds = plan.energies * gradient_seconds(prepared.setup, prepared.start.potential)
    lines = [
        _line("fit", plan.line),
        _line("time of a step", f"{seconds:.3g} s"),
        _line("time in total", f"at most about {rough_duration(plan.iterations * seconds)}"),
    ]
    return _Cost(lines, seconds, plan.iterations * seconds, plan.needed)


def _line(label: str, text: str) -> str:
    return f"{label:<{_LABEL}} {text}"


def _weights(potential: Potential) -> dict[str, dict[str, int]]:
    """Return the numbers of ``fixed``, ``trained`` and ``low-rank`` weights by block of the network, over all heads."""
    network = potential.network
    blocks = blocks_of_weights(network)
    changes = [module for module in network.modules() if isinstance(module, LowRank)]
    low_rank = {id(weight) for change in changes for weight in change.parameters()}
    counts: dict[str, dict[str, int]] = {"fixed": {}, "trained": {}, "low-rank": {}}
    for name, weight in named_weights(potential):
        kind = "low-rank" if id(weight) in low_rank else "trained" if weight.requires_grad else "fixed"
        block = blocks[name].name
        counts[kind][block] = counts[kind].get(block, 0) + weight.numel()
    return counts


def _weight_lines(weights: dict[str, dict[str, int]]) -> list[str]:
    used = {kind: blocks for kind, blocks in weights.items() if blocks}
    lines = [_line("weights", ", ".join(f"{sum(blocks.values())} {kind}" for kind, blocks in used.items()))]
    for block in dict.fromkeys(block for blocks in used.values() for block in blocks):
        counts = (f"{blocks[block]} {kind}" for kind, blocks in used.items() if block in blocks)
        lines.append(_line(f"  {block}", ", ".join(counts)))
    return lines


def _steps(config: TrainingConfig, frames: TrainingFrames) -> str:
    optimizer, counts = config.optimizer, batch_counts(config, frames)
    passes = optimizer.steps * counts.main / len(frames.main)
    size = f"{optimizer.steps} with {optimizer.batch_size} structures each"
    further = ""
    if frames.levels:
        per_level = optimizer.steps * counts.levels / len(frames.levels)
        names = (f"{per_level / len(level.frames):.3g} of {level.name}" for level in frames.levels)
        further = f" of {frames.main_level}, {', '.join(names)} ({counts.levels} structures of a step)"
    return f"{size}: {passes:.3g} passes over the training frames{further}"


@dataclass(frozen=True)
class _Times:
    """Measured durations, s. Steps without displaced copies are only measured if the run has such steps."""

    full: float
    plain: float | None
    frame: float  # validation of one frame
    share: float  # fraction of the steps with displaced copies

    def step(self) -> float:
        """Return the mean duration of a step, s."""
        return self.full if self.plain is None else self.share * self.full + (1.0 - self.share) * self.plain

    def total(self, config: TrainingConfig, prepared: Preparation) -> float:
        """Return the duration of the run, s: steps, validations, and the errors of the result."""
        optimizer, frames = config.optimizer, prepared.setup.frames
        validations = -(-optimizer.steps // optimizer.validation_interval)
        training = optimizer.steps * self.step() + validations * len(frames.validation) * self.frame
        if optimizer.minutes is not None:
            training = min(training, 60 * optimizer.minutes)
        return training + (len(frames.validation) + len(frames.test)) * self.frame

    def words(self) -> str:
        if self.plain is None:
            return f"{self.full:.3g} s"
        return f"{self.full:.3g} s with displaced copies ({self.share:.0%} of the steps), {self.plain:.3g} s without"


def _measured(prepared: Preparation) -> _Times:
    """Compute a few steps and a part of a validation in memory. The weights change."""
    setup, task = prepared.setup, prepared.task
    objective, steps = task.objective, setup.config.optimizer.steps
    full = fullest_step(objective, steps)
    active = [len(objective.acting(step)) for step in (full, full + 1, 0)]
    plain = next((step for step, terms in zip((full + 1, 0), active[1:], strict=True) if terms < active[0]), None)
    task.potential.to(setup.device)
    optimizer = task.build_optimizer()

    def timed(step: int) -> float:
        seconds = [_seconds(lambda: _one_step(prepared, optimizer, step), setup.device) for _ in range(_TIMED + 1)]
        return fmean(seconds[1:])

    durations = timed(full), timed(plain) if plain is not None else None
    some = setup.frames.validation.select(range(min(VALIDATION_BATCH, len(setup.frames.validation))))
    dtype = DTYPES[setup.config.weights_dtype]

    def validate() -> None:
        for _ in evaluated_batches(task.potential, some, setup.config.model.cutoff, dtype, VALIDATION_BATCH):
            pass

    displaced = max(0, -(-(steps - objective.warmup) // objective.cadence))
    return _Times(*durations, _seconds(validate, setup.device) / len(some), displaced / steps)


def _one_step(prepared: Preparation, optimizer: torch.optim.Optimizer, step: int) -> None:
    setup, task = prepared.setup, prepared.task
    config = setup.config
    order = training_order(config, setup.frames, setup.replay)
    available = with_replay(setup.frames.train, setup.replay)
    size = config.optimizer.batch_size
    dtype = DTYPES[config.weights_dtype]
    for number, part in enumerate(setup.share.of(order.frames(step * size, (step + 1) * size))):
        frames = [available[int(index)] for index in part]
        batch = collate(frames, config.model.cutoff + task.objective.margin, dtype, part.tolist()).to(setup.device)
        with torch.autocast(setup.device.type, torch.bfloat16, enabled=config.mixed_precision):
            loss, terms = task.objective(task.potential, batch, FrameRandom(config.seed, step))
            if number == 0:
                loss, _ = task.with_contrast(loss, terms, step)
        if loss.requires_grad:
            task.backward(loss / setup.share.parts)
    optimizer.step()
    optimizer.zero_grad()


def _seconds(function: Callable[[], None], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def _memory_words(memory: StepMemory | None, device: torch.device) -> str:
    peak = _peak(device)
    words = [] if peak is None else [f"peak of {peak / GIGABYTE:.2g} GB in the measured steps"]
    if memory is not None:
        words = [
            f"about {memory.needed / GIGABYTE:.2g} GB for the largest step",
            *words,
            f"{memory.available / GIGABYTE:.3g} GB available",
        ]
    return ", ".join(words) or "unknown"


def _peak(device: torch.device) -> float | None:
    """Return the largest memory of this process so far, bytes; None if the system does not report it."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ImportError:  # Windows
        return None
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


def _budget_words(config: TrainingConfig) -> str:
    minutes = config.optimizer.minutes
    return "" if minutes is None else f" (optimizer.minutes: {minutes:g})"


def advice(config: TrainingConfig, prepared: Preparation) -> list[str]:
    """Return warnings about settings that are valid but rarely intended."""
    optimizer, labels = config.optimizer, prepared.setup.frames.all_labels
    warnings: list[str] = []
    if config.start.training_method == GAUSS_NEWTON:
        return warnings
    if optimizer.warmup >= optimizer.steps and optimizer.minutes is None:
        warnings.append(
            f"optimizer.warmup ({optimizer.warmup}) is not shorter than optimizer.steps ({optimizer.steps}): the "
            "learning rate never reaches its peak"
        )
    if optimizer.validation_interval > optimizer.steps:
        warnings.append(
            f"optimizer.validation_interval ({optimizer.validation_interval}) is longer than the run: the weights of "
            "the last step are the only candidates"
        )
    if optimizer.patience and optimizer.patience * optimizer.validation_interval >= optimizer.steps:
        warnings.append(
            f"optimizer.patience ({optimizer.patience} validations) is longer than the run: training never stops early"
        )
    start = config.start
    careful = start.training_method != "full" or start.layer_decay != 1.0 or start.replay is not None
    if start.init_from is not None and not labels.forces and not careful:
        warnings.append(
            "fine-tuning of all weights on energies only can spoil the forces of the start model: compare with "
            "start.method: gauss_newton, which is made for this case"
        )
    return warnings
