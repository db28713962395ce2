"""Kinds of files. A module here lists its targets in ``TARGETS``."""

from importlib import import_module
from pkgutil import iter_modules

from tests.fuzz.harness import Target


def all_targets() -> list[Target]:
    """Return the targets of all modules in this package."""
    modules = sorted(module.name for module in iter_modules(__path__))
    return [target for name in modules for target in import_module(f"{__name__}.{name}").TARGETS]
