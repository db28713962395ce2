"""`piwsl evaluate`: errors of a trained potential on labeled structures."""

from pathlib import Path

import click

from piwsl.cli.names import source_name
from piwsl.errors import RunDirectoryError


@click.command(name="evaluate")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data")
@click.option("--units", help="Units of the data file, such as 'kcal/mol, angstrom', if it states none.")
@click.option(
    "--plot", type=click.Path(path_type=Path), help="Parity plot, PNG or SVG.  [default: DATA-parity.png here]"
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.option("--force", is_flag=True, help="Replace the plot.")
def command(model: Path, data: str, units: str | None, plot: Path | None, as_json: bool, force: bool) -> None:
    """Errors of a trained MODEL on the labeled frames of DATA, and a parity plot.

    DATA is a file, a directory, a pattern, or a named data set. Of a model with direct forces the curl is measured.
    """
    import json
    from dataclasses import asdict

    from piwsl.data.read import read_frames
    from piwsl.export.trained_file import DTYPES, check_elements, load_trained
    from piwsl.models.potential import DirectPotential
    from piwsl.training.evaluate import curl_of, parity_plot, predictions
    from piwsl.training.metrics import ErrorCollector
    from piwsl.units import parse_units

    plot = plot or Path(f"{source_name(data)}-parity.png")
    if plot.exists() and not force:
        raise RunDirectoryError(f"{plot} exists: --force replaces it, or choose --plot")
    trained = load_trained(model)
    frames = read_frames(data, parse_units(units) if units else None)
    check_elements(trained, frames.elements)
    collector = ErrorCollector()
    potential = trained.potential()
    where = (frames, trained.config.cutoff, DTYPES[trained.dtype])
    for prediction, batch in predictions(potential, *where):
        collector.add(prediction, batch)
    errors = collector.errors()
    curl = curl_of(potential, *where) if isinstance(potential, DirectPotential) else None
    parity_plot(collector, plot)
    if as_json:
        figures = {"frames": len(frames), **asdict(errors), "plot": str(plot)}
        if curl is not None:
            figures["curl"] = {"asymmetry": float(curl.asymmetry.mean()), "mismatch": float(curl.mismatch.mean())}
        click.echo(json.dumps(figures, indent=1))
        return
    for note in frames.notes:
        click.echo(f"note: {note}")
    click.echo(f"{len(frames)} frames of {data}")
    for line in errors.lines():
        click.echo(line)
    if offset := collector.offset_note():
        click.echo(f"note: {offset}")
    if curl is not None:
        click.echo(
            f"curl    |J - J^T| / |J + J^T| {float(curl.asymmetry.mean()):.3f} with J = dF/dx; "
            f"F + dE/dx RMS {1e3 * float(curl.mismatch.mean()):.1f} meV/A ({len(curl.mismatch)} frames)"
        )
    click.echo(f"parity plot: {plot}")
