"""`piwsl data convert`: write frames in another format."""

from pathlib import Path

import click


@click.command(name="convert")
@click.argument("source", metavar="INPUT")
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--units", help="Units of INPUT, such as 'kcal/mol, angstrom', if it states none.")
@click.option("--force", is_flag=True, help="Replace OUTPUT where it exists.")
def command(source: str, output: Path, units: str | None, force: bool) -> None:
    """Write the frames of INPUT to OUTPUT, in eV and angstrom.

    INPUT is a file, a directory, a pattern in quotes, or a named data set. The ending of OUTPUT names the format:
    .h5 (packed, for training from large sets), .extxyz, .npz (one molecule), .db or .aselmdb.
    """
    from piwsl.cli.progress import counting_display
    from piwsl.data.convert import check_output, convert
    from piwsl.data.read import read_frames
    from piwsl.units import parse_units

    check_output(output, force)
    frames = read_frames(source, parse_units(units) if units else None)
    for note in frames.notes:
        click.echo(f"note: {note}")
    with counting_display("frames") as progress:
        counts = convert(frames, output, force, progress)
    stresses = f", stress on {counts['stresses']}" if counts["stresses"] else ""
    click.echo(
        f"{output}: {counts['frames']} frames, energies on {counts['energies']}, forces on {counts['forces']}"
        f"{stresses}; {output.stat().st_size / 1e6:.1f} MB"
    )
