import os
import subprocess
import sys

import pytest

from piwsl import __version__
from piwsl.cli.main import COMMANDS
from piwsl.data.write import write_frames
from tests.support.molecules import frame


@pytest.mark.slow
def test_help_names_every_command_and_imports_nothing_heavy():
    script = (
        "import sys\n"
        "from piwsl.cli.main import run\n"
        "try:\n    run(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'openmm', 'mdtraj', 'matplotlib', 'ase', 'lightning'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(cli, name):
    called = cli(name, "--help")
    assert called.code == 0
    assert called.out.startswith(f"Usage: piwsl {name}")


def test_version(cli):
    assert __version__ in cli("--version").out


@pytest.mark.parametrize("arguments", [["nonsense"], ["train", "--nonsense"], ["export"]])
def test_wrong_usage_is_exit_code_2(cli, arguments):
    called = cli(*arguments)
    assert called.code == 2
    assert called.errors


def test_debug_shows_the_traceback(cli):
    from piwsl.errors import ModelFileError

    assert cli("export", "none.pt").errors == ["piwsl: none.pt: no such file"]
    with pytest.raises(ModelFileError):
        cli("--debug", "export", "none.pt")


@pytest.mark.parametrize("package", ["piwsl", "piwsl.cli"])
def test_the_package_runs_as_a_module(package):
    line = [sys.executable, "-m", package]
    done = subprocess.run([*line, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"piwsl, version {__version__}\n"
    assert subprocess.run([*line, "nonsense"], capture_output=True, text=True).returncode == 2


def command(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    variables = {**os.environ, **environment}
    line = [sys.executable, "-m", "piwsl.cli", *arguments]
    return subprocess.run(line, env=variables, capture_output=True, text=True, errors="replace")


def test_python_without_assertions_is_refused():
    done = command("--version", PYTHONOPTIMIZE="1")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "unset PYTHONOPTIMIZE" in done.stderr


@pytest.mark.slow
def test_names_outside_the_locale_are_one_line():
    done = command("train", "--data", "w\u00f6.xyz", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is full")
def test_output_that_cannot_be_written_is_one_line():
    line = [sys.executable, "-m", "piwsl.cli", "train", "--template"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == "piwsl: the operating system: No space left on device: make room, then try again\n"


@pytest.mark.slow
def test_nothing_is_left_among_temporary_files(tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    write_frames([frame("H2O", seed=seed, labeled=True) for seed in range(8)], tmp_path / "water.extxyz")
    options = ("data.train=4", "data.validation=2", "optimizer.steps=1", "loss.pisc=0", "model.channels=4")
    line = ["train", "--data", str(tmp_path / "water.extxyz"), "--output", str(tmp_path / "run")]
    done = command(*line, *(word for option in options for word in ("-o", option)), TMPDIR=str(temporary))
    assert (done.returncode, list(temporary.iterdir())) == (0, []), done.stderr


def test_messages_name_the_arguments_of_a_command(cli):
    assert cli("learn", "--budget", "5").errors == ["piwsl: no structure: give --system NAME or STRUCTURE"]


@pytest.mark.parametrize(
    "error", [MemoryError(), ImportError("libtorch.so: failed to map segment"), RuntimeError("can't allocate memory")]
)
def test_too_little_memory_is_one_line(cli, monkeypatch, error):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr("piwsl.export_model", fail, raising=False)
    called = cli("export", "model.pt")
    assert (called.code, len(called.errors)) == (2, 1)
    assert called.errors[0].startswith("piwsl: out of memory: ")


def test_another_error_of_a_library_is_not_hidden(cli, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("something else")

    monkeypatch.setattr("piwsl.export_model", fail, raising=False)
    with pytest.raises(RuntimeError, match="something else"):
        cli("export", "model.pt")
