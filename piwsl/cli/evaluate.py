"""`piwsl evaluate`: errors of a trained potential on labelled structures."""

from pathlib import Path

import click

from piwsl.errors import RunDirectoryError


@click.command(name="evaluate")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--units", help="Units of the data file, such as 'kcal/mol, angstrom', if it states none.")
@click.option(
    "--plot", type=click.Path(path_type=Path), help="Parity plot, PNG or SVG.  [default: DATA-parity.png here]"
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.option("--force", is_flag=True, help="Replace the plot.")
def command(model: Path, data: Path, units: str | None, plot: Path | None, as_json: bool, force: bool) -> None:
    """Errors of a trained MODEL on the labelled frames of DATA, and a parity plot."""
    import json
    from dataclasses import asdict

    from piwsl.data.read import read_frames
    from piwsl.export.torchscript import check_elements
    from piwsl.export.trained import DTYPES, load_trained
    from piwsl.training.evaluate import predictions
    from piwsl.training.metrics import ErrorCollector
    from piwsl.training.parity import parity_plot
    from piwsl.units import parse_units

    plot = plot or Path(f"{data.name.split('.')[0]}-parity.png")
    if plot.exists() and not force:
        raise RunDirectoryError(f"{plot} exists: --force replaces it, or choose --plot")
    trained = load_trained(model)
    frames = read_frames(data, parse_units(units) if units else None)
    check_elements(trained, frames.elements)
    collector = ErrorCollector()
    for prediction, batch in predictions(trained.potential(), frames, trained.config.cutoff, DTYPES[trained.dtype]):
        collector.add(prediction, batch)
    errors = collector.errors()
    parity_plot(collector, plot)
    if as_json:
        click.echo(json.dumps({"frames": len(frames), **asdict(errors), "plot": str(plot)}, indent=1))
        return
    for note in frames.notes:
        click.echo(f"note: {note}")
    click.echo(f"{len(frames)} frames of {data}")
    for line in errors.lines():
        click.echo(line)
    click.echo(f"parity plot: {plot}")
