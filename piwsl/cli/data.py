"""`piwsl data`: fetch, inspect, convert and label structures."""

import click

from piwsl.cli.main import LazyGroup

COMMANDS = {
    "fetch": "Download a named data set.",
    "inspect": "Say what a file holds and whether it can be what it says.",
    "convert": "Write frames in another format.",
    "label": "Label structures with a reference method.",
}


@click.group(name="data", cls=LazyGroup, modules=COMMANDS, prefix="data_")
def command() -> None:
    """Fetch, inspect, convert and label structures."""
