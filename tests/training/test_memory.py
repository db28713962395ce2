import os
import platform
import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, torch
from piwsl.runs.process_settings import keep_freed_memory
if {keep}:
    assert keep_freed_memory()
names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
Info = type("Info", (ctypes.Structure,), {{"_fields_": [(name, ctypes.c_size_t) for name in names.split()]}})
mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Info
before = mallinfo().hblkhd
block = torch.ones(4_000_000)
print(mallinfo().hblkhd - before)
"""


def mapped_bytes(keep):
    """Bytes that the system maps for a block of 16 MB, outside the heap."""
    command = [sys.executable, "-c", SCRIPT.format(keep=keep)]
    # A setting of the caller, such as MALLOC_ARENA_MAX, would take precedence.
    environment = {name: value for name, value in os.environ.items() if "MALLOC_" not in name and "GLIBC" not in name}
    run = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=120)
    return int(run.stdout)


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt belongs to the GNU C library")
def test_large_blocks_come_from_the_heap():
    assert mapped_bytes(keep=False) >= 16_000_000
    assert mapped_bytes(keep=True) == 0
