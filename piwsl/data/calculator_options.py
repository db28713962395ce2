"""Names and options of reference methods."""

from collections.abc import Mapping
from typing import Any

from piwsl.errors import ConfigError

PYSCF = "pyscf:"


def check_options(method: str, options: Mapping[str, Any], known: set[str]) -> None:
    """Refuse options that a method does not have.

    Raises:
        ConfigError: names the unknown ones and the known.
    """
    unknown = sorted(set(options) - known)
    if unknown:
        raise ConfigError(f"{method} has no option {', '.join(unknown)}: there are {', '.join(sorted(known))}")
