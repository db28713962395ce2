"""`piwsl export`: freeze a trained potential into one file."""

from pathlib import Path

import click

from piwsl.errors import ConfigError, RunDirectoryError


@click.command(name="export", context_settings={"show_default": True})
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--target",
    type=click.Choice(["general", "openmm"]),
    default="general",
    help="general: any structure, eV and angstrom. openmm: species baked in, nm and kJ/mol, for plain OpenMM scripts.",
)
@click.option("--system", help="A bundled system whose species are baked in (openmm).")
@click.option("--structure", type=click.Path(path_type=Path), help="A file whose species are baked in (openmm).")
@click.option("--output", type=click.Path(path_type=Path), help="File to write.  [default: MODEL-TARGET.pt]")
@click.option("--dtype", type=click.Choice(["float32", "float64"]), help="Float type.  [default: that of the model]")
@click.option("--force", is_flag=True, help="Replace the output file.")
@click.option("--info", is_flag=True, help="Print the description inside an exported file and stop.")
def command(
    model: Path,
    target: str,
    system: str | None,
    structure: Path | None,
    output: Path | None,
    dtype: str | None,
    force: bool,
    info: bool,
) -> None:
    """Freeze a trained MODEL into a TorchScript file, after comparing it with the model itself."""
    if info:
        import json

        from piwsl.export.exported import read_exported_info

        click.echo(json.dumps(read_exported_info(model), indent=1))
        return
    output = output or model.with_name(f"{model.stem}-{target}.pt")
    if output.exists() and not force:
        raise RunDirectoryError(f"{output} exists: --force replaces it, or choose --output")
    if target == "general":
        if system or structure:
            raise ConfigError("--system and --structure belong to --target openmm: the general form takes any species")
        from piwsl.export.torchscript import export_general

        result = export_general(model, output, dtype)
    else:
        from piwsl.data.frames import Frame
        from piwsl.data.read import read_frames
        from piwsl.data.systems import named_system
        from piwsl.export.torchscript import export_openmm

        if (system is None) == (structure is None):
            raise ConfigError("--target openmm bakes the species in: name either --system or --structure")
        if system is not None:
            frame = Frame.from_atoms(named_system(system).structure)
        else:
            assert structure is not None
            frame = read_frames(structure)[0]
        result = export_openmm(model, frame.species.tolist(), output, dtype, [frame])
    click.echo(f"verified on {result.frames} frames")
    for line in result.lines():
        click.echo(f"  {line}")
    click.echo(f"written: {output}")
