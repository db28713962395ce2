"""JSON without NaN, whatever is written."""

import json
from pathlib import Path

import numpy as np

import piwsl
from piwsl.runs.json_text import json_text


def test_numbers_that_are_not_finite_become_null():
    values = {"a": [1.0, float("nan"), (np.float32("inf"), np.int64(3))], "b": np.array([[0.5, -np.inf]]), "c": None}
    expected = {"a": [1.0, None, [None, 3]], "b": [[0.5, None]], "c": None}
    assert json.loads(json_text(values)) == expected
    assert json.loads(json_text(values, indent=1)) == expected


def test_everything_is_written_through_one_function():
    """`json.dumps` writes NaN, which is no JSON, unless it is called otherwise."""
    folder = Path(piwsl.__file__).parent
    callers = {
        str(path.relative_to(folder))
        for path in folder.rglob("*.py")
        if "json.dump" in path.read_text(encoding="utf-8")
    }
    # The requests to a child process, and the text of an option, are not files.
    assert callers == {"runs/json_text.py", "runs/reader_process.py", "training/inputs.py"}
