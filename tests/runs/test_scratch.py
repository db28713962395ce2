"""Temporary files are made in one place, which removes what a killed process has left behind."""

import re
from pathlib import Path

import piwsl


def test_temporary_files_are_made_in_one_module():
    root = Path(piwsl.__file__).parent
    pattern = re.compile(r"TemporaryDirectory|NamedTemporaryFile|mkdtemp|mkstemp")
    users = [path.relative_to(root).as_posix() for path in root.rglob("*.py") if pattern.search(path.read_text())]
    assert users == ["runs/scratch.py"]
