"""The fields of the MD protocol as command-line options: names, types, defaults and help from one place."""

from collections.abc import Callable
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin

import click

from piwsl.md.protocol import MDProtocol

Command = TypeVar("Command", bound=Callable[..., Any])


def protocol_options(function: Command) -> Command:
    """Add an option for every field of `MDProtocol`; limits are checked by the protocol itself."""
    for name, field in reversed(MDProtocol.model_fields.items()):
        option = click.option(
            f"--{name.replace('_', '-')}",
            name,
            type=_click_type(field.annotation),
            default=field.default,
            help=field.description,
        )
        function = option(function)
    return function


def _click_type(annotation: Any) -> Any:
    if get_origin(annotation) is Literal:
        return click.Choice(get_args(annotation))
    if get_origin(annotation) is UnionType:
        return next(kind for kind in get_args(annotation) if kind is not type(None))
    return annotation
