"""`piwsl data inspect`: say what a file holds."""

import click


@click.command(name="inspect")
@click.argument("source", metavar="FILE")
@click.option("--units", help="Units of the file, such as 'kcal/mol, angstrom', if it states none.")
def command(source: str, units: str | None) -> None:
    """Say what FILE holds and whether it can be what it says.

    FILE is a file, a directory, a pattern in quotes, or a named data set.
    """
    from piwsl.data.inspect import inspect_frames
    from piwsl.data.read import read_frames
    from piwsl.units import parse_units

    for line in inspect_frames(read_frames(source, parse_units(units) if units else None)).lines():
        click.echo(line)
