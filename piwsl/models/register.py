"""The register of energy networks: every network has a name, under which configurations and model files refer to it."""

import difflib
import inspect
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeAlias, TypeVar, overload

from pydantic import BaseModel, ConfigDict, PydanticUserError, create_model
from torch import nn

from piwsl.errors import ConfigError, reason_of

NetworkFactory: TypeAlias = Callable[..., nn.Module]
F = TypeVar("F", bound=NetworkFactory)

# Arguments of a network that are not options of its own.
_CUTOFF, _NEIGHBOR_SUMS = "cutoff", "neighbor_sums"
_RESERVED = ("network", "forces")
_NAME = re.compile(r"[A-Za-z]\w*")


@dataclass(frozen=True)
class RegisteredNetwork:
    """A network with its name.

    Attributes:
        name: Name in configurations and model files.
        energy: Creates the network that returns energies.
        direct: Creates the network that returns energies and forces; None if there is none.
        options: The network's own options, as fields with type, default, limits and help.
    """

    name: str
    energy: NetworkFactory
    direct: NetworkFactory | None
    options: type[BaseModel]

    def takes_neighbor_sums(self, direct: bool = False) -> bool:
        """Return whether the constructor has the argument ``neighbor_sums``.

        Only such networks have the fast forms: compiled loops in training, one graph of a molecule in an export.
        """
        factory = self.direct if direct else self.energy
        return factory is not None and _NEIGHBOR_SUMS in inspect.signature(factory).parameters


_NETWORKS: dict[str, RegisteredNetwork] = {}


@overload
def register_network(name: str, *, direct: NetworkFactory | None = None) -> Callable[[F], F]: ...


@overload
def register_network(name: str, network: F, *, direct: NetworkFactory | None = None) -> F: ...


def register_network(
    name: str, network: F | None = None, *, direct: NetworkFactory | None = None
) -> F | Callable[[F], F]:
    """Give an energy network a name in configurations, trained files and exports.

    Call it with a class (or any function that returns a module), or use it as a decorator of the class::

        @register_network("my_network")
        class MyNetwork(nn.Module):
            def __init__(self, cutoff: float, width: Annotated[int, Field(ge=1, description="hidden units")] = 32):
                ...

            def forward(self, species, edges, edge_vectors, structure_index): ...

    The forward method takes atomic numbers (N,), edges (2, E), edge vectors (E, 3) in angstrom and the structure of
    each atom (N,), and returns one energy per atom (N,). Each pair of atoms has two edges, one in each direction. Edges
    may be longer than the cutoff, so the network must give them no weight; its output must be smooth at the cutoff
    (see `piwsl.models.PolynomialCutoff`). `piwsl.testing.check_network` checks all this. For an AOTInductor export,
    write ``species.shape[0]`` instead of ``len(species)``, which would become a constant of the compiled program.

    The constructor takes ``cutoff`` in angstrom. Its other arguments become options in the section `model` of a
    configuration, with the type, default, limits and description in the signature. An argument ``neighbor_sums`` is
    special: it receives the object that sums over neighbors (see `piwsl.models.EdgeList`).

    Args:
        name: Letters, digits and underscores. A name can be registered again only from the same place, as when a
            notebook cell is executed twice.
        network: Class or function that returns the network; leave it out to use the call as a decorator.
        direct: Class or function with the same arguments, for ``forces: direct``. The module that it creates
            returns the energy (N,) and the force (N, 3) of each atom.

    Returns:
        The network itself, or a decorator.

    Raises:
        ConfigError: The name is taken or not valid, or the options cannot be read from the signature.
    """
    if network is None:
        return lambda decorated: register_network(name, decorated, direct=direct)
    if not _NAME.fullmatch(name):
        raise ConfigError(f"network name {name!r}: use letters, digits and underscores, and begin with a letter")
    _register_built_in()
    known = _NETWORKS.get(name)
    if known is not None and not _same_origin(_origin(known.energy), _origin(network)):
        raise ConfigError(f"network name {name!r} is taken by {'.'.join(_origin(known.energy))}: choose another name")
    _NETWORKS[name] = RegisteredNetwork(name, network, direct, _options(name, network))
    return network


def registered_network(name: str) -> RegisteredNetwork:
    """Look up a network.

    Raises:
        ConfigError: No network has this name; the message names the nearest one.
    """
    _register_built_in()
    if name in _NETWORKS:
        return _NETWORKS[name]
    near = difflib.get_close_matches(name, _NETWORKS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"registered are {', '.join(_NETWORKS)}"
    raise ConfigError(
        f"no network is registered as {name!r} ({hint}): import the module that registers a network of your own first "
        "(key `imports` of a training configuration)"
    )


def registered_networks() -> list[str]:
    """Return the names of all networks, built-in ones first."""
    _register_built_in()
    return list(_NETWORKS)


def import_modules(names: Sequence[str]) -> None:
    """Import Python modules that register networks. Importing a module executes its code.

    Modules are also searched in the current directory.

    Args:
        names: Module names, such as ``my_networks`` or ``my_package.networks``.

    Raises:
        ConfigError: A module does not exist or raises an error.
    """
    sys.path.insert(0, os.getcwd())
    try:
        for name in names:
            try:
                import_module(name)
            except Exception as error:  # the module may raise anything
                kind = type(error).__name__
                raise ConfigError(f"module {name!r} cannot be imported ({kind}: {reason_of(error)})") from error
    finally:
        sys.path.pop(0)


def _register_built_in() -> None:
    """Enter the built-in networks at first use: their modules take a second to import."""
    if _NETWORKS:
        return
    from piwsl.models.networks import BUILT_IN

    for name, network, direct in BUILT_IN:
        _NETWORKS[name] = RegisteredNetwork(name, network, direct, _options(name, network))


def _origin(factory: NetworkFactory) -> tuple[str, str]:
    return factory.__module__, getattr(factory, "__qualname__", type(factory).__name__)


def _same_origin(first: tuple[str, str], second: tuple[str, str]) -> bool:
    """Compare origins; a script is `__main__` when it is executed and has its own name when it is imported."""
    scripts = {"__main__", "__mp_main__"}
    modules = {first[0], second[0]}
    return first[1] == second[1] and (len(modules) == 1 or bool(modules & scripts))


def _options(name: str, network: NetworkFactory) -> type[BaseModel]:
    """Read the options of a network from the signature of its constructor."""
    try:
        parameters = dict(inspect.signature(network, eval_str=True).parameters)
    except (TypeError, ValueError, NameError) as error:
        raise ConfigError(f"network {name!r}: its signature cannot be read ({error})") from None
    if _CUTOFF not in parameters:
        raise ConfigError(f"network {name!r}: its constructor must take `cutoff` (angstrom)")
    fields: dict[str, Any] = {}
    for key, parameter in parameters.items():
        if key in (_CUTOFF, _NEIGHBOR_SUMS):
            continue
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ConfigError(f"network {name!r}: its constructor takes {parameter}: name each option instead")
        if key in _RESERVED:
            raise ConfigError(f"network {name!r}: the key model.{key} exists already: choose another argument name")
        if parameter.annotation is parameter.empty:
            raise ConfigError(f"network {name!r}: its argument {key} has no type")
        fields[key] = (parameter.annotation, ... if parameter.default is parameter.empty else parameter.default)
    try:
        return create_model(f"{name}_options", __config__=ConfigDict(extra="forbid", protected_namespaces=()), **fields)
    except (PydanticUserError, NameError) as error:
        raise ConfigError(f"network {name!r}: an option cannot be a configuration key ({reason_of(error)})") from None
