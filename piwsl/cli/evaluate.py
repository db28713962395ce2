"""`piwsl evaluate`: errors of a potential on labeled structures."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from piwsl.cli.command import Command
from piwsl.errors import RunDirectoryError
from piwsl.runs.progress import to_stderr


@click.command(name="evaluate", cls=Command)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data", nargs=-1, required=True)
@click.option(
    "--head",
    metavar="NAME",
    help="Level of theory of MODEL, if it was trained on several.  [default: the main level]",
)
@click.option("--units", help="Units of the data, such as 'kcal/mol, angstrom', if the file does not contain them.")
@click.option(
    "--plot", type=click.Path(path_type=Path), help="File for the parity plot, PNG or SVG.  [default: DATA-parity.png]"
)
@click.option(
    "--write",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Extended XYZ file for structures, predictions and errors, with the worst frame first.",
)
@click.option(
    "--scan",
    is_flag=True,
    help="Also scan close atoms and stretched bonds of the first frame, where the energy must rise.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the errors as JSON.")
@click.option("--force", is_flag=True, help="Replace an existing plot and an existing file of predictions.")
@click.option("--strict", is_flag=True, help="Refuse frames outside the training data instead of printing a warning.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    model: Path,
    data: tuple[str, ...],
    head: str | None,
    units: str | None,
    plot: Path | None,
    write: Path | None,
    scan: bool,
    as_json: bool,
    force: bool,
    strict: bool,
) -> None:
    """Measure the errors of MODEL on the labeled frames in DATA and draw a parity plot.

    MODEL is a trained file, an exported file, or the directory of a training run or an ensemble. DATA is a file, a
    directory, a pattern, or a named data set; results for several data sets are shown in one table. For models with
    direct forces, the curl of the forces is also measured. The exit code is 1 if the model returns energies or forces
    that are not finite.
    """
    from piwsl.cli.logs import printing_warnings
    from piwsl.data.read import source_name
    from piwsl.runs.files import check_unused
    from piwsl.runs.json_text import json_text
    from piwsl.training.evaluation import check_predictions_name, evaluate
    from piwsl.training.grouped_errors import GROUP_TITLES, group_rows
    from piwsl.training.scan import scan_model, summary

    plot = plot or Path(f"{source_name(data[0])}-parity.png")
    for name, path in (("plot", plot), ("write", write)):
        if path is not None:
            check_unused(path, name, force)
    if write is not None:
        check_predictions_name(write)
    source = list(data) if len(data) > 1 else data[0]
    with printing_warnings(ctx.command):
        result = evaluate(model, source, units=units, write=write, progress=False, strict=strict, head=head)
        scans = scan_model(model, result.frames, head=head) if scan else []
    has_plot = bool(result.errors.structures or result.errors.force_components) and len(result.not_finite) < len(
        result.frames
    )
    failure: RunDirectoryError | None = None
    if has_plot:
        try:
            result.plot(plot)
        except RunDirectoryError as error:  # raised after the results were printed
            failure, has_plot = error, False
    if as_json:
        files = {"plot": str(plot) if has_plot else None, "predictions": None if write is None else str(write)}
        rows = [{"kind": s.kind, "name": s.name, "rises": s.rises, "fall": s.fall} for s in scans]
        click.echo(json_text({**result.as_dict(), **files, **({"scans": rows} if scan else {})}, indent=1))
    else:
        click.echo(f"{len(result.frames)} frames of {', '.join(data)}")
        for line in result.lines():
            click.echo(line)
        for title, errors in result.groups():
            click.echo()
            _print_columns([(title, *GROUP_TITLES), *group_rows(errors)])
        for line in summary(scans) if scan else ():
            click.echo(line)
        for note in result.notes:
            click.echo(f"note: {note}")
        if has_plot:
            click.echo(f"parity plot: {plot}")
        if write is not None:
            click.echo(f"predictions, worst frame first: {write}")
    if failure is not None:
        raise failure
    if len(result.not_finite):
        to_stderr(f"piwsl: {result.notes[-1]}")
        sys.exit(1)


def _print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Print rows with a left-aligned first column and right-aligned numbers."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        numbers = (text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))
        click.echo("  ".join([row[0].ljust(widths[0]), *numbers]).rstrip())
