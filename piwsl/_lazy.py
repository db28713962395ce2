"""Lazy imports: public names of a package are imported on first access."""

import sys
from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from typing import Any


def attach(
    package: str, modules: Mapping[str, str], packages: Collection[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the functions ``__getattr__`` and ``__dir__`` for a package with lazily imported names.

    Args:
        package: ``__name__`` of the package.
        modules: Mapping from each public name to its module, such as ``{"Frame": "frames"}``. Module names are relative
            to the package unless they begin with ``piwsl.``.
        packages: Public submodules of the package.
    """

    def get(name: str) -> Any:
        if name in packages:
            return import_module(f"{package}.{name}")
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = modules[name]
        value = getattr(import_module(module if module.startswith("piwsl.") else f"{package}.{module}"), name)
        setattr(sys.modules[package], name, value)  # later accesses bypass __getattr__
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *modules, *packages})

    return get, names
