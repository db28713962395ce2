"""`piwsl cache clear`: remove the compiled files that are kept for later runs."""

import click

from piwsl.cli.command import Command


@click.command(name="clear", cls=Command)
def command() -> None:
    """Remove all compiled files that are kept for later runs."""
    from piwsl.export.compiled_cache import clear

    count, size = clear()
    click.echo(f"removed: {count} files, {size / 1e6:.1f} MB")
