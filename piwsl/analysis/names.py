"""Names of runs as they are shown: short, unique, and without the random names of temporary directories."""

import re
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from piwsl.analysis.groups import RunGroup
from piwsl.analysis.run_directory import Run

RANDOM_NAME = re.compile(r"tmp[a-z0-9_]{8}|tmp\.[A-Za-z0-9]{10}")  # of Python's tempfile and of mktemp
PLACEHOLDER = "structure"  # name of a system that nobody named


def is_temporary(path: Path) -> bool:
    """Return whether a path is in the temporary directory of this machine."""
    return Path(tempfile.gettempdir()).resolve() in path.resolve().parents


def system_name(run: Run) -> str:
    """Return the name of the system of a run; its formula where the system has no name."""
    name = run.name.strip()
    return run.formula if not name or name == PLACEHOLDER or RANDOM_NAME.fullmatch(name) else name


def named_groups(groups: Sequence[RunGroup], paths: Sequence[Path]) -> tuple[RunGroup, ...]:
    """Return groups whose names contain no random name of a temporary directory.

    Such parts of a name are left out. If nothing remains, the name of the system takes their place. Names that are
    then equal are numbered.

    Args:
        groups: with the names of their directories.
        paths: directory of each group.
    """
    names = [_readable(group, path) for group, path in zip(groups, paths, strict=True)]
    counts = dict.fromkeys(names, 0)
    shown = []
    for name in names:
        counts[name] += 1
        shown.append(name if names.count(name) == 1 else f"{name} {counts[name]}")
    if len(set(shown)) < len(shown):  # a directory is named like a numbered one
        return tuple(groups)
    return tuple(replace(group, name=name) for group, name in zip(groups, shown, strict=True))


def _readable(group: RunGroup, path: Path) -> str:
    if not is_temporary(path):
        return group.name
    parts = [part for part in group.name.split("/") if part and not RANDOM_NAME.fullmatch(part)]
    return "/".join(parts) or system_name(group.members[0].run)
