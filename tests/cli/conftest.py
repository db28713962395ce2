"""The command line as a user calls it, in this process."""

from dataclasses import dataclass

import pytest

from piwsl.cli.main import run


@dataclass
class Called:
    """Exit code and what was printed."""

    code: int
    out: str
    errors: list[str]


@pytest.fixture
def cli(capsys, tmp_path, monkeypatch):
    """Run `piwsl` with arguments in an empty working directory."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        code = 0
        try:
            run([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Called(code, captured.out, captured.err.splitlines())

    return call
