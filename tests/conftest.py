"""Settings of every test, and the fixtures that several packages share."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

# One molecule does not fill two threads, and the tests run in two processes. Child processes inherit the variable;
# numpy reads it at import.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What a test exports is not to be remembered for the user. Child processes inherit this variable, too.
if "PIWSL_CACHE_DIR" not in os.environ:
    os.environ["PIWSL_CACHE_DIR"] = tempfile.mkdtemp(prefix="piwsl-tests-")
    atexit.register(shutil.rmtree, os.environ["PIWSL_CACHE_DIR"], ignore_errors=True)
# Each process that compiles a model would first compile and load a program for each set of vector instructions that
# the processor has. PyTorch reads the variable at import.
os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")

import pytest

from tests.long import is_long

if TYPE_CHECKING:  # the process that distributes the tests needs nothing of PyTorch: the fixtures import it
    from ase import Atoms

    from tests.support.exports import Exports


@pytest.hookimpl(tryfirst=True)  # before markers select
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that `make test` leaves out."""
    folder = Path(__file__).parent
    for item in items:
        if is_long(item.path.relative_to(folder).as_posix(), item.name):
            item.add_marker(pytest.mark.long)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs openmm-torch where it is not installed."""
    if item.get_closest_marker("torchforce") and find_spec("openmmtorch") is None:
        pytest.skip("openmm-torch is not installed")


@pytest.fixture(autouse=True)
def _process() -> Iterator[None]:
    """Restore one thread, and the environment, which commands of `piwsl` that run in this process may change."""
    import torch

    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)
    environment = dict(os.environ)
    yield
    for name in os.environ.keys() - environment.keys() - {"PYTEST_CURRENT_TEST"}:
        del os.environ[name]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real reference data; skip the test where it is absent."""
    folder = Path(os.environ.get("PIWSL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "rmd17_aspirin.npz").is_file():
        pytest.skip(f"real reference data are not at {folder} (set PIWSL_DATA)")
    return folder


@pytest.fixture
def ethanol() -> Atoms:
    """Return the equilibrium structure of ethanol."""
    from ase.build import molecule

    return molecule("CH3CH2OH")


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes an exported file with harmonic springs (see `tests.support.springs`)."""
    from tests.support.springs import springs_model

    def make(atoms: Atoms, name: str = "springs.pt", **options) -> Path:
        return springs_model(tmp_path / name, atoms, **options)

    return make


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """Return the files of random models that all processes of the session share."""
    from tests.support.exports import Exports

    if "PYTEST_XDIST_WORKER" not in os.environ:
        return Exports(tmp_path_factory.mktemp("exports"))
    return Exports(tmp_path_factory.getbasetemp().parent / "exports")


@pytest.fixture(scope="session")
def runs() -> ModuleType:
    """Return the functions that write run directories by hand."""
    from tests.support import run_directories

    return run_directories
