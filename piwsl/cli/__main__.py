"""`python -m piwsl.cli` is the `piwsl` command."""

from piwsl.cli.main import run

run()
