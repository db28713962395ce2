"""`piwsl evaluate`: errors of a trained potential on labeled structures."""

from pathlib import Path

import click

from piwsl.cli.command import Command
from piwsl.errors import RunDirectoryError


@click.command(name="evaluate", cls=Command)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data")
@click.option("--units", help="Units of the data file, such as 'kcal/mol, angstrom', if it does not state them.")
@click.option(
    "--plot", type=click.Path(path_type=Path), help="Parity plot, PNG or SVG.  [default: DATA-parity.png here]"
)
@click.option("--json", "as_json", is_flag=True, help="Print the errors as JSON.")
@click.option("--force", is_flag=True, help="Replace an existing plot.")
@click.option("--strict", is_flag=True, help="Refuse frames outside of the training data instead of a warning.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    model: Path,
    data: str,
    units: str | None,
    plot: Path | None,
    as_json: bool,
    force: bool,
    strict: bool,
) -> None:
    """Measure the errors of a trained MODEL on the labeled frames of DATA and draw a parity plot.

    DATA is a file, a directory, a pattern, or a named data set. For models with direct forces, the curl of the forces
    is measured, too.
    """
    import json
    from dataclasses import asdict

    from piwsl import evaluate
    from piwsl.cli.logs import printing_warnings
    from piwsl.data.read import source_name

    plot = plot or Path(f"{source_name(data)}-parity.png")
    if plot.exists() and not force:
        raise RunDirectoryError(f"{plot} exists: replace it with force=True, or choose another plot")
    with printing_warnings(ctx.command):
        result = evaluate(model, data, units=units, progress=False, strict=strict)
    result.plot(plot)
    if as_json:
        figures = {"frames": len(result.energy_errors), **asdict(result.errors), "plot": str(plot)}
        if result.curl is not None:
            figures["curl"] = {
                "asymmetry": float(result.curl.asymmetry.mean()),
                "mismatch": float(result.curl.mismatch.mean()),
            }
        click.echo(json.dumps(figures, indent=1))
        return
    click.echo(f"{len(result.energy_errors)} frames of {data}")
    for line in [*result.lines(), *(f"note: {note}" for note in result.notes)]:
        click.echo(line)
    click.echo(f"parity plot: {plot}")
