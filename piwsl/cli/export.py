"""`piwsl export`: freeze a trained potential into one file."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from piwsl.errors import ConfigError, ModelFileError, RunDirectoryError
from piwsl.runs.process import use_huge_pages

if TYPE_CHECKING:
    from piwsl.data.frames import Frame
    from piwsl.export.exporter import Format

_SUFFIX = {"torchscript": ".pt", "aotinductor": ".pt2"}


@click.command(name="export", context_settings={"show_default": True})
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--target",
    type=click.Choice(["general", "openmm"]),
    default="general",
    help="general: any structure, eV and angstrom. openmm: species baked in, for OpenMM and as fast as it gets.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["torchscript", "aotinductor"]),
    default="torchscript",
    help="torchscript: runs anywhere. aotinductor: compiled for this machine, faster, for Python engines.",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", help="Where a compiled file will run.")
@click.option("--system", help="A bundled system whose species are baked in (openmm).")
@click.option("--structure", type=click.Path(path_type=Path), help="A file whose species are baked in (openmm).")
@click.option(
    "--copies",
    type=click.IntRange(min=1),
    default=1,
    help="Copies of the molecule in a call (openmm): for replicas, or a System of as many.",
)
@click.option("--output", type=click.Path(path_type=Path), help="File to write.  [default: MODEL-TARGET.pt or .pt2]")
@click.option("--dtype", type=click.Choice(["float32", "float64"]), help="Float type.  [default: that of the model]")
@click.option("--force", is_flag=True, help="Replace the output file.")
@click.option("--info", is_flag=True, help="Print the description inside an exported file and stop.")
def command(
    models: tuple[Path, ...],
    target: str,
    form: "Format",
    device: str,
    system: str | None,
    structure: Path | None,
    copies: int,
    output: Path | None,
    dtype: str | None,
    force: bool,
    info: bool,
) -> None:
    """Freeze a trained MODEL into one file, after comparing it with the model itself.

    Several models, or the directory of an ensemble, become one file that gives their mean and the deviation of forces.
    """
    if info:
        _print_info(models)
        return
    if target == "general" and (system or structure):
        raise ConfigError("--system and --structure belong to --target openmm: the general form takes any species")
    if target == "general" and copies > 1:
        raise ConfigError("--copies belongs to --target openmm: the general form takes any number of structures")
    if target == "openmm" and (system is None) == (structure is None):
        raise ConfigError("--target openmm bakes the species in: name either --system or --structure")
    paths, stem = _trained_files(models)
    output = output or stem.with_name(f"{stem.name}-{target}{_SUFFIX[form]}")
    if output.exists() and not force:
        raise RunDirectoryError(f"{output} exists: --force replaces it, or choose --output")
    use_huge_pages()
    from piwsl.export.exporter import Exporter

    exporter = Exporter(paths, dtype, device)
    if form == "aotinductor":
        click.echo("compiling, which takes a minute or more", err=True)
    if target == "general":
        result = exporter.general(output, form)
    else:
        result = exporter.openmm(_structure(system, structure), output, form, copies=copies)
    click.echo(f"verified on {result.structures} structures")
    for line in result.lines():
        click.echo(f"  {line}")
    click.echo(f"written: {output}")


def _trained_files(models: tuple[Path, ...]) -> tuple[list[Path], Path]:
    """The trained files, and the path that the default output is named after."""
    if len(models) == 1 and models[0].is_dir():
        from piwsl.training.ensemble import member_models

        return member_models(models[0]), models[0] / "ensemble"
    directory = next((model for model in models if model.is_dir()), None)
    if directory is not None:
        raise ModelFileError(f"{directory} is a directory: name trained files, or one directory of an ensemble")
    return list(models), models[0].with_name(models[0].stem)


def _structure(system: str | None, structure: Path | None) -> "Frame":
    from piwsl.data.frames import Frame
    from piwsl.data.systems import named_system
    from piwsl.md.structure import load_structure

    if system is not None:
        return Frame.from_atoms(named_system(system).structure)
    assert structure is not None
    return Frame.from_atoms(load_structure(structure))


def _print_info(models: tuple[Path, ...]) -> None:
    import json

    from piwsl.export.exported_file import read_exported_info

    for model in models:
        described = read_exported_info(model)
        # The structures are for programs: numbers by the hundred.
        described["check"] = f"{len(described['check'])} structures with energies and forces"
        click.echo(json.dumps(described, indent=1))
