"""`piwsl import`: convert a foundation model of another program to a trained file."""

from pathlib import Path

import click

from piwsl.cli.command import Command


@click.command(name="import", cls=Command)
@click.argument("source")
@click.option("--output", type=click.Path(path_type=Path), help="File to write.  [default: NAME.pt]")
@click.option("--charge", type=int, default=0, show_default=True, help="Total charge of the structures [e] (so3lr).")
@click.option(
    "--unpaired-electrons",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Unpaired electrons of the structures (so3lr).",
)
@click.option("--head", help="Name of the head, for a model with several heads.")
@click.option("--license", "license_", help="License of the weights, if the file does not state it.")
@click.option("--level", help="Level of theory of the labels, if the file does not state it.")
@click.option("--force", is_flag=True, help="Replace an existing output file.")
def command(
    source: str,
    output: Path | None,
    charge: int,
    unpaired_electrons: int,
    head: str | None,
    license_: str | None,
    level: str | None,
    force: bool,
) -> None:
    """Convert a foundation model of another program to a trained file.

    SOURCE is so3lr or a file. For so3lr, install the package so3krates-torch, which contains the weights:
    `pip install 'piwsl[so3lr]'`. A file is a wheel of this package, or a whole model that its program saved. It is read
    as data: none of its code is executed.

    \b
    piwsl import so3lr
    piwsl evaluate so3lr.pt aspirin
    piwsl train --init-from so3lr.pt --data few_labels.extxyz
    """
    from piwsl import import_model

    imported = import_model(
        source,
        output,
        charge=charge,
        unpaired_electrons=unpaired_electrons,
        head=head,
        license=license_,
        level=level,
        force=force,
    )
    for line in imported.lines():
        click.echo(line)
    click.echo(f"written: {imported.path}")
