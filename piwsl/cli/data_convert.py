"""`piwsl data convert`: write frames in another format."""

from pathlib import Path

import click

from piwsl.cli.command import Command


@click.command(name="convert", cls=Command)
@click.argument("source", metavar="INPUT")
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--units", help="Units of INPUT, such as 'kcal/mol, angstrom', if the file does not contain them.")
@click.option("--force", is_flag=True, help="Replace an existing OUTPUT.")
def command(source: str, output: Path, units: str | None, force: bool) -> None:
    """Write the frames of INPUT to OUTPUT, in eV and angstrom.

    INPUT is a file, a directory, a pattern in quotes, or a named data set. The suffix of OUTPUT selects the format:
    .h5 (packed, for training on large sets), .extxyz, .npz (one molecule), .db or .aselmdb.
    """
    from piwsl import read_frames
    from piwsl.data.write import check_output, write_frames
    from piwsl.runs.progress import counting

    check_output(output, force)
    frames = read_frames(source, units)
    lines = [*frames.names.lines(), *(f"note: {note}" for note in frames.notes)]
    for line in [*lines, *(f"warning: {text}" for text in frames.names.warnings())]:
        click.echo(line)
    with counting(True, "frames", click.echo) as progress:
        counts = write_frames(frames, output, force, progress)
    stresses = f", stress on {counts['stresses']}" if counts["stresses"] else ""
    click.echo(
        f"{output}: {counts['frames']} frames, energies on {counts['energies']}, forces on {counts['forces']}"
        f"{stresses}; {output.stat().st_size / 1e6:.1f} MB"
    )
