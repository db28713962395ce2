"""`piwsl data label`: label structures with a reference method."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from piwsl.data.labeling.dynamics import SamplingPlan

if TYPE_CHECKING:
    from piwsl.runs.executors import Executor

DEFAULTS = {field.name: field.default for field in fields(SamplingPlan)}
_SHOWN = 5  # reasons of failures


@click.command(name="label", context_settings={"show_default": True})
@click.option("--frames", "source", help="Label these: a file, directory, pattern or named set. Else: dynamics.")
@click.option("--units", help="Units of --frames, such as 'kcal/mol, angstrom', if they state none.")
@click.option("--system", help="Dynamics from the structure of a bundled system.")
@click.option("--structure", type=click.Path(path_type=Path), help="Dynamics from this structure, any file ASE reads.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Directory of the job; resumes one.")
@click.option("--method", default=DEFAULTS["method"], help="gfn2-xtb, gfn1-xtb, pyscf:pbe/def2-svp, or module:Class.")
@click.option("--calculator-options", help="Options of the calculator as JSON, such as '{\"charge\": 1}'.")
@click.option("--workers", default=1, type=click.IntRange(1), help="Processes of this machine, one thread each.")
@click.option("--scheduler", help="Dask scheduler, such as tcp://10.0.0.1:8786, instead of --workers.")
@click.option("--trajectories", default=DEFAULTS["trajectories"], help="Independent trajectories.")
@click.option("--steps", default=DEFAULTS["steps"], help="Steps of each, after equilibration.")
@click.option("--equilibration-steps", default=DEFAULTS["equilibration_steps"], help="Steps before.")
@click.option("--frame-interval", default=DEFAULTS["frame_interval"], help="Steps between labeled frames.")
@click.option("--position-interval", default=DEFAULTS["position_interval"], help="Steps between frames of positions.")
@click.option("--chunk-steps", default=DEFAULTS["chunk_steps"], help="Steps between restart points.")
@click.option("--temperature", default=DEFAULTS["temperature"], help="Temperature [K].")
@click.option("--timestep", default=DEFAULTS["timestep"], help="Time step [fs].")
@click.option("--friction", default=DEFAULTS["friction"], help="Langevin friction [1/fs].")
@click.option("--force-tolerance", default=DEFAULTS["force_tolerance"], help="Of the minimization before [eV/A].")
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
    """Label given structures, or sample and label by Langevin dynamics from a minimized structure.

    An interrupted job goes on where it was when the same command is given again.

    \b
    piwsl data label --frames frames.xyz --method pyscf:pbe/def2-svp --workers 2 --output labels
    piwsl data label --system aspirin --trajectories 2 --output labels
    """
    from piwsl.errors import ConfigError

    if [source, system, structure].count(None) != 2:
        raise ConfigError("name one of --frames, --system and --structure")
    options = _options(calculator_options)
    where = _executor(context, workers, scheduler)
    if source is not None:
        _refuse(context, [name for name in plan if name in DEFAULTS], "belongs to dynamics, not to --frames")
        _label_frames(source, units, output, method, options, where)
        return
    _refuse(context, ["units"], "belongs to --frames")
    _sample(system, structure, output, SamplingPlan(method=method, options=options, **plan), where)


def _options(text: str | None) -> dict[str, Any]:
    import json

    from piwsl.errors import ConfigError

    try:
        options = json.loads(text) if text else {}
    except ValueError as error:
        raise ConfigError(f"--calculator-options is no JSON ({error}): write '{{\"name\": value}}'") from None
    if not isinstance(options, dict):
        raise ConfigError(f"--calculator-options is {options!r}: write '{{\"name\": value}}'")
    return options


def _executor(context: click.Context, workers: int, scheduler: str | None) -> "Executor":
    from piwsl.runs.dask_cluster import DaskCluster
    from piwsl.runs.executors import LocalProcesses

    if scheduler is None:
        return LocalProcesses(workers)
    _refuse(context, ["workers"], "is not used with --scheduler")
    return DaskCluster(scheduler)


def _refuse(context: click.Context, names: list[str], reason: str) -> None:
    from piwsl.errors import ConfigError

    given = [name for name in names if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if given:
        raise ConfigError(f"--{given[0].replace('_', '-')} {reason}")


def _label_frames(
    source: str, units: str | None, output: Path, method: str, options: dict[str, Any], where: "Executor"
) -> None:
    from piwsl.cli.progress import counting_display
    from piwsl.data.labeling.structures import label_frames
    from piwsl.data.read import read_frames
    from piwsl.units import parse_units

    frames = read_frames(source, parse_units(units) if units else None)
    with counting_display("frames") as progress:
        labeled = label_frames(frames, method, output, options, where, progress)
    done = labeled.frames - len(labeled.failures)
    click.echo(f"labeled {done} of {labeled.frames} frames with {method}: {labeled.file} (eV, angstrom)")
    for index, reason in list(labeled.failures.items())[:_SHOWN]:
        click.echo(f"frame {index} has no labels: {reason}", err=True)
    if len(labeled.failures) > _SHOWN:
        click.echo(f"and {len(labeled.failures) - _SHOWN} more: {output / 'summary.json'}", err=True)


def _sample(system: str | None, structure: Path | None, output: Path, plan: SamplingPlan, where: "Executor") -> None:
    from piwsl.cli.progress import counting_display
    from piwsl.data.labeling.dynamics import sample_and_label
    from piwsl.data.read import read_frames
    from piwsl.data.systems import named_system

    if system is not None:
        start = named_system(system).structure
    else:
        assert structure is not None
        start = read_frames(structure)[0].atoms()
    with counting_display("chunks") as progress:
        sample_and_label(start, plan, output, where, progress)
    click.echo(f"labeled frames: {output / 'frames.npz'}; positions: {output / 'trajectory.npz'}")
