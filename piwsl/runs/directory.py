"""The directory of a labeling job: one job at a time, and only the one it was begun with."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from piwsl.errors import RunDirectoryError
from piwsl.runs.lock import locked

PLAN_FILE = "plan.json"


def is_begun(output: Path, plan: Mapping[str, Any], defaults: Mapping[str, Any]) -> bool:
    """Whether a directory holds this job already.

    Args:
        output: the directory.
        plan: of the job, as JSON has it.
        defaults: of what plans of earlier versions did not say.

    Raises:
        RunDirectoryError: it holds another job, or something else.
    """
    plan_file = output / PLAN_FILE
    if output.exists() and not output.is_dir():
        raise RunDirectoryError(f"{output} is a file: choose another --output")
    if plan_file.exists():
        try:
            found = {**defaults, **json.loads(plan_file.read_text())}
        except (ValueError, TypeError):
            raise RunDirectoryError(f"{plan_file} is damaged: choose another --output") from None
        if found != json.loads(json.dumps(plan)):
            changed = ", ".join(sorted(key for key in {*found, *plan} if found.get(key) != plan.get(key)))
            raise RunDirectoryError(f"{output} holds another labeling job ({changed}): choose another --output")
        return True
    if output.exists() and any(not entry.name.startswith(".") for entry in output.iterdir()):
        raise RunDirectoryError(f"{output} is not empty: choose another --output")
    return False


@contextmanager
def only_job(output: Path) -> Iterator[None]:
    """Keep other processes from the same job.

    Raises:
        RunDirectoryError: one is at work.
    """
    output.mkdir(parents=True, exist_ok=True)
    with locked(output):
        yield
