"""Public names of a package that are imported at first use."""

import sys
from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from typing import Any


def attach(
    package: str, modules: Mapping[str, str], packages: Collection[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the functions ``__getattr__`` and ``__dir__`` of a package whose names are imported at first use.

    Args:
        package: Its ``__name__``.
        modules: Module of each public name, relative to the package, such as ``{"Frame": "frames"}``, or absolute
            where it begins with ``piwsl.``.
        packages: Modules within the package that are public themselves.
    """

    def get(name: str) -> Any:
        if name in packages:
            return import_module(f"{package}.{name}")
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = modules[name]
        value = getattr(import_module(module if module.startswith("piwsl.") else f"{package}.{module}"), name)
        setattr(sys.modules[package], name, value)  # the next access is an ordinary one
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *modules, *packages})

    return get, names
