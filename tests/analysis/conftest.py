"""The molecule and the writer of run directories that the tests of the analysis share."""

from types import ModuleType

import pytest

from tests.support import run_directories


@pytest.fixture(scope="session")
def runs() -> ModuleType:
    return run_directories
