"""The documentation site builds without a warning."""

import os
import subprocess
import sys

import pytest

from tests.support.pages import ROOT


@pytest.mark.slow
def test_the_site_builds(tmp_path):
    pytest.importorskip("sphinx")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", tmp_path / "doctrees"]
    result = subprocess.run(
        [*command, ROOT / "docs", tmp_path / "site"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    for page, expected in {
        "api/losses.html": "PITC",
        "cli.html": "--trajectory-interval",
        "index.html": "aspirin",
    }.items():
        assert expected in (tmp_path / "site" / page).read_text(), page
