"""`piwsl data label`: label structures with a reference method."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from piwsl.cli.command import Command
from piwsl.data.labeling.dynamics import SamplingPlan
from piwsl.runs.progress import to_stderr

if TYPE_CHECKING:
    from piwsl.data.frames import FrameSet

DEFAULTS = {field.name: field.default for field in fields(SamplingPlan)}
_SHOWN = 5  # failures to print


@click.command(name="label", cls=Command, context_settings={"show_default": True})
@click.option("--frames", "source", help="Frames to label: a file, directory, pattern or named data set.")
@click.option("--units", help="Units of --frames, such as 'kcal/mol, angstrom', if the file does not contain them.")
@click.option("--system", help="Bundled system to sample by molecular dynamics.")
@click.option(
    "--structure",
    type=click.Path(path_type=Path),
    help="Structure to sample by molecular dynamics, in any format that ASE reads.",
)
@click.option(
    "--output", type=click.Path(path_type=Path), required=True, help="Directory of the job; an existing job is resumed."
)
@click.option(
    "--method",
    default=DEFAULTS["method"],
    help="Reference method: gfn2-xtb, gfn1-xtb, pyscf:FUNCTIONAL/BASIS, model:FILE, model:FILE,FILE,... (an ensemble), "
    "model:DIRECTORY, or module:Class.",
)
@click.option("--calculator-options", help="Options of the calculator as JSON, such as '{\"charge\": 1}'.")
@click.option(
    "--workers", default=1, type=click.IntRange(1), help="Number of processes on this machine, with one thread each."
)
@click.option(
    "--scheduler",
    help="Dask scheduler to use instead of --workers, such as tcp://10.0.0.1:8786. A scheduler can run code here.",
)
@click.option("--trajectories", default=DEFAULTS["trajectories"], help="Number of independent trajectories.")
@click.option("--steps", default=DEFAULTS["steps"], help="Number of steps per trajectory after equilibration.")
@click.option("--equilibration-steps", default=DEFAULTS["equilibration_steps"], help="Number of equilibration steps.")
@click.option("--frame-interval", default=DEFAULTS["frame_interval"], help="Steps between labeled frames.")
@click.option(
    "--position-interval", default=DEFAULTS["position_interval"], help="Steps between frames with positions only."
)
@click.option("--chunk-steps", default=DEFAULTS["chunk_steps"], help="Steps between restart points.")
@click.option("--temperature", default=DEFAULTS["temperature"], help="Temperature [K].")
@click.option("--timestep", default=DEFAULTS["timestep"], help="Time step [fs].")
@click.option("--friction", default=DEFAULTS["friction"], help="Langevin friction [1/fs].")
@click.option(
    "--force-tolerance", default=DEFAULTS["force_tolerance"], help="Force tolerance of the minimization [eV/A]."
)
@click.option("--seed", default=DEFAULTS["seed"], type=click.IntRange(0), help="Random seed.")
@click.pass_context
def command(
    context: click.Context,
    /,
    source: str | None,
    units: str | None,
    system: str | None,
    structure: Path | None,
    output: Path,
    method: str,
    calculator_options: str | None,
    workers: int,
    scheduler: str | None,
    **plan: Any,
) -> None:
    """Label given structures, or sample a structure by Langevin dynamics and label the frames.

    Repeat the command to resume an interrupted job.

    \b
    piwsl data label --frames frames.xyz --method pyscf:pbe/def2-svp --workers 2 --output labels
    piwsl data label --system aspirin --trajectories 2 --output labels
    """
    from piwsl import label, sample
    from piwsl.errors import ConfigError
    from piwsl.runs.progress import counting

    if [source, system, structure].count(None) != 2:
        raise ConfigError("give exactly one of --frames, --system and --structure")
    options = _options(calculator_options)
    given = {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    job: dict[str, Any] = {
        "output": output,
        "options": options,
        "workers": workers if "workers" in given else None,
        "scheduler": scheduler,
    }
    if source is not None:
        _refuse([name for name in plan if name in given], "applies to sampling only: omit this option with --frames")
        with counting(True, "frames", click.echo) as progress:
            labeled = label(source, method, units=units, progress=progress, **job)
        _print_labeled(labeled, method, output)
        return
    _refuse(["units"] if units else [], "applies to --frames only: omit this option")
    with counting(True, "chunks", click.echo) as progress:
        sample(structure, method, system=system, progress=progress, **job, **plan)
    click.echo(f"labeled frames: {output / 'frames.npz'}; positions: {output / 'trajectory.npz'}")


def _options(text: str | None) -> dict[str, Any]:
    from piwsl.errors import ConfigError
    from piwsl.runs.untrusted import parse_json

    try:
        options = parse_json(text) if text else {}
    except ValueError as error:
        raise ConfigError(f"--calculator-options is not JSON ({error}): write '{{\"name\": value}}'") from None
    if not isinstance(options, dict):
        raise ConfigError(f"--calculator-options is {options!r}: write '{{\"name\": value}}'")
    return options


def _refuse(names: list[str], reason: str) -> None:
    from piwsl.errors import ConfigError

    if names:
        raise ConfigError(f"--{names[0].replace('_', '-')} {reason}")


def _print_labeled(labeled: "FrameSet", method: str, output: Path) -> None:
    done = len(labeled) - len(labeled.notes)
    click.echo(f"labeled {done} of {len(labeled)} frames with {method}: {labeled.source} (eV, angstrom)")
    if done and not labeled.census.has_forces.any():
        click.echo("the labels are energies without forces, because the method gives no forces")
    for note in labeled.notes[:_SHOWN]:
        to_stderr(note)
    if len(labeled.notes) > _SHOWN:
        to_stderr(f"and {len(labeled.notes) - _SHOWN} more, listed in {output / 'summary.json'}")
