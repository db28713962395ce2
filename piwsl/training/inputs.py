"""Resolution of the arguments of `piwsl.train` and related functions to a configuration and a directory."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

from ase import Atoms

from piwsl.data.frames import Frame, FrameSet
from piwsl.data.read import FrameSource, as_frames, source_name
from piwsl.data.systems import is_system
from piwsl.data.write import write_frames
from piwsl.errors import ConfigError
from piwsl.runs.progress import Step, duration, reporting, to_stderr
from piwsl.training.config import TrainingConfig, load_config
from piwsl.training.data_config import DataConfig
from piwsl.training.directory import CONFIG_FILE, LAST, stored_config
from piwsl.training.distributed.processes import launched_processes
from piwsl.training.fit import TrainingProgress
from piwsl.training.tuning.settings import TuneConfig, load_settings, tune_config

LOGGER = logging.getLogger(__name__)

Config: TypeAlias = TrainingConfig | Mapping[str, Any] | str | PathLike[str]


def training_inputs(
    data: FrameSource | None,
    config: Config | None,
    *,
    system: str | None = None,
    units: str | None = None,
    init_from: str | PathLike[str] | None = None,
    output: str | PathLike[str] | None = None,
    resume: bool = False,
    options: Mapping[str, Any] | None = None,
    purpose: str = "train",
) -> tuple[TrainingConfig, TuneConfig | None, Path]:
    """Return the configuration, its section `tune`, and the output directory for the given arguments.

    Args:
        data: Labeled frames: a source that `piwsl.read_frames` accepts, the name of a bundled system, or frames in
            memory. Frames in memory are written to a file next to the output directory.
        config: Configuration, YAML file, or mapping of sections.
        system: Name of a bundled system.
        units: Units of a file that does not state them.
        init_from: Trained file to fine-tune.
        output: Run directory. The default is ``runs/PURPOSE-NAME``, named after the data.
        resume: Use the configuration of the run in ``output`` if neither data nor a configuration is given.
        options: Values by key, such as ``{"loss.pitc": 0.5}``. They take precedence over the configuration.
        purpose: Prefix of the name of the default directory.

    Raises:
        ConfigError: A key is unknown, a value is out of range, or frames in memory are given without ``output``.
    """
    if isinstance(data, str) and is_system(data):
        data, system = None, data
    file = None
    if isinstance(data, str | PathLike):
        file = str(data)
    elif data is not None:
        if output is None:
            raise ConfigError("frames in memory have no name for a default run directory: pass output=DIRECTORY")
        file = str(_stored(data, Path(output)))
    named: dict[str, Any] = {
        "data.system": system,
        "data.file": file,
        "data.units": units,
        "start.init_from": init_from,
    }
    named = {key: value for key, value in named.items() if value is not None}
    if resume and output is not None and config is None and not named:
        config = stored_config(Path(output))
    settings, tune = _configuration(config, {**named, **(options or {})})
    if tune is not None and purpose != "tune":
        LOGGER.info(f"{config}: the section tune is ignored here; `piwsl tune` uses it")
    directory = Path(output) if output is not None else Path("runs") / f"{purpose}-{data_name(settings.data)}"
    return settings, tune, directory


def _configuration(config: Config | None, options: Mapping[str, Any]) -> tuple[TrainingConfig, TuneConfig | None]:
    texts = [f"{key}={yaml_text(value)}" for key, value in options.items()]
    if config is None:
        return load_config(None, texts), None
    if isinstance(config, TrainingConfig):
        return load_config(None, texts, base=config.model_dump(mode="json", exclude_unset=True)), None
    if isinstance(config, Mapping):
        sections = dict(config)
        tune = sections.pop("tune", None)
        return load_config(None, texts, base=sections), None if tune is None else tune_config(tune, Path("options"))
    return load_settings(Path(config), texts)


def yaml_text(value: Any) -> str:
    """Return a value as YAML. Strings are returned unchanged, because they may come from the command line."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def data_name(data: DataConfig) -> str:
    """Return a short name for the data of a configuration, used in directory names."""
    return data.system or source_name(data.file or "")


def _stored(data: FrameSet | Frame | Atoms | Sequence[Frame] | Sequence[Atoms], output: Path) -> Path:
    """Write frames in memory to a file next to the output directory, so that the run can be resumed."""
    path = output.resolve().with_name(f"{output.name}-data.extxyz")
    frames = as_frames(data)
    for note in frames.notes:
        LOGGER.info(f"note: {note}")
    for text in frames.names.warnings():  # the file will contain only what was read
        LOGGER.warning(f"frames in memory: {text}")
    write_frames(frames, path, force=True)
    return path


def reporting_steps(
    progress: Callable[[TrainingProgress], None] | bool | None, write: Callable[[str], None] = to_stderr
) -> AbstractContextManager[Callable[[TrainingProgress], None] | None]:
    """Convert the argument ``progress`` to a callback. Only rank 0 reports progress."""
    shown = progress if launched_processes().rank == 0 else False
    return reporting(shown, "step", _step, write)


def _step(progress: TrainingProgress) -> Step:
    losses = "  ".join(f"{name} {value:.3g}" for name, value in progress.losses.items())
    force_mae = progress.validation_force_mae
    error = f"  force MAE {1e3 * force_mae:.0f} meV/A" if force_mae is not None else ""
    return Step(progress.step, progress.steps, f"{losses}{error}  {duration(progress.seconds_left)} left")


@contextmanager
def resumable(advice: Callable[[], str]) -> Iterator[None]:
    """Log the result of ``advice``, which describes how to resume, if the user interrupts the block."""
    try:
        yield
    except KeyboardInterrupt:
        LOGGER.warning(f"interrupted: {advice()}")
        raise


def resume_advice(output: Path) -> str:
    """Return advice on how to continue an interrupted training run or ensemble."""
    if (output / LAST).exists() or any(output.glob(f"seed-*/{LAST}")):
        return f"continue {output} from the last checkpoint with resume=True"
    if (output / CONFIG_FILE).exists():
        return f"{output} contains no checkpoint yet; resume=True starts it from step 0"
    return "nothing was written"
