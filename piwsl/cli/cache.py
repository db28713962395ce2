"""`piwsl cache`: list or clear the compiled files that are kept for later runs."""

import click

from piwsl.cli.command import LazyGroup

COMMANDS = {
    "list": "List the compiled files, the last used first.",
    "clear": "Remove all compiled files.",
}


@click.group(name="cache", cls=LazyGroup, modules=COMMANDS, prefix="cache_")
def command() -> None:
    """List or clear the compiled files that are kept for later runs.

    `piwsl md` compiles a model for a long run and keeps the file, so that further runs of the same model and atoms
    start at once. The files are in $PIWSL_CACHE_DIR/compiled, or ~/.cache/piwsl/compiled, and take at most 1 GB.
    """
