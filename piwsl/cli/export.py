"""`piwsl export`: freeze a trained potential into one file."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from piwsl.cli.command import Command
from piwsl.runs.process import use_huge_pages

if TYPE_CHECKING:
    from piwsl.export.exporter import Format


@click.command(name="export", cls=Command, context_settings={"show_default": True})
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--target",
    type=click.Choice(["general", "openmm"]),
    default="general",
    help="general: any structure, in eV and angstrom. openmm: one structure with its species baked in, for OpenMM "
    "and for the fastest evaluation.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["torchscript", "aotinductor"]),
    default="torchscript",
    help="torchscript: runs on any machine. aotinductor: compiled for this machine, faster, for Python engines.",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", help="Where a compiled file will run.")
@click.option("--system", help="Bundled system whose species are baked in (openmm).")
@click.option("--structure", type=click.Path(path_type=Path), help="File whose species are baked in (openmm).")
@click.option(
    "--copies",
    type=click.IntRange(min=1),
    default=1,
    help="Copies of the molecule that one call evaluates (openmm): for replicas, or a System with as many.",
)
@click.option("--output", type=click.Path(path_type=Path), help="File to write.  [default: MODEL-TARGET.pt or .pt2]")
@click.option(
    "--dtype", type=click.Choice(["float32", "float64"]), help="Floating-point type.  [default: that of the model]"
)
@click.option("--force", is_flag=True, help="Replace an existing output file.")
@click.option("--info", is_flag=True, help="Print the description inside an exported file and exit.")
def command(
    models: tuple[Path, ...],
    target: Literal["general", "openmm"],
    form: "Format",
    device: Literal["cpu", "cuda"],
    system: str | None,
    structure: Path | None,
    copies: int,
    output: Path | None,
    dtype: Literal["float32", "float64"] | None,
    force: bool,
    info: bool,
) -> None:
    """Freeze a trained MODEL into one file, after comparing the file with the model.

    Several models, or the directory of an ensemble, become one file that returns their mean and the standard
    deviation of the forces.
    """
    if info:
        _print_info(models)
        return
    use_huge_pages()
    from piwsl import export_model

    if form == "aotinductor":
        click.echo("compiling, which takes a minute or more", err=True)
    exported = export_model(
        models,
        output,
        target=target,
        structure=structure,
        system=system,
        format=form,
        copies=copies,
        dtype=dtype,
        device=device,
        force=force,
    )
    click.echo(f"verified on {exported.verification.structures} structures")
    for line in exported.verification.lines():
        click.echo(f"  {line}")
    click.echo(f"written: {exported.path}")


def _print_info(models: tuple[Path, ...]) -> None:
    from piwsl.export.exported_file import read_exported_info
    from piwsl.runs.json_text import json_text

    for model in models:
        described = read_exported_info(model)
        # The structures are for programs: numbers by the hundred.
        described["check"] = f"{len(described['check'])} structures with energies and forces"
        click.echo(json_text(described, indent=1))
