import ctypes
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from piwsl.runs.process_settings import choose_threads, process_settings
from tests.support.models_for_tests import trained_file

SWITCH = Path("/sys/kernel/mm/transparent_hugepage/enabled")
HUGE_BYTES = """
from piwsl.runs.process_settings import use_huge_pages
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


@pytest.mark.slow
@pytest.mark.skipif(
    not SWITCH.exists() or "[madvise]" not in SWITCH.read_text(), reason="the system gives no huge pages on demand"
)
def test_large_blocks_lie_on_huge_pages():
    assert huge_kilobytes("use_huge_pages()") >= 200 * 1024
    assert huge_kilobytes("") == 0


def test_a_job_leaves_threads_and_environment_as_they_were(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    environment, threads = dict(os.environ), torch.get_num_threads()
    with suppress(ZeroDivisionError), process_settings(threads + 1, deterministic=True, huge_pages=True):
        assert torch.get_num_threads() == threads + 1
        assert torch.are_deterministic_algorithms_enabled()
        with process_settings():
            os.environ["OMP_NUM_THREADS"] = "1"  # as libraries do
            torch.set_num_threads(1)
        assert torch.get_num_threads() == threads + 1
        assert torch.are_deterministic_algorithms_enabled()
        _ = 1 / 0
    assert (dict(os.environ), torch.get_num_threads()) == (environment, threads)
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_choice_of_threads_can_be_switched_off(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with process_settings(2):
        monkeypatch.setenv("PIWSL_PROCESS_SETTINGS", "0")
        choose_threads(10)
        assert torch.get_num_threads() == 2
        monkeypatch.delenv("PIWSL_PROCESS_SETTINGS")
        choose_threads(10)
        assert torch.get_num_threads() == 1


class _Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in ["arena", "ordblks", "smblks", "hblks", "hblkhd"]] + [
        (name, ctypes.c_size_t) for name in ["usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"]
    ]


def _comes_from_the_system(size: int) -> bool:
    """Whether a block has pages of its own, outside of the heap."""
    library = ctypes.CDLL(None)
    library.malloc.restype, library.mallinfo2.restype = ctypes.c_void_p, _Mallinfo2
    before = library.mallinfo2().hblks
    block = library.malloc(ctypes.c_size_t(size))
    after = library.mallinfo2().hblks
    library.free(ctypes.c_void_p(block))
    return after == before + 1


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="another C library")
def test_the_allocator_keeps_blocks_within_a_job_only():
    # Earlier tests may leave large free blocks in the heap of this process.
    code = "from tests.runs.test_process_settings import blocks_of_a_job; print(*blocks_of_a_job())"
    root = Path(__file__).parents[2]
    environment = {name: value for name, value in os.environ.items() if "MALLOC_" not in name and "GLIBC" not in name}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "True"]


def blocks_of_a_job() -> tuple[bool, bool]:
    """Whether a large block comes from the system within a job, and after it."""
    size = 31 * 2**20  # smaller than what a job keeps
    with process_settings():
        with process_settings():
            pass
        within = _comes_from_the_system(size)
    return within, _comes_from_the_system(size)


JOBS = """
import hashlib, json, os, sys
from pathlib import Path
import numpy as np
import torch
from ase import Atoms
from ase.build import molecule
from ase.io import read
from piwsl.export.exporter import Exporter
from piwsl.data.frames import Frame
from piwsl.export.trained_file import load_trained
from piwsl.md.protocol import MDProtocol
from piwsl.md.run import run_md
from piwsl.training.run import train

model = Path(sys.argv[2])
atoms = molecule("CH3CH2OH")
digest = lambda arrays: hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()

def job_md():
    protocol = MDProtocol.of(engine="ase", steps=10, trajectory_interval=5, trajectory_format="extxyz")
    run_md(atoms, model, protocol=protocol, output=folder / "md")
    return digest(frame.positions for frame in read(folder / "md/trajectory.extxyz", ":"))

def job_train():
    config = {
        "data": {"system": "aspirin", "train": 8, "validation": 4, "test": 0},
        "optimizer": {"steps": 4, "batch_size": 4, "validation_interval": 2},
        "model": {"channels": 8, "layers": 1},
    }
    train(config=config, output=folder / "train")
    tensors = load_trained(folder / "train/model.pt").tensors
    return digest(tensors[name].numpy() for name in sorted(tensors))

def job_export():
    Exporter([model]).openmm(Frame.from_atoms(atoms), folder / "exported.pt")
    energy, _ = torch.jit.load(str(folder / "exported.pt"))(torch.tensor(atoms.positions / 10, dtype=torch.float32))
    return digest([energy.detach().numpy()])

threads, environment = torch.get_num_threads(), dict(os.environ)
results = {}
for number, name in enumerate(["train", "md", "export", "train", "md"]):
    folder = Path(sys.argv[1]) / str(number)
    folder.mkdir()
    results.setdefault(name, []).append(globals()["job_" + name]())
    assert (torch.get_num_threads(), dict(os.environ)) == (threads, environment), name
print(json.dumps(results))
"""


@pytest.mark.slow
def test_jobs_follow_each_other_in_any_order(tmp_path):
    """Each gives the same bits, whatever came before it in the process."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    model = trained_file(tmp_path / "model.pt")
    command = [sys.executable, "-W", "ignore", "-c", JOBS, str(tmp_path), str(model)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    assert len(set(results["train"])) == len(set(results["md"])) == 1
