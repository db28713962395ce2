"""Settings of jobs, and the database of a search."""

import json
import shutil
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import optuna

from piwsl.data.reference_energies import read_reference_energies
from piwsl.learning.settings import load_learn_settings
from piwsl.learning.settings import template as learn_template
from piwsl.md.protocol import MDProtocol
from piwsl.training.config import load_config, template
from piwsl.training.tuning.results import all_results
from piwsl.training.tuning.settings import TuneConfig, load_settings
from piwsl.training.tuning.study import STUDY_FILE, damage_as_error, open_study
from tests.fuzz.harness import Target
from tests.fuzz.mutations import BYTES, JSON, TEXT


def _protocol(path: Path) -> None:
    MDProtocol.of(engine="openmm", replicas=2).save(path)


def _text(content: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(content) and None


def _read_config(path: Path) -> str:
    return str(load_config(path))


def _read_tuning(path: Path) -> str:
    return str(load_settings(path))


def _read_learning(path: Path) -> str:
    return str(load_learn_settings(path))


def _tune_settings() -> TuneConfig:
    return TuneConfig.model_validate(
        {"trials": 3, "metric": "loss", "ranges": {"loss.pitc": {"low": 0.0, "high": 1.0}}}
    )


@lru_cache
def _study_content() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        study = open_study(_tune_settings(), Path(folder), {"a": 1})
        study.add_trial(optuna.trial.create_trial(values=[1.0], params={}, distributions={}))
        return (Path(folder) / STUDY_FILE).read_bytes()


def _study(path: Path) -> None:
    path.write_bytes(_study_content())


def _read_study(path: Path) -> str:
    """Read a copy, because a database is also written to."""
    settings = _tune_settings()
    with tempfile.TemporaryDirectory(dir=path.parent / "tmp") as folder:
        shutil.copy(path, folder)
        study = open_study(settings, Path(folder), {"a": 1})
        with damage_as_error(settings):
            return str([result.value for result in all_results(study, settings.metric)])


def _read_energies(path: Path) -> str:
    return str(read_reference_energies(path, None, 5.0))


def _aliases(path: Path) -> None:
    """Nine levels of ten aliases: a thousand million values."""
    lines = ["a0: &a0 [x]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 10)]
    path.write_text("\n".join(lines))


def _deep(path: Path) -> None:
    path.write_text("[" * 200_000)


TUNING = """\
data: {train: 10}
tune:
  trials: 5
  metric: force_mae
  ranges:
    loss.pitc: {low: 0.01, high: 10.0, log: true}
"""
YAML = {"aliases": _aliases, "deep": _deep}
TARGETS = [
    Target("protocol", "a.yaml", _protocol, lambda path: str(MDProtocol.load(path)), TEXT, YAML),
    Target("study", STUDY_FILE, _study, _read_study, BYTES, seconds=0.5),
    Target("configuration", "a.yaml", _text(template()), _read_config, TEXT, YAML),
    Target("tuning", "a.yaml", _text(TUNING), _read_tuning, TEXT, YAML),
    Target("learning", "a.yaml", _text(learn_template()), _read_learning, TEXT, YAML),
    Target("energies", "a.json", _text(json.dumps({"H": -13.6, "O": -2042.0})), _read_energies, JSON, YAML),
]
