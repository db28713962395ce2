"""Physics-informed weakly supervised interatomic potentials, from training to molecular dynamics."""

from piwsl._version import __version__

__all__ = ["__version__"]
