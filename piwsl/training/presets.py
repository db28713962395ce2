"""Presets of the loss: the coefficients of terms that the configuration leaves empty."""

from typing import get_args

from piwsl.training.config import LossConfig, ScheduleConfig, TrainingConfig
from piwsl.training.data import with_absolute_sources
from piwsl.training.start import with_network_of_start

# docs/results.md has the figures behind these values.
PRESETS = {
    "plain": {"pitc": 0.0, "pisc": 0.0, "teacher_forces": 0.0},
    "direct": {"pitc": 100.0, "pisc": 0.0, "teacher_forces": 0.0},
    "teacher": {"pitc": 0.0, "pisc": 0.0, "teacher_forces": 10.0},
}
_REASONS = {
    "plain": "conservative forces satisfy PITC and PISC without training",
    "direct": "PITC reduces the energy error",
    "teacher": "the teacher replaces missing force labels",
}


def resolved(config: TrainingConfig) -> TrainingConfig:
    """Return a configuration with absolute paths, the network of the start model, and all coefficients.

    Raises:
        DataError: The source of the data does not exist.
        ModelFileError: The trained file of the start cannot be read.
    """
    return with_coefficients(with_network_of_start(with_absolute_sources(config)))


def with_coefficients(config: TrainingConfig) -> TrainingConfig:
    """Return a configuration whose empty coefficients have the values of its preset."""
    values = PRESETS[chosen_preset(config)]
    empty = {name: value for name, value in values.items() if getattr(config.loss, name) is None}
    return config.model_copy(update={"loss": config.loss.model_copy(update=empty)}) if empty else config


def chosen_preset(config: TrainingConfig) -> str:
    """Return the name of the preset: the configured one, or the one that suits the model and the teacher."""
    if config.loss.preset != "auto":
        return config.loss.preset
    if config.teacher.file is not None:
        return "teacher"
    return "direct" if config.model.forces == "direct" else "plain"


def loss_line(config: TrainingConfig) -> str:
    """Return one line about the active terms of a configuration with all coefficients, and about its preset."""
    terms = [
        f"{name} {_words(value)}"
        for name, field in LossConfig.model_fields.items()
        if ScheduleConfig in get_args(field.annotation) and (value := getattr(config.loss, name))
    ]
    name = chosen_preset(config)
    values = PRESETS[name]
    preset = ""
    if all(getattr(config.loss, key) == value for key, value in values.items()):
        preset = f" (preset {name}: {_REASONS[name]})"
    return f"loss: {', '.join(terms)}{preset}"


def _words(value: float | ScheduleConfig) -> str:
    return f"{value.first:g} to {value.last:g}" if isinstance(value, ScheduleConfig) else f"{value:g}"
