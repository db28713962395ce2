"""`piwsl analyze`: compare a run with a reference."""

import json
from pathlib import Path

import click


@click.command(name="analyze")
@click.argument("run_directory", metavar="RUN_DIR", type=click.Path(path_type=Path))
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    help="Trajectory, npz or extended XYZ to compare with.  [default: that of the bundled system]",
)
@click.option(
    "--reference-topology",
    type=click.Path(path_type=Path),
    help="PDB file of a reference trajectory that holds positions only (DCD, XTC, ...).",
)
@click.option("--units", help="Of an npz or XYZ reference whose lengths are not in angstrom, such as nm.")
@click.option(
    "--output", type=click.Path(path_type=Path), help="Directory of the results.  [default: RUN_DIR/analysis]"
)
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON instead of the table.")
def command(
    run_directory: Path,
    reference: Path | None,
    reference_topology: Path | None,
    units: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Measure the run in RUN_DIR against a reference: stability, distances, bond lengths, energy.

    Writes analysis.json, figures and report.html; an earlier analysis there is replaced.
    """
    from piwsl.cli.analyze_display import print_comparison, reading
    from piwsl.errors import ConfigError
    from piwsl.md.analysis import bundled_reference, compare_run, read_reference, read_run
    from piwsl.md.report import check_output, write_analysis

    if reference is None and (reference_topology is not None or units is not None):
        raise ConfigError("--reference-topology and --units belong to a --reference: name it")
    output = output or run_directory / "analysis"
    check_output(output)  # before the work, not after it
    with reading("run") as progress:
        run = read_run(run_directory, progress)
    with reading("reference") as progress:
        if reference is None:
            against = bundled_reference(run.name, progress)
        else:
            against = read_reference(reference, reference_topology, units, progress)
    comparison = compare_run(run, against)
    files = write_analysis(comparison, output)
    if as_json:
        click.echo(json.dumps(comparison.as_dict(), indent=1, allow_nan=False))
    else:
        print_comparison(comparison, files)
