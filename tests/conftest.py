"""What several tests share."""

import os
from pathlib import Path

# One molecule does not fill two threads, and the tests run in two processes: of numpy, and of the processes that tests
# start. To be set before numpy is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Also after a test that trained with more."""
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real reference data; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("PIWSL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "rmd17_aspirin.npz").is_file():
        pytest.skip(f"real reference data are not at {folder} (set PIWSL_DATA)")
    return folder
