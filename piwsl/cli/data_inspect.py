"""`piwsl data inspect`: say what a file holds."""

from pathlib import Path

import click


@click.command(name="inspect")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--units", help="Units of the file, such as 'kcal/mol, angstrom', if it states none.")
def command(file: Path, units: str | None) -> None:
    """Say what FILE holds and whether it can be what it says."""
    from piwsl.data.inspect import inspect_frames
    from piwsl.data.read import read_frames
    from piwsl.units import parse_units

    for line in inspect_frames(read_frames(file, parse_units(units) if units else None)).lines():
        click.echo(line)
