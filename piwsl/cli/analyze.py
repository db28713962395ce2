"""`piwsl analyze`: compare a run with a reference."""

import json
from pathlib import Path

import click


@click.command(name="analyze")
@click.argument("run_directory", metavar="RUN_DIR", type=click.Path(path_type=Path))
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    help="Trajectory, npz, extended XYZ or saved statistics to compare with.  [default: that of the bundled system]",
)
@click.option(
    "--reference-topology",
    type=click.Path(path_type=Path),
    help="PDB file of a reference trajectory that holds positions only (DCD, XTC, ...).",
)
@click.option(
    "--save-reference",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Save the statistics of the reference as npz: for --reference, without the frames.",
)
@click.option("--map-atoms", is_flag=True, help="Accept another order of atoms than the reference's, by their bonds.")
@click.option("--units", help="Of an npz or XYZ reference whose lengths are not in angstrom, such as nm.")
@click.option(
    "--output", type=click.Path(path_type=Path), help="Directory of the results.  [default: RUN_DIR/analysis]"
)
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON instead of the table.")
def command(
    run_directory: Path,
    reference: Path | None,
    reference_topology: Path | None,
    save_reference: Path | None,
    map_atoms: bool,
    units: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Measure the run in RUN_DIR against a reference: stability, distances, bond lengths, energy.

    Writes analysis.json, figures and report.html; an earlier analysis there is replaced.
    """
    from piwsl.cli.analyze_display import print_comparison, reading
    from piwsl.errors import ConfigError
    from piwsl.md.analysis import (
        Reference,
        ReferenceStatistics,
        bundled_reference,
        compare_run,
        is_reference_statistics,
        read_reference,
        read_reference_statistics,
        read_run,
    )
    from piwsl.md.report import check_output, write_analysis

    if reference is None and (reference_topology is not None or units is not None):
        raise ConfigError("--reference-topology and --units belong to a --reference: name it")
    output = output or run_directory / "analysis"
    check_output(output)  # before the work, not after it
    with reading("frames") as progress:
        run = read_run(run_directory, progress)
        against: Reference | ReferenceStatistics
        if reference is None:
            against = bundled_reference(run.name, progress)
        elif is_reference_statistics(reference):
            against = read_reference_statistics(reference)
        else:
            against = read_reference(reference, reference_topology, units, progress)
        comparison = compare_run(run, against, map_atoms)
    if save_reference is not None:
        comparison.reference.save(save_reference)
    files = write_analysis(comparison, output)
    if as_json:
        click.echo(json.dumps(comparison.as_dict(), indent=1, allow_nan=False))
    else:
        print_comparison(comparison, files)
