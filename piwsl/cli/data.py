"""`piwsl data`: fetch, inspect, convert and label structures."""

import click

from piwsl.cli.command import LazyGroup

COMMANDS = {
    "fetch": "Download a named data set.",
    "inspect": "Report the content of a file and check its plausibility.",
    "convert": "Write frames in another format.",
    "label": "Label structures with a reference method.",
}


@click.group(name="data", cls=LazyGroup, modules=COMMANDS, prefix="data_")
def command() -> None:
    """Fetch, inspect, convert and label structures."""
