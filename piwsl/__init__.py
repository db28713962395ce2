"""Physics-informed weakly supervised interatomic potentials, from training to molecular dynamics.

The functions of a working day are attributes of this module and are imported at first use:

    import piwsl

    result = piwsl.train("aspirin", options={"optimizer.steps": 2000})
    exported = piwsl.export_model(result.model, target="openmm", system="aspirin")
    run = piwsl.run_md("aspirin", exported, steps=20_000)
    piwsl.analyze(run.directory)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from piwsl._version import __version__
from piwsl.errors import (
    ConfigError,
    DataError,
    ElementError,
    EngineError,
    ExportError,
    MissingDependencyError,
    ModelFileError,
    PiwslError,
    RunDirectoryError,
    UnphysicalError,
)

if TYPE_CHECKING:
    from piwsl import analysis, data, losses, models, testing
    from piwsl.analysis import analyze
    from piwsl.data.frames import Frame, FrameSet
    from piwsl.data.labeling.label import label, sample
    from piwsl.data.read import read_frames
    from piwsl.export.export import ExportedModel, export_model
    from piwsl.export.trained_file import TrainedModel, load_model
    from piwsl.interfaces.ase import PiwslCalculator
    from piwsl.interfaces.openmm.force import openmm_force
    from piwsl.md.protocol import MDProtocol
    from piwsl.md.run import MDRun, run_md
    from piwsl.training.config import TrainingConfig
    from piwsl.training.ensemble import EnsembleResult, train_ensemble
    from piwsl.training.evaluate import Evaluation, evaluate
    from piwsl.training.run import TrainingResult, train
    from piwsl.training.tuning.results import TuneResult
    from piwsl.training.tuning.tune import tune

__all__ = [
    "ConfigError",
    "DataError",
    "ElementError",
    "EngineError",
    "EnsembleResult",
    "Evaluation",
    "ExportError",
    "ExportedModel",
    "Frame",
    "FrameSet",
    "MDProtocol",
    "MDRun",
    "MissingDependencyError",
    "ModelFileError",
    "PiwslCalculator",
    "PiwslError",
    "RunDirectoryError",
    "TrainedModel",
    "TrainingConfig",
    "TrainingResult",
    "TuneResult",
    "UnphysicalError",
    "__version__",
    "analysis",
    "analyze",
    "data",
    "evaluate",
    "export_model",
    "label",
    "load_model",
    "losses",
    "models",
    "openmm_force",
    "read_frames",
    "run_md",
    "sample",
    "testing",
    "train",
    "train_ensemble",
    "tune",
]

# Imported at first use: torch and the engines take seconds to load.
_PACKAGES = ("analysis", "data", "losses", "models", "testing")
_HOMES = {
    "EnsembleResult": "piwsl.training.ensemble",
    "Evaluation": "piwsl.training.evaluate",
    "ExportedModel": "piwsl.export.export",
    "Frame": "piwsl.data.frames",
    "FrameSet": "piwsl.data.frames",
    "MDProtocol": "piwsl.md.protocol",
    "MDRun": "piwsl.md.run",
    "PiwslCalculator": "piwsl.interfaces.ase",
    "TrainedModel": "piwsl.export.trained_file",
    "TrainingConfig": "piwsl.training.config",
    "TrainingResult": "piwsl.training.run",
    "TuneResult": "piwsl.training.tuning.results",
    "analyze": "piwsl.analysis",
    "evaluate": "piwsl.training.evaluate",
    "export_model": "piwsl.export.export",
    "label": "piwsl.data.labeling.label",
    "load_model": "piwsl.export.trained_file",
    "openmm_force": "piwsl.interfaces.openmm.force",
    "read_frames": "piwsl.data.read",
    "run_md": "piwsl.md.run",
    "sample": "piwsl.data.labeling.label",
    "train": "piwsl.training.run",
    "train_ensemble": "piwsl.training.ensemble",
    "tune": "piwsl.training.tuning.tune",
}


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"piwsl.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
