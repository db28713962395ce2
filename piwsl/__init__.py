"""Physics-informed weakly supervised interatomic potentials, from training to molecular dynamics.

The main functions are attributes of this module and are imported at first use:

    import piwsl

    result = piwsl.train("aspirin", options={"optimizer.steps": 2000})
    exported = piwsl.export_model(result.model, target="openmm", system="aspirin")
    run = piwsl.run_md("aspirin", exported, steps=20_000)
    piwsl.analyze(run.directory)
"""

from typing import TYPE_CHECKING

from piwsl._lazy import attach
from piwsl._user import ensure_user_name
from piwsl._version import __version__

ensure_user_name()

if TYPE_CHECKING:
    from piwsl import analysis, data, losses, models, testing
    from piwsl.analysis.analyze import analyze
    from piwsl.data.frames import Frame, FrameSet
    from piwsl.data.labeling.label import label, sample
    from piwsl.data.read import read_frames
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
        UnregisteredNetworkError,
    )
    from piwsl.export.export import ExportedModel, export_model
    from piwsl.export.import_model import ImportedModel, import_model
    from piwsl.export.trained_file import TrainedModel, load_model
    from piwsl.interfaces.ase import PiwslCalculator
    from piwsl.interfaces.openmm.force import openmm_force
    from piwsl.learning.learn import LearnResult, learn
    from piwsl.md.protocol import MDProtocol
    from piwsl.md.run import MDRun, run_md
    from piwsl.training.config import TrainingConfig
    from piwsl.training.ensemble import EnsembleResult, train_ensemble
    from piwsl.training.evaluation import Evaluation, evaluate
    from piwsl.training.preflight import TrainingPlan, plan_training
    from piwsl.training.run import TrainingResult, finish_training, train
    from piwsl.training.tuning.run import TuneResult
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
    "ImportedModel",
    "LearnResult",
    "MDProtocol",
    "MDRun",
    "MissingDependencyError",
    "ModelFileError",
    "PiwslCalculator",
    "PiwslError",
    "RunDirectoryError",
    "TrainedModel",
    "TrainingConfig",
    "TrainingPlan",
    "TrainingResult",
    "TuneResult",
    "UnphysicalError",
    "UnregisteredNetworkError",
    "__version__",
    "analysis",
    "analyze",
    "data",
    "evaluate",
    "export_model",
    "finish_training",
    "import_model",
    "label",
    "learn",
    "load_model",
    "losses",
    "models",
    "openmm_force",
    "plan_training",
    "read_frames",
    "run_md",
    "sample",
    "testing",
    "train",
    "train_ensemble",
    "tune",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "ConfigError": "errors",
        "DataError": "errors",
        "ElementError": "errors",
        "EngineError": "errors",
        "EnsembleResult": "training.ensemble",
        "Evaluation": "training.evaluation",
        "ExportError": "errors",
        "ExportedModel": "export.export",
        "Frame": "data.frames",
        "FrameSet": "data.frames",
        "ImportedModel": "export.import_model",
        "LearnResult": "learning.learn",
        "MDProtocol": "md.protocol",
        "MDRun": "md.run",
        "MissingDependencyError": "errors",
        "ModelFileError": "errors",
        "PiwslCalculator": "interfaces.ase",
        "PiwslError": "errors",
        "RunDirectoryError": "errors",
        "TrainedModel": "export.trained_file",
        "TrainingConfig": "training.config",
        "TrainingPlan": "training.preflight",
        "TrainingResult": "training.run",
        "TuneResult": "training.tuning.run",
        "UnphysicalError": "errors",
        "UnregisteredNetworkError": "errors",
        "analyze": "analysis",
        "evaluate": "training.evaluation",
        "export_model": "export.export",
        "finish_training": "training.run",
        "import_model": "export.import_model",
        "label": "data.labeling.label",
        "learn": "learning.learn",
        "load_model": "export.trained_file",
        "openmm_force": "interfaces.openmm.force",
        "plan_training": "training.preflight",
        "read_frames": "data.read",
        "run_md": "md.run",
        "sample": "data.labeling.label",
        "train": "training.run",
        "train_ensemble": "training.ensemble",
        "tune": "training.tuning.tune",
    },
    packages=("analysis", "data", "losses", "models", "testing"),
)
