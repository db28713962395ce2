"""Worker processes of an executor: they end with an interruption, an error, and their parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from piwsl.errors import ConfigError
from piwsl.runs.executors import LocalProcesses

pytestmark = pytest.mark.slow


def work(path: Path, pause: float = 0.0) -> str:
    if not pause:
        raise ConfigError("no pause")
    path.write_text(str(os.getpid()))
    time.sleep(pause)
    return path.name


def is_running(file: Path) -> bool:
    number = file.read_text()
    if not number:  # the process ended before it wrote
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    return True


def test_an_interruption_ends_the_processes_at_once(tmp_path: Path):
    file = tmp_path / "pid"

    def interrupt() -> None:
        if file.exists():
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(LocalProcesses(1).run(work, [(file, 60.0)], interrupt))
    assert time.monotonic() - began < 30
    assert not is_running(file)


def test_an_error_ends_the_processes_at_once(tmp_path: Path):
    file = tmp_path / "pid"
    began = time.monotonic()
    with pytest.raises(ConfigError, match="no pause"):
        list(LocalProcesses(2).run(work, [(file, 60.0), (tmp_path / "other",)]))
    assert time.monotonic() - began < 30
    assert not file.exists() or not is_running(file)


SCRIPT = """
import sys
from pathlib import Path
from piwsl.runs.executors import LocalProcesses
from tests.runs.test_executors import work

if __name__ == "__main__":
    try:
        list(LocalProcesses(2).run(work, [(Path(sys.argv[1]), 60.0)]))
    except KeyboardInterrupt:
        sys.exit(130)
"""


def test_ctrl_c_is_left_to_the_first_process(tmp_path: Path):
    script, file = tmp_path / "script.py", tmp_path / "pid"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen(
        [sys.executable, script, file],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while not file.exists():
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=30)[1] == ""
    assert process.returncode == 130
