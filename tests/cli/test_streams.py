"""Standard streams that are closed, full, or read by a program that ends: the exit code stays as documented."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from piwsl.cli.streams import usable_streams
from piwsl.data.write import write_frames
from tests.support.molecules import frame

pytestmark = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is full")


def shell(line: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run a line of bash in a folder, with `piwsl` as a command."""
    piwsl = f"piwsl() {{ '{sys.executable}' -m piwsl \"$@\"; }}\n"
    return subprocess.run(["bash", "-c", piwsl + line], capture_output=True, text=True, cwd=folder)


@pytest.mark.parametrize("command", ["--version", "--help", "train --help", "data --help"])
def test_a_reader_that_ends_is_no_error(command, tmp_path: Path):
    done = shell(f"piwsl {command} | true; exit ${{PIPESTATUS[0]}}", tmp_path)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.slow
def test_a_reader_that_ends_stops_a_report(tmp_path: Path):
    write_frames([frame("H2O", seed=seed, labeled=True) for seed in range(8)], tmp_path / "water.extxyz")
    done = shell("piwsl data inspect water.extxyz | true; exit ${PIPESTATUS[0]}", tmp_path)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("stderr", ["2> /dev/full", "2>&-"])
@pytest.mark.parametrize("command", ["nonsense", "train --nonsense", "export", "export none.pt"])
def test_an_error_that_cannot_be_printed_has_the_same_exit_code(stderr, command, tmp_path: Path):
    done = shell(f"piwsl {command} {stderr}", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


@pytest.mark.parametrize("streams", [">&-", ">&- 2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams_are_empty(streams, tmp_path: Path):
    done = shell(f"piwsl --help {streams}", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout) == (streams == "<&-")


@pytest.mark.slow
@pytest.mark.parametrize("stderr", ["2> /dev/full", ">&- 2>&-"])
def test_a_run_continues_if_messages_cannot_be_printed(stderr, tmp_path: Path):
    write_frames([frame("H2O", seed=seed, labeled=True) for seed in range(8)], tmp_path / "water.extxyz")
    options = "-o data.train=4 -o data.validation=2 -o optimizer.steps=1 -o loss.pisc=0 -o model.channels=4"
    done = shell(f"piwsl train --data water.extxyz --output run {options} {stderr}", tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "run" / "model.pt").exists()


def test_files_do_not_get_the_numbers_of_closed_streams():
    program = (
        "import os\n"
        "from piwsl.cli.streams import usable_streams\n"
        "os.close(2)\n"
        "with usable_streams():\n"
        "    assert os.open(os.devnull, os.O_RDONLY) > 2\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_characters_that_the_terminal_lacks_become_escapes(tmp_path: Path):
    program = (
        "import sys\n"
        "from piwsl.cli.streams import usable_streams\n"
        "with usable_streams():\n"
        "    print('5 \\u00c5')\n"
        "    sys.exit(0)\n"
    )
    variables = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=variables)
    assert (done.returncode, done.stdout, done.stderr) == (0, "5 \\xc5\n", "")


def test_open_streams_are_unchanged():
    before = sys.stdin, sys.stdout, sys.stderr
    with usable_streams():
        assert (sys.stdin, sys.stdout, sys.stderr) == before
