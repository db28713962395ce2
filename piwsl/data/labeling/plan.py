"""The plan stored in the directory of a labeling job. A job can be resumed only with an equal plan."""

import json
from collections.abc import Mapping
from typing import Any

from piwsl.errors import RunDirectoryError
from piwsl.runs.directory import DirectoryKind, RunDirectory
from piwsl.runs.files import read_json_object
from piwsl.runs.json_text import json_text

PLAN_FILE = "plan.json"
LABELING = DirectoryKind(job="a labeling job", marks=(PLAN_FILE,))


def is_begun(directory: RunDirectory, plan: Mapping[str, Any], defaults: Mapping[str, Any]) -> bool:
    """Return whether a directory already contains a labeling job with this plan.

    Args:
        directory: Directory of the job.
        plan: Plan of the job.
        defaults: Values for keys that are missing in plans written by earlier versions.

    Raises:
        RunDirectoryError: The directory contains another job or unrelated files.
    """
    if not directory.holds_job:
        directory.check_free()
        return False
    path = directory.path / PLAN_FILE
    try:
        stored = {**defaults, **read_json_object(path)}
    except RunDirectoryError as error:
        raise RunDirectoryError(f"{error}: choose another output=DIRECTORY") from None
    if stored != json.loads(json_text(plan)):
        changed = ", ".join(sorted(key for key in {*stored, *plan} if stored.get(key) != plan.get(key)))
        raise RunDirectoryError(
            f"{directory.path}: contains another labeling job ({changed}): choose another output=DIRECTORY"
        )
    return True
