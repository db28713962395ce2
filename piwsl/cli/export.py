"""`piwsl export`: export a trained potential to one file."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from piwsl.cli.command import Command
from piwsl.runs.process_settings import use_huge_pages
from piwsl.runs.progress import to_stderr

if TYPE_CHECKING:
    from piwsl.export.exporter import Format


@click.command(name="export", cls=Command, context_settings={"show_default": True})
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--target",
    type=click.Choice(["general", "openmm"]),
    default="general",
    help="general: any structure, in eV and angstrom. openmm: one structure with fixed species, for OpenMM and for the "
    "fastest evaluation.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["torchscript", "aotinductor"]),
    default="torchscript",
    help="torchscript: runs on any machine. aotinductor: compiled for this machine; faster, for Python engines only.",
)
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), default="cpu", help="Device on which a compiled file will run."
)
@click.option("--system", help="Bundled system that defines the species (openmm).")
@click.option("--structure", type=click.Path(path_type=Path), help="Structure file that defines the species (openmm).")
@click.option(
    "--copies",
    type=click.IntRange(min=1),
    default=1,
    help="Number of copies of the molecule per call (openmm), for replicas or for a System with several molecules.",
)
@click.option(
    "--charge",
    type=click.IntRange(-100, 100),
    help="Total charge of the structure [e] (openmm).  [default: of the structure file, or of the model]",
)
@click.option(
    "--unpaired-electrons",
    type=click.IntRange(0, 100),
    help="Unpaired electrons of the structure (openmm).  [default: of the structure file, or of the model]",
)
@click.option(
    "--head",
    metavar="NAME",
    help="Level of theory to export, for a model that was trained on several.  [default: the main level]",
)
@click.option("--output", type=click.Path(path_type=Path), help="File to write.  [default: MODEL-TARGET.pt or .pt2]")
@click.option(
    "--dtype", type=click.Choice(["float32", "float64"]), help="Floating-point type.  [default: type of the model]"
)
@click.option("--force", is_flag=True, help="Replace an existing output file.")
@click.option(
    "--accept-limitation",
    is_flag=True,
    help="Export for OpenMM although the network breaks a law, such as SpinConv, whose forces jump.",
)
@click.option(
    "--strict", is_flag=True, help="Refuse a structure outside the training data instead of printing a warning."
)
@click.option("--info", is_flag=True, help="Print the description inside an exported or trained file and exit.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    models: tuple[Path, ...],
    target: Literal["general", "openmm"],
    form: "Format",
    device: Literal["cpu", "cuda"],
    system: str | None,
    structure: Path | None,
    copies: int,
    charge: int | None,
    unpaired_electrons: int | None,
    head: str | None,
    output: Path | None,
    dtype: Literal["float32", "float64"] | None,
    force: bool,
    strict: bool,
    accept_limitation: bool,
    info: bool,
) -> None:
    """Export a trained MODEL to one file and verify the file against the model.

    Several models, or the directory of an ensemble, are exported to one file that returns mean values and the standard
    deviation of the forces.

    The exported file contains code for other programs. MODEL contains only data; share and archive MODEL.
    """
    if info:
        _print_info(models)
        return
    use_huge_pages()
    from piwsl import export_model
    from piwsl.cli.logs import printing_warnings

    if form == "aotinductor":
        to_stderr("compiling, which takes a minute or more")
    with printing_warnings(ctx.command):
        exported = export_model(
            models,
            output,
            target=target,
            structure=structure,
            system=system,
            format=form,
            copies=copies,
            charge=charge,
            unpaired_electrons=unpaired_electrons,
            dtype=dtype,
            device=device,
            force=force,
            strict=strict,
            accept_limitation=accept_limitation,
            head=head,
        )
    click.echo(f"verified on {exported.verification.structures} structures")
    for line in exported.verification.lines():
        click.echo(f"  {line}")
    if exported.limitation:
        click.echo(f"limitation: {exported.limitation}")
    click.echo(f"written: {exported.path}")


def _print_info(models: tuple[Path, ...]) -> None:
    from piwsl.export.exported_file import ExportedRecord, read_exported_info
    from piwsl.export.loading import is_trained
    from piwsl.export.trained_file import load_trained, trained_description
    from piwsl.runs.json_text import json_text

    for model in models:
        if is_trained(model):
            trained = load_trained(model)
            described, domain = trained_description(trained), trained.domain
        else:
            described = read_exported_info(model)
            domain = ExportedRecord.model_validate(described).domain
            # Structures and hashes consist of hundreds of numbers that are only useful to programs.
            described["check"] = f"{len(described['check'])} structures with energies and forces"
            described["sha256"] = f"hashes of {len(described['sha256'])} members"
        remark = None if domain is None else domain.remark()
        if remark:
            described["remark"] = remark
        click.echo(json_text(described, indent=1))
