"""`piwsl analyze`: compare runs with a reference."""

from pathlib import Path

import click


@click.command(name="analyze")
@click.argument("run_directories", metavar="RUN_DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
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
    "--output",
    type=click.Path(path_type=Path),
    help="Directory of the results.  [default: RUN_DIR/analysis; of several runs ./analysis]",
)
@click.option(
    "--report/--no-report", "with_report", default=True, help="Write report.html and figures.  [default: yes]"
)
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON instead of the table.")
def command(
    run_directories: tuple[Path, ...],
    reference: Path | None,
    reference_topology: Path | None,
    save_reference: Path | None,
    map_atoms: bool,
    units: str | None,
    output: Path | None,
    with_report: bool,
    as_json: bool,
) -> None:
    """Measure the run in RUN_DIR against a reference: stability, distances, bond lengths, energy.

    Several runs are shown side by side; replicas of a run are one column. Writes analysis.json, tables, figures and
    report.html; an earlier analysis there is replaced.
    """
    from piwsl.analysis import analyze, save_statistics
    from piwsl.analysis.report import json_text
    from piwsl.cli.analyze_display import print_analysis, reading
    from piwsl.errors import ConfigError

    if reference is None and (reference_topology is not None or units is not None):
        raise ConfigError("--reference-topology and --units belong to a --reference: name it")
    if output is None:
        output = Path("analysis") if len(run_directories) > 1 else run_directories[0] / "analysis"
    with reading() as progress:
        analysis = analyze(
            run_directories,
            reference=reference,
            reference_topology=reference_topology,
            units=units,
            accept_mapping=map_atoms,
            output=output,
            report=with_report,
            progress=progress,
        )
    if save_reference is not None:
        save_statistics(analysis.reference, save_reference)
    if as_json:
        click.echo(json_text(analysis.groups))
    else:
        print_analysis(analysis)
