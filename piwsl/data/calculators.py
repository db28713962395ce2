"""Reference methods by name: ASE calculators that label structures."""

from collections.abc import Callable

from ase.calculators.calculator import Calculator

from piwsl.errors import ConfigError, MissingDependencyError


def _gfn2_xtb() -> Calculator:
    try:
        from tblite.ase import TBLite
    except ImportError as error:
        raise MissingDependencyError("tblite", "labelling with GFN2-xTB", "label") from error
    return TBLite(method="GFN2-xTB", accuracy=0.1, verbosity=0)


REFERENCE_METHODS: dict[str, Callable[[], Calculator]] = {"gfn2-xtb": _gfn2_xtb}


def reference_calculator(method: str) -> Calculator:
    """Make a new calculator for a reference method.

    Raises:
        ConfigError: the method is not known.
        MissingDependencyError: its library is not installed.
    """
    try:
        factory = REFERENCE_METHODS[method]
    except KeyError:
        raise ConfigError(f"unknown method {method!r}: use one of {', '.join(REFERENCE_METHODS)}") from None
    return factory()
