"""`piwsl data label`: label structures with a reference method."""

from dataclasses import fields
from pathlib import Path

import click

from piwsl.data.sampling_plan import SamplingPlan

DEFAULTS = {field.name: field.default for field in fields(SamplingPlan)}


@click.command(name="label", context_settings={"show_default": True})
@click.option("--system", help="A bundled system whose structure is the start.")
@click.option("--structure", type=click.Path(path_type=Path), help="Start structure, any file ASE reads.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Directory of the job; resumes one.")
@click.option("--workers", default=1, type=click.IntRange(1), help="Processes, one trajectory each.")
@click.option("--method", default=DEFAULTS["method"], help="Reference method: gfn2-xtb.")
@click.option("--trajectories", default=DEFAULTS["trajectories"], help="Independent trajectories.")
@click.option("--steps", default=DEFAULTS["steps"], help="Steps of each, after equilibration.")
@click.option("--equilibration-steps", default=DEFAULTS["equilibration_steps"], help="Steps before.")
@click.option("--frame-interval", default=DEFAULTS["frame_interval"], help="Steps between labelled frames.")
@click.option("--position-interval", default=DEFAULTS["position_interval"], help="Steps between frames of positions.")
@click.option("--chunk-steps", default=DEFAULTS["chunk_steps"], help="Steps between restart points.")
@click.option("--temperature", default=DEFAULTS["temperature"], help="Temperature [K].")
@click.option("--timestep", default=DEFAULTS["timestep"], help="Time step [fs].")
@click.option("--friction", default=DEFAULTS["friction"], help="Langevin friction [1/fs].")
@click.option("--force-tolerance", default=DEFAULTS["force_tolerance"], help="Of the minimisation before [eV/A].")
@click.option("--seed", default=DEFAULTS["seed"], type=click.IntRange(0), help="Random seed.")
def command(system: str | None, structure: Path | None, output: Path, workers: int, **plan: str | int | float) -> None:
    """Label structures: Langevin dynamics of a quantum-chemical method from a minimised structure.

    The same options and seed give the same data. An interrupted job goes on where it was.
    """
    from piwsl.cli.plain_progress import counting_display
    from piwsl.data.label import sample_and_label
    from piwsl.data.read import read_frames
    from piwsl.data.systems import named_system
    from piwsl.errors import ConfigError

    if (system is None) == (structure is None):
        raise ConfigError("name either --system or --structure")
    if system is not None:
        start = named_system(system).structure
    else:
        assert structure is not None
        start = read_frames(structure)[0].atoms()
    with counting_display("chunks") as progress:
        sample_and_label(start, SamplingPlan(**plan), output, workers, progress)  # type: ignore[arg-type]  # named and typed by click
    click.echo(f"labelled frames: {output / 'frames.npz'}; positions: {output / 'trajectory.npz'}")
