import subprocess
import sys

import pytest

from piwsl import __version__
from piwsl.cli.main import COMMANDS


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
