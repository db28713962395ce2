"""The study: the storage of trials, and which of them count."""

import time
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

from piwsl.errors import ConfigError, RunDirectoryError, reason_of
from piwsl.training.tuning.settings import Scalar, TuneConfig

STUDY_FILE = "study.db"
SETTINGS = "settings"  # attribute of the study: what all its workers must agree on
# Attributes of trials: REASON of a failed one that used up its turn, SURPLUS of one that got none.
REASON, SURPLUS, SECONDS, DIRECTORY = "reason", "surplus", "seconds", "directory"
_ATTEMPTS = 20  # to open a database that another worker is making at this moment
_BUSY = 60  # s to wait for a locked SQLite file


def open_study(settings: TuneConfig, output: Path, agreed: dict[str, Any]) -> Study:
    """Create the study, or join it.

    Args:
        settings: Section `tune`.
        output: Where the study is kept if no storage is named.
        agreed: Flat settings that every worker of the study must have.

    Raises:
        ConfigError: The storage cannot be opened.
        RunDirectoryError: The study was made with other settings (the differences are listed).
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = settings.storage or f"sqlite:///{(output / STUDY_FILE).resolve()}"
    study = _connect(url, settings)
    before = study.user_attrs.get(SETTINGS)
    if before is None:
        study.set_user_attr(SETTINGS, agreed)
    elif before != agreed:
        keys = sorted(key for key in {*before, *agreed} if before.get(key) != agreed.get(key))
        changed = "; ".join(f"{key} was {before.get(key)}, is {agreed.get(key)}" for key in keys)
        raise RunDirectoryError(
            f"cannot continue study {settings.study!r} with other settings: {changed}: name another tune.study, or "
            "another output=DIRECTORY"
        )
    return study


def _connect(url: str, settings: TuneConfig) -> Study:
    pruner = (
        MedianPruner(n_startup_trials=settings.random_trials, n_warmup_steps=settings.prune_after + 1)
        if settings.prune
        else NopPruner()
    )
    for attempt in range(_ATTEMPTS):
        try:
            return optuna.create_study(
                storage=_storage(url), study_name=settings.study, pruner=pruner, load_if_exists=True
            )
        except ImportError as error:
            raise ConfigError(
                f"storage {url}: the driver of this database is not installed ({reason_of(error)})"
            ) from None
        except (SQLAlchemyError, OSError, ValueError, RuntimeError) as error:
            # Two workers that make the tables of a new database at once: one of them finds them half made.
            half_made = isinstance(error, IntegrityError) or "already exists" in str(error)
            if not half_made or attempt == _ATTEMPTS - 1:
                raise ConfigError(f"storage {url} cannot be opened: {reason_of(error)}") from None
            time.sleep(0.2)
    raise AssertionError


def _storage(url: str) -> BaseStorage:
    if "://" not in url:
        Path(url).resolve().parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(url))
    busy = {"connect_args": {"timeout": _BUSY}} if url.startswith("sqlite") else {}
    return RDBStorage(url, engine_kwargs=busy)


class FirstAsConfigured(TPESampler):
    """Optuna's TPE, its random state made from the seed and the number of the trial: no two workers draw alike.

    Trial 0 takes the values of the configuration itself, so that nothing is recommended that is worse than these.
    """

    def __init__(self, seed: int, number: int, random_trials: int, configured: dict[str, Any]) -> None:
        state = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        super().__init__(n_startup_trials=random_trials, constant_liar=True, seed=state)
        self.configured = configured if number == 0 else {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw one value: that of the configuration in trial 0 where the range contains it."""
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
    """Return the trials that count: all but those whose worker died."""
    return [trial for trial in trials if trial.state != TrialState.FAIL or REASON in trial.user_attrs]


def next_trial(study: Study, trials: int) -> optuna.Trial | None:
    """Return a new trial, or None where all are finished or running.

    Two workers may request one at the same moment: the surplus trial with the later number is given up.
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
    """Draw values for all ranges; ``current`` contains those of the configuration."""
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
