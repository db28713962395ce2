import os
import subprocess
import sys
from pathlib import Path

import pytest

SWITCH = Path("/sys/kernel/mm/transparent_hugepage/enabled")
HUGE_BYTES = """
from piwsl.runs.process import use_huge_pages
{use}
import torch
block = torch.ones(64 * 2**20)
lines = open("/proc/self/smaps_rollup").read().splitlines()
print(sum(int(line.split()[1]) for line in lines if line.startswith("AnonHugePages")))
"""


def huge_kilobytes(use: str) -> int:
    script = HUGE_BYTES.format(use=use)
    # Commands of other tests in this process may have set it.
    own = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    said = subprocess.run([sys.executable, "-c", script], env=own, capture_output=True, text=True, check=True)
    return int(said.stdout)


@pytest.mark.skipif(
    not SWITCH.exists() or "[madvise]" not in SWITCH.read_text(), reason="the system gives no huge pages on demand"
)
def test_large_blocks_lie_on_huge_pages():
    assert huge_kilobytes("use_huge_pages()") >= 200 * 1024
    assert huge_kilobytes("") == 0
