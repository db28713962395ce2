"""`piwsl data inspect`: report the content of a file."""

import click

from piwsl.cli.command import Command


@click.command(name="inspect", cls=Command)
@click.argument("source", metavar="FILE")
@click.option("--units", help="Units of the file, such as 'kcal/mol, angstrom', if the file does not contain them.")
def command(source: str, units: str | None) -> None:
    """Report the content of FILE and check that its numbers are plausible.

    FILE is a file, a directory, a pattern in quotes, or a named data set.
    """
    from piwsl import read_frames
    from piwsl.data.inspect import inspect_frames

    for line in inspect_frames(read_frames(source, units)).lines():
        click.echo(line)
