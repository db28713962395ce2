"""Licenses of foundation models, which hold for everything that is made from these models."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from piwsl.export.exported_file import ExportedRecord, read_exported_info
from piwsl.export.loading import is_trained
from piwsl.export.trained_file import load_trained


def foundation_lines(training: Mapping[str, Any]) -> list[str]:
    """Return the origins and licenses of a file that was made from foundation models; an empty list for other files.

    Args:
        training: Entry ``training`` of a trained or exported file.
    """
    return [f"made from {origin}" for origin in _origins(training)]


def label_origins(training: Mapping[str, Any]) -> list[str]:
    """Return the origins and licenses of foundation models behind the labels of a file; empty if there are none.

    Args:
        training: Entry ``training`` of a trained or exported file.
    """
    texts = training.get("labels_from")
    return [text for text in texts if isinstance(text, str)] if isinstance(texts, list) else []


def labels_from(models: Iterable[Path]) -> str:
    """Return the names and licenses of the foundation models from which models were made; empty if there are none.

    Args:
        models: Trained or exported files.

    Raises:
        ModelFileError: A file cannot be read.
    """
    found: dict[str, None] = {}
    for path in models:
        if is_trained(path):
            members = [load_trained(path).training]
        else:
            members = ExportedRecord.model_validate(read_exported_info(path)).training
        found |= dict.fromkeys(origin for training in members for origin in _origins(training))
    return " and ".join(found)


def _origins(training: Mapping[str, Any]) -> list[str]:
    teacher = training.get("teacher")
    records = [training.get("foundation"), teacher.get("foundation") if isinstance(teacher, dict) else None]
    of_models = [
        f"{record.get('name')}: license of its weights: {record.get('license')}"
        for record in records
        if isinstance(record, dict)
    ]
    return list(dict.fromkeys([*of_models, *label_origins(training)]))
