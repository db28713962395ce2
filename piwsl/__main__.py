"""Run the `piwsl` command with `python -m piwsl`."""

from piwsl.cli.main import run

run()
