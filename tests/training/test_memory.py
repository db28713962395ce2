import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, torch
from piwsl.training.memory import keep_freed_memory
if {keep}:
    assert keep_freed_memory()
for _ in range(3):
    torch.ones(2_000_000).add(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(2_000_000).add(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(keep):
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(keep=keep)], check=True, capture_output=True, text=True, timeout=120
    )
    return int(run.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt belongs to the GNU C library")
def test_blocks_are_reused():
    assert page_faults(True) < page_faults(False) / 10
