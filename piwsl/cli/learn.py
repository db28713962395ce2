"""`piwsl learn`: a fast potential from few labels."""

import logging
from pathlib import Path
from typing import Any

import click

from piwsl.cli.command import Command, key_values, overrides_option, with_flags


@click.command(name="learn", cls=Command)
@click.argument("structure", required=False, type=click.Path(path_type=Path))
@click.option("--system", help="Bundled system, instead of a structure file.")
@click.option("--smiles", help="SMILES of a molecule, instead of a structure file (needs RDKit).")
@click.option(
    "--method",
    help="Reference method: gfn2-xtb, gfn1-xtb, pyscf:FUNCTIONAL/BASIS, module:Class, or file (label by yourself).",
)
@click.option("--budget", type=click.IntRange(0), help="Largest number of labels to compute.")
@click.option("--labels", type=click.Path(path_type=Path), help="Labeled frames that exist already.")
@click.option("--init-from", help="Trained file to fine-tune, auto (SO3LR where it fits), or scratch.")
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="YAML file with settings.")
@click.option("--output", type=click.Path(path_type=Path), help="Directory of the job; an existing job is resumed.")
@click.option("--force", is_flag=True, help="Replace an existing job.")
@click.option("--dry-run", is_flag=True, help="Describe the stages and their cost, and compute nothing.")
@click.option("--template", is_flag=True, help="Print all settings with their defaults as YAML.")
@overrides_option("verify.replicas=8")
@click.pass_context
def command(
    context: click.Context,
    /,
    structure: Path | None,
    config_file: Path | None,
    dry_run: bool,
    template: bool,
    overrides: tuple[str, ...],
    **arguments: Any,
) -> None:
    """Learn a fast, stable potential for STRUCTURE from few labels.

    With --labels, STRUCTURE may be omitted: the job then begins with the labeled structure of the lowest energy.

    Accurate models are fine-tuned on labels chosen in their own dynamics; a fast model learns from them, and is
    verified by replicas. Repeat the command to resume an interrupted job.

    \b
    piwsl learn aspirin.xyz --method gfn2-xtb --budget 100
    piwsl learn --smiles CCO --method pyscf:pbe/def2-svp --budget 40 --dry-run
    piwsl learn molecule.xyz --method file --budget 100
    piwsl learn --labels frames.extxyz --budget 0
    """
    from piwsl.cli.logs import echoing
    from piwsl.learning.learn import learn, plan_learning
    from piwsl.learning.settings import template as settings_template

    if template:
        click.echo(settings_template(), nl=False)
        return
    options = key_values(overrides)
    if dry_run:
        shorthand = {
            "labels.method": arguments["method"],
            "labels.budget": arguments["budget"],
            "labels.file": arguments["labels"],
            "teacher.init_from": arguments["init_from"],
        }
        given = {key: str(value) for key, value in shorthand.items() if value is not None}
        named = {name: arguments[name] for name in ("system", "smiles")}
        for line in plan_learning(structure, **named, config=config_file, options={**given, **options}):
            click.echo(line)
        return

    def show(record: logging.LogRecord) -> None:
        text = with_flags(record.getMessage(), context.command)
        warns = record.levelno >= logging.WARNING
        click.echo(f"warning: {text}" if warns else text, err=warns)

    with echoing("piwsl.learning", show):
        result = learn(structure, config=config_file, options=options, progress=True, **arguments)
    click.echo(f"report    {result.report}")
    if result.waiting_for is None:
        click.echo(f"student   {result.student}")
        click.echo(f"teacher   {result.teacher}")
        click.echo(f"run MD    piwsl md --structure {result.directory / 'start.extxyz'} --model {result.student}")
