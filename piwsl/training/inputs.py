"""Which configuration and directory the arguments of `piwsl.train` and its relatives mean."""

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
from piwsl.training.config import DataConfig, TrainingConfig, load_config
from piwsl.training.directory import CONFIG_FILE, LAST
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
    """Resolve arguments to the configuration, its section `tune`, and the output directory.

    Args:
        data: Labeled frames: what `piwsl.read_frames` reads, the name of a bundled system, or frames in memory, which
            are written to a file beside the output directory.
        config: Configuration, YAML file, or mapping of sections.
        system: Bundled system.
        units: Units of a file that does not state them.
        init_from: Trained file to fine-tune.
        output: Run directory; default: ``runs/PURPOSE-NAME``, named after the data.
        resume: Take the configuration of the run in ``output`` where nothing else is named.
        options: Values by key, such as ``{"loss.pitc": 0.5}``; they take precedence over the configuration.
        purpose: Beginning of the name of the default directory.

    Raises:
        ConfigError: A key is unknown, or a value is out of range.
    """
    if isinstance(data, str) and is_system(data):
        data, system = None, data
    file = None
    if isinstance(data, str | PathLike):
        file = str(data)
    elif data is not None:
        if output is None:
            raise ConfigError("data in memory have no name: give output=DIRECTORY")
        file = str(_stored(data, Path(output)))
    named: dict[str, Any] = {
        "data.system": system,
        "data.file": file,
        "data.units": units,
        "start.init_from": init_from,
    }
    named = {key: value for key, value in named.items() if value is not None}
    if resume and output is not None and config is None and not named:
        config = Path(output) / CONFIG_FILE
    settings, tune = _configuration(config, {**named, **(options or {})})
    if tune is not None and purpose != "tune":
        LOGGER.info(f"{config}: the section tune is for `piwsl tune`")
    directory = Path(output) if output is not None else Path("runs") / f"{purpose}-{data_name(settings.data)}"
    return settings, tune, directory


def _configuration(config: Config | None, options: Mapping[str, Any]) -> tuple[TrainingConfig, TuneConfig | None]:
    texts = [f"{key}={_yaml(value)}" for key, value in options.items()]
    if config is None:
        return load_config(None, texts), None
    if isinstance(config, TrainingConfig):
        return load_config(None, texts, base=config.model_dump(mode="json", exclude_unset=True)), None
    if isinstance(config, Mapping):
        sections = dict(config)
        tune = sections.pop("tune", None)
        return load_config(None, texts, base=sections), None if tune is None else tune_config(tune, Path("options"))
    return load_settings(Path(config), texts)


def _yaml(value: Any) -> str:
    """Return a value as YAML; texts are taken as they are, since they may come from a command line."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def data_name(data: DataConfig) -> str:
    """Return a short name for the data of a configuration, used in directory names."""
    return data.system or source_name(data.file or "")


def _stored(data: FrameSet | Frame | Atoms | Sequence[Frame] | Sequence[Atoms], output: Path) -> Path:
    """Write frames in memory to a file beside the output directory, so that the run can be repeated and resumed."""
    path = output.resolve().with_name(f"{output.name}-data.extxyz")
    write_frames(as_frames(data), path, force=True)
    return path


def reporting_steps(
    progress: Callable[[TrainingProgress], None] | bool | None, write: Callable[[str], None] = to_stderr
) -> AbstractContextManager[Callable[[TrainingProgress], None] | None]:
    """Turn the argument ``progress`` into a callback; only the first of several processes shows something."""
    shown = progress if launched_processes().rank == 0 else False
    return reporting(shown, "step", _step, write)


def _step(progress: TrainingProgress) -> Step:
    losses = "  ".join(f"{name} {value:.3g}" for name, value in progress.losses.items())
    force_mae = progress.validation_force_mae
    error = f"  force MAE {1e3 * force_mae:.0f} meV/A" if force_mae is not None else ""
    return Step(progress.step, progress.steps, f"{losses}{error}  {duration(progress.seconds_left)} left")


@contextmanager
def resumable(advice: Callable[[], str]) -> Iterator[None]:
    """Log how to resume if the user interrupts the block; ``advice`` is called then."""
    try:
        yield
    except KeyboardInterrupt:
        LOGGER.warning(f"interrupted: {advice()}")
        raise


def resume_advice(output: Path) -> str:
    """Return how an interrupted training run or ensemble is continued."""
    if (output / LAST).exists() or any(output.glob(f"seed-*/{LAST}")):
        return f"resume=True continues {output} from the last checkpoint"
    if (output / CONFIG_FILE).exists():
        return f"there is no checkpoint yet: resume=True starts {output} from step 0"
    return "nothing was written"
