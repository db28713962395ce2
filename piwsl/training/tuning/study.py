"""Optuna study of a search: storage, sampler, and assignment of trials to workers."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import MedianPruner, NopPruner
from optuna.samplers import TPESampler
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from piwsl.errors import ConfigError, PiwslError, RunDirectoryError, reason_of
from piwsl.runs.files import is_full
from piwsl.training.tuning.settings import Scalar, TuneConfig

STUDY_FILE = "study.db"
SHA256 = "sha256 of the "  # beginning of the keys of hashes in the settings
SETTINGS = "settings"  # attribute of the study: settings that all workers must share
# Attributes of trials. REASON marks a failed trial that counts, SURPLUS a trial beyond the requested number.
REASON, SURPLUS, SECONDS, DIRECTORY = "reason", "surplus", "seconds", "directory"
_ATTEMPTS = 20  # attempts to open a database that another worker is creating
_FILE = "file:"
_BUSY = 60  # timeout (s) for a locked SQLite file


def open_storage(url: str) -> BaseStorage:
    """Open the storage at a database URL, the SQLite file ``file:PATH``, or the journal file at a path."""
    if url.startswith(_FILE):
        # In a database URL, a question mark in the path begins the options, and Optuna replaces expressions in braces.
        path = url.removeprefix(_FILE)
        return RDBStorage(
            f"sqlite:///{STUDY_FILE}",
            engine_kwargs={"creator": lambda: sqlite3.connect(path, timeout=_BUSY, check_same_thread=False)},
        )
    if "://" not in url:
        Path(url).resolve().parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(url))
    busy = {"connect_args": {"timeout": _BUSY}} if url.startswith("sqlite") else {}
    return RDBStorage(url, engine_kwargs=busy)


def open_study(
    settings: TuneConfig, output: Path, agreed: dict[str, Any], connect: Callable[[str], BaseStorage] = open_storage
) -> Study:
    """Create a study or join an existing study.

    Args:
        settings: Section `tune`.
        output: Directory of the study file if no storage is configured.
        agreed: Flat settings that every worker of the study must have.
        connect: Function that opens the storage at a URL.

    Raises:
        ConfigError: The storage cannot be opened.
        RunDirectoryError: The study was created with other settings. The message lists the differences.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = settings.storage or f"{_FILE}{(output / STUDY_FILE).resolve()}"
    with damage_as_error(settings):
        study = _joined(url, settings, connect)
        before = study.user_attrs.get(SETTINGS)
        if before is not None and not isinstance(before, dict):
            raise ValueError("the settings are no mapping")
    if before is None:
        study.set_user_attr(SETTINGS, agreed)
    elif before != agreed:
        keys = sorted(key for key in {*before, *agreed} if before.get(key) != agreed.get(key))
        changed = "; ".join(f"{key} was {before.get(key)}, is {agreed.get(key)}" for key in keys if not _is_hash(key))
        files = " and the ".join(key.removeprefix(SHA256) for key in keys if _is_hash(key))
        advice = "choose another tune.study or another output=DIRECTORY"
        if changed:
            raise RunDirectoryError(
                f"cannot continue study {settings.study!r} with changed settings: {changed}: {advice}"
            )
        raise RunDirectoryError(
            f"cannot continue study {settings.study!r}: the {files} changed since the study began: restore the file, "
            f"{advice}"
        )
    return study


def _is_hash(key: str) -> bool:
    return key.startswith(SHA256)


@contextmanager
def damage_as_error(settings: TuneConfig) -> Iterator[None]:
    """Convert exceptions of Optuna while it reads a study to a one-line error.

    Raises:
        ConfigError: The block raised an exception that is not a `PiwslError`.
    """
    try:
        yield
    except PiwslError:
        raise
    except Exception as error:  # Optuna and its database raise many types for damaged content
        if is_full(error):
            raise ConfigError(
                f"{settings.storage or STUDY_FILE}: {_reason(error)}: make room, then try again"
            ) from error
        advice = (
            "check tune.storage" if settings.storage else f"restore {STUDY_FILE}, or choose another output=DIRECTORY"
        )
        name = settings.storage or STUDY_FILE
        raise ConfigError(f"the study in {name} is damaged or unavailable ({_reason(error)}): {advice}") from error


def _reason(error: Exception) -> str:
    """Describe an exception without the statement in SQL and the link that SQLAlchemy appends."""
    text = reason_of(error)
    for mark in (" [SQL:", " (Background on this error"):
        text = text.partition(mark)[0]
    return text


def _joined(url: str, settings: TuneConfig, connect: Callable[[str], BaseStorage]) -> Study:
    pruner = (
        MedianPruner(n_startup_trials=settings.random_trials, n_warmup_steps=settings.prune_after + 1)
        if settings.prune
        else NopPruner()
    )
    for attempt in range(_ATTEMPTS):
        try:
            return optuna.create_study(
                storage=connect(url), study_name=settings.study, pruner=pruner, load_if_exists=True
            )
        except ImportError as error:
            raise ConfigError(
                f"storage {url}: the driver of this database is missing ({reason_of(error)}): install it with pip"
            ) from None
        except (SQLAlchemyError, OSError, ValueError, RuntimeError) as error:
            # If two workers create the tables of a new database at the same time, one of them may find partial tables.
            half_made = isinstance(error, IntegrityError) or "already exists" in str(error)
            if not half_made or attempt == _ATTEMPTS - 1:
                advice = (
                    "check tune.storage"
                    if settings.storage
                    else "make room, then try again"
                    if is_full(error)
                    else "restore this file, or choose another output=DIRECTORY"
                )
                raise ConfigError(f"storage {url} cannot be opened ({_reason(error)}): {advice}") from None
            time.sleep(0.2)
    raise AssertionError


class FirstAsConfigured(TPESampler):
    """TPE sampler of Optuna whose random state depends on the seed and the trial, so that workers differ.

    Trial 0 uses the values of the configuration, so that the best trial is never worse than the configuration.
    """

    def __init__(self, seed: int, number: int, random_trials: int, configured: dict[str, Any]) -> None:
        state = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        super().__init__(n_startup_trials=random_trials, constant_liar=True, seed=state)
        self.configured = configured if number == 0 else {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the configured value in trial 0 if the range contains it, or a sampled value otherwise."""
        value = self.configured.get(param_name)
        if value is not None and _holds(param_distribution, value):
            return value
        return super().sample_independent(study, trial, param_name, param_distribution)


def _holds(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    on_grid = not distribution.step or abs((value - distribution.low) / distribution.step % 1) < 1e-9
    return isinstance(value, int | float) and distribution.low <= value <= distribution.high and on_grid


def counted(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that count toward the requested number: all except trials of dead workers."""
    return [trial for trial in trials if trial.state != TrialState.FAIL or REASON in trial.user_attrs]


def next_trial(study: Study, trials: int) -> optuna.Trial | None:
    """Return a new trial, or None if all trials are finished or running.

    If two workers request the last trial at the same time, the trial with the larger number is discarded as surplus.
    """
    if len(counted(study.get_trials(deepcopy=False))) >= trials:
        return None
    trial = study.ask()
    earlier = [other for other in counted(study.get_trials(deepcopy=False)) if other.number < trial.number]
    if len(earlier) >= trials:
        trial.set_user_attr(SURPLUS, True)
        study.tell(trial, state=TrialState.FAIL)
        return None
    return trial


def suggest(trial: optuna.Trial, settings: TuneConfig, current: dict[str, Any]) -> dict[str, Scalar]:
    """Return sampled values for all ranges. ``current`` contains the values of the configuration."""
    values: dict[str, Scalar] = {}
    for key, chosen in settings.ranges.items():
        if chosen.choices is not None:
            values[key] = trial.suggest_categorical(key, chosen.choices)
            continue
        low, high, step = chosen.low, chosen.high, chosen.step
        assert low is not None
        assert high is not None
        if chosen.is_integer(current[key]):
            values[key] = trial.suggest_int(key, int(low), int(high), step=int(step or 1), log=chosen.log)
        else:
            values[key] = trial.suggest_float(key, float(low), float(high), step=step, log=chosen.log)
    return values
