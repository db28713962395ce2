"""`piwsl data fetch`: download a named data set."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from piwsl.cli.command import Command

if TYPE_CHECKING:
    from piwsl.data.datasets import Dataset


@click.command(name="fetch", cls=Command)
@click.argument("name", required=False)
@click.option("--folder", type=click.Path(path_type=Path), help="Folder for the file.  [default: cache of the user]")
@click.option("--list", "listed", is_flag=True, help="List the data sets and exit.")
def command(name: str | None, folder: Path | None, listed: bool) -> None:
    """Download a named data set and verify its checksum.

    Repeat the command to resume an interrupted download. To change the default folder for all commands, set the
    environment variable PIWSL_DATA_DIR.

    \b
    piwsl data fetch --list
    piwsl data fetch rmd17:aspirin
    """
    if listed:
        _print_list()
        return
    if name is None:
        raise click.UsageError("no data set given: add a name, or print all names with --list")
    from piwsl.data.datasets import dataset, fetch
    from piwsl.runs.progress import counting

    record = dataset(name)
    with counting(True, "", describe=_megabytes) as progress:
        path = fetch(name, folder, progress)
    for line in _description(record, path, folder):
        click.echo(line)


def _megabytes(done: int, total: int | None) -> str:
    return f"{done / 1e6:.1f}{f' of {total / 1e6:.1f}' if total else ''} MB"


def _description(record: "Dataset", path: Path, folder: Path | None) -> list[str]:
    frames = "frames" if record.frames is None else f"{record.frames} frames"
    return [
        f"{record.name:<11}{record.content}; {frames}, {record.level}",
        f"file       {path}",
        f"checksum   {_verification(record, folder)}",
        f"license    {record.license or f'not stated; see {record.file.page}'}",
        f"cite       {record.citation}, https://doi.org/{record.doi}",
        f"train      {_training(record, path, folder)}",
    ]


def _verification(record: "Dataset", folder: Path | None) -> str:
    from piwsl.data.datasets import recorded_sha256

    if record.file.checksum:
        return f"{record.file.checksum}, as published"
    digest = recorded_sha256(record.name, folder)
    if digest is None:
        return "none: this copy was downloaded manually and could not be verified"
    return f"none published; this copy could not be verified; sha256:{digest} is stored for later checks"


def _training(record: "Dataset", path: Path, folder: Path | None) -> str:
    source = f"--data {record.name}" if folder is None else f"--data {path} --units '{record.units}'"
    sizes = {"train": record.protocol.train, "validation": record.protocol.validation, "test": record.protocol.test}
    options = "".join(f" -o data.{part}={size}" for part, size in sizes.items() if size is not None)
    return f"piwsl train {source}{options}"


def _print_list() -> None:
    from rich.console import Console
    from rich.table import Table

    from piwsl.data.datasets import DATASETS

    titles = ("name", "frames", "level of theory", "size", "file", "citation")
    rows = [
        (
            record.name,
            "?" if record.frames is None else str(record.frames),
            record.level,
            "?" if record.file.size is None else f"{record.file.size / 1e6:.0f} MB",
            record.file.state,
            f"{record.citation}, doi:{record.doi}",
        )
        for record in DATASETS.values()
    ]
    console = Console()
    if console.is_terminal:
        table = Table(*titles, title="piwsl data fetch")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    else:
        widths = [max(len(row[column]) for row in (titles, *rows)) for column in range(len(titles))]
        for row in (titles, *rows):
            click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    click.echo(
        "file: checksum - verified against a published checksum; no checksum - none is published, and the checksum of "
        "the first copy is stored; by hand - download the file from its page. The addresses have not been tested."
    )
