"""What several tests share."""

import os
from pathlib import Path

import pytest
import torch

# One molecule does not fill two threads, and the tests run in two processes.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real reference data; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("PIWSL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "rmd17_aspirin.npz").is_file():
        pytest.skip(f"real reference data are not at {folder} (set PIWSL_DATA)")
    return folder
