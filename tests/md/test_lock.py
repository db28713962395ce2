import signal
import subprocess
import sys
from pathlib import Path

import pytest

from piwsl.errors import RunDirectoryError
from piwsl.md.lock import locked
from piwsl.md.protocol import MDProtocol
from piwsl.md.run import run_md

HOLD = """
import sys, time
from pathlib import Path
from piwsl.md.lock import locked
with locked(Path(sys.argv[1]), [int(one) for one in sys.argv[2:]]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holding():
    """Processes that hold locks."""
    processes = []

    def start(directory: Path, *replicas: int) -> subprocess.Popen:
        command = [sys.executable, "-c", HOLD, str(directory), *map(str, replicas)]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert processes[-1].stdout.readline() == "held\n"
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_second_process_is_refused_until_the_first_dies(holding, tmp_path):
    process = holding(tmp_path)
    with pytest.raises(RunDirectoryError, match="another process is running this"), locked(tmp_path):
        pass
    with locked(tmp_path, [0, 1]):
        pass  # replicas have locks of their own
    process.send_signal(signal.SIGKILL)
    with locked(tmp_path, patience=10):
        pass


def test_replicas_are_locked_one_by_one(holding, tmp_path):
    holding(tmp_path, 3, 4)
    with locked(tmp_path, [0, 1, 2]):
        pass
    with pytest.raises(RunDirectoryError, match="another process"), locked(tmp_path, [2, 3]):
        pass
    with locked(tmp_path, [2]):
        pass


def test_a_run_that_goes_on_is_neither_replaced_nor_continued(holding, ethanol, make_model, tmp_path):
    model, protocol = make_model(ethanol), MDProtocol.of(steps=20, state_interval=10)
    run_md(ethanol, model, protocol, tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    holding(tmp_path / "run")
    longer = MDProtocol.of(steps=40, state_interval=10)
    for option in ("force", "restart"):
        with pytest.raises(RunDirectoryError, match="another process is running this"):
            run_md(ethanol, model, longer, tmp_path / "run", **{option: True})
    assert {path: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
