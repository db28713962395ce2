"""The fields of the MD protocol as command-line options: names, types, defaults and help from one place."""

from collections.abc import Callable
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin

import click

from piwsl.md.ensembles import ALIASES, Ensemble
from piwsl.md.protocol import MDProtocol, TemperatureSchedule

Command = TypeVar("Command", bound=Callable[..., Any])


def protocol_options(function: Command) -> Command:
    """Add an option for every field of `MDProtocol`; limits are checked by the protocol itself."""
    for name, field in reversed(MDProtocol.model_fields.items()):
        flag = f"--{name.replace('_', '-')}"
        default = str(field.default) if isinstance(field.default, TemperatureSchedule) else field.default
        several = get_origin(field.annotation) is tuple
        function = click.option(
            f"{flag}/--no-{flag[2:]}" if field.annotation is bool else flag,
            name,
            type=_click_type(get_args(field.annotation)[0] if several else field.annotation),
            multiple=several,
            default=default,
            help=field.description,
        )(function)
    return function


def _click_type(annotation: Any) -> Any:
    if get_origin(annotation) is Literal:
        short = ALIASES if annotation is Ensemble else ()
        return click.Choice([*get_args(annotation), *short])
    if get_origin(annotation) is UnionType:
        return next(kind for kind in get_args(annotation) if kind is not type(None))
    return str if annotation is TemperatureSchedule else annotation
