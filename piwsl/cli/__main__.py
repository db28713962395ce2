"""Run the `piwsl` command with `python -m piwsl.cli`."""

from piwsl.cli.main import run

run()
