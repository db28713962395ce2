"""`piwsl cache list`: list the compiled files that are kept for later runs."""

import click

from piwsl.cli.command import Command


@click.command(name="list", cls=Command)
def command() -> None:
    """List the compiled files that are kept for later runs, the last used first."""
    from piwsl.export.compiled_cache import entries

    found = entries()
    for entry in found:
        click.echo(f"{entry.used:%Y-%m-%d %H:%M}  {entry.size / 1e6:6.1f} MB  {entry.content}  {entry.path.name[:12]}")
    click.echo(f"{len(found)} files, {sum(entry.size for entry in found) / 1e6:.1f} MB")
