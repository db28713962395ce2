"""Registry of energy networks, which maps names in configurations and model files to networks."""

import difflib
import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeAlias, TypeVar, overload

from pydantic import BaseModel, ConfigDict, PydanticUserError, create_model
from torch import nn

from piwsl.errors import ConfigError, reason_of

NetworkFactory: TypeAlias = Callable[..., nn.Module]
F = TypeVar("F", bound=NetworkFactory)

# Arguments of a constructor that are not options of the network.
_CUTOFF, _NEIGHBOR_SUMS = "cutoff", "neighbor_sums"
_RESERVED = ("network", "preset", "forces", "zbl", "walls")
_NAME = re.compile(r"[A-Za-z]\w*")


@dataclass(frozen=True)
class RegisteredNetwork:
    """Entry of the registry.

    Attributes:
        name: Name in configurations and model files.
        energy: Class or function that returns the energy network.
        direct: Class or function that returns the network with a force head; None if there is no such network.
        options: Options of the network, as fields with type, default, limits and description.
    """

    name: str
    energy: NetworkFactory
    direct: NetworkFactory | None
    options: type[BaseModel]

    @property
    def presets(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the attribute ``presets`` of the network, which contains named sets of options."""
        presets: Mapping[str, Mapping[str, Any]] = getattr(self.energy, "presets", {})
        return presets

    @property
    def limitation(self) -> str | None:
        """Return the attribute ``limitation`` of the network, which names a law that the network breaks."""
        limitation: str | None = getattr(self.energy, "limitation", None)
        return limitation

    @property
    def largest_molecule(self) -> int | None:
        """Return the number of atoms above which lists of neighbors are faster than all pairs of a molecule.

        The number is the attribute ``largest_molecule`` of the network. With None, the exporter uses its default.
        """
        largest: int | None = getattr(self.energy, "largest_molecule", None)
        return largest

    @property
    def own_repulsion(self) -> bool:
        """Return the attribute ``own_repulsion`` of the network: whether it contains a repulsion of nuclei itself."""
        own: bool = getattr(self.energy, "own_repulsion", False)
        return own

    def takes_charge(self, options: Mapping[str, Any]) -> bool:
        """Return whether a network with these options takes the charge and spin of a structure as input.

        The network has the attribute ``takes_charge = True``, or an option ``charge_embedding`` that decides.
        """
        return bool(options.get("charge_embedding", getattr(self.energy, "takes_charge", False)))

    def preset(self, name: str) -> Mapping[str, Any]:
        """Return the options of a preset.

        Raises:
            ConfigError: The network has no preset with this name. The message lists its presets.
        """
        if name not in self.presets:
            known = f"its presets are {', '.join(self.presets)}" if self.presets else "it has none"
            raise ConfigError(f"network {self.name} has no preset {name!r}: {known}")
        return self.presets[name]

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Check that options are consistent, with the static method ``check_options`` of the network if it has one.

        Raises:
            ConfigError: The options are inconsistent.
        """
        check = getattr(self.energy, "check_options", None)
        if check is not None:
            check(options)

    def takes_neighbor_sums(self, options: Mapping[str, Any], direct: bool = False) -> bool:
        """Return whether a network with these options accepts any neighbor sums.

        Its constructor has the argument ``neighbor_sums``, and its static method ``takes_neighbor_sums``, if it has
        one, accepts the options. Only such networks can use the optimized neighbor sums: compiled loops in training,
        and a graph of one molecule in an export.
        """
        factory = self.direct if direct else self.energy
        if factory is None or _NEIGHBOR_SUMS not in inspect.signature(factory).parameters:
            return False
        decide = getattr(factory, "takes_neighbor_sums", None)
        return decide is None or bool(decide(options))


_NETWORKS: dict[str, RegisteredNetwork] = {}


@overload
def register_network(name: str, *, direct: NetworkFactory | None = None) -> Callable[[F], F]: ...


@overload
def register_network(name: str, network: F, *, direct: NetworkFactory | None = None) -> F: ...


def register_network(
    name: str, network: F | None = None, *, direct: NetworkFactory | None = None
) -> F | Callable[[F], F]:
    """Register an energy network under a name for configurations, trained files and exports.

    Call the function with a class (or a function that returns a module), or use it as a class decorator::

        @register_network("my_network")
        class MyNetwork(nn.Module):
            def __init__(self, cutoff: float, width: Annotated[int, Field(ge=1, description="hidden units")] = 32):
                ...

            def forward(self, species, edges, edge_vectors, structure_index): ...

    The forward method takes atomic numbers (N,), edges (2, E), edge vectors (E, 3) in angstrom, and the structure of
    each atom (N,). It returns one energy per atom (N,). Each pair of atoms has two edges, one in each direction. Edges
    may be longer than the cutoff. Such edges must have no effect, and the output must be smooth at the cutoff (see
    `piwsl.models.PolynomialCutoff`). `piwsl.testing.check_network` verifies these requirements. For an AOTInductor
    export, use ``species.shape[0]`` instead of ``len(species)``, because the compiled program would contain the latter
    as a constant.

    The constructor takes ``cutoff`` in angstrom. Its other arguments become options in the section `model` of a
    configuration, with the type, default, limits and description from the signature. The optional argument
    ``neighbor_sums`` receives the object that computes the sums over neighbors (see `piwsl.models.EdgeList`).

    Six attributes of a class are optional. ``presets`` is a dictionary of names and options for ``model.preset``; the
    options may include ``cutoff``. The static method ``check_options`` takes the dictionary of all options and raises
    `piwsl.errors.ConfigError` if they are inconsistent. ``limitation`` names a law that the network breaks. An export
    for OpenMM must accept this limitation explicitly. ``largest_molecule`` is the number of atoms above which an export
    for OpenMM searches neighbors instead of using all pairs. ``own_repulsion = True`` declares that the network
    contains a repulsion of nuclei, so that ``model.zbl`` must be off. ``head_weights`` lists the beginnings of the
    names of the weights after the last layer, such as ``("readout",)``, of which each level of theory has its own copy
    in training with ``data.levels``.

    Args:
        name: Name of letters, digits and underscores. A name can be registered again only by the same class or
            function, for instance when a notebook cell is executed twice.
        network: Class or function that returns the network. Omit it to use the call as a decorator.
        direct: Class or function with the same arguments, for ``forces: direct``. Its module returns the energy (N,)
            and the force (N, 3) of each atom.

    Returns:
        The unchanged network, or a decorator.

    Raises:
        ConfigError: The name is already used or invalid, or the signature does not define valid options.
    """
    if network is None:
        return lambda decorated: register_network(name, decorated, direct=direct)
    if not _NAME.fullmatch(name):
        raise ConfigError(f"network name {name!r}: use letters, digits and underscores, and begin with a letter")
    _register_built_in()
    known = _NETWORKS.get(name)
    if known is not None and not _same_origin(_origin(known.energy), _origin(network)):
        raise ConfigError(
            f"network name {name!r} is already used by {'.'.join(_origin(known.energy))}: choose another name"
        )
    _NETWORKS[name] = RegisteredNetwork(name, network, direct, _options(name, network))
    return network


def registered_network(name: str) -> RegisteredNetwork:
    """Return the network that is registered under a name.

    Raises:
        ConfigError: No network has this name. The message suggests the closest name.
    """
    _register_built_in()
    if name in _NETWORKS:
        return _NETWORKS[name]
    near = difflib.get_close_matches(name, _NETWORKS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"registered networks: {', '.join(_NETWORKS)}"
    raise ConfigError(
        f"no network is registered as {name!r} ({hint}): if it is your own network, first import the module that "
        "registers it (key `imports` of a training configuration)"
    )


def registered_networks() -> list[str]:
    """Return the names of all networks, with the built-in networks first."""
    _register_built_in()
    return list(_NETWORKS)


def import_modules(names: Sequence[str]) -> None:
    """Import Python modules that register networks. Importing a module executes its code.

    The search path includes the current directory.

    Args:
        names: Module names, such as ``my_networks`` or ``my_package.networks``.

    Raises:
        ConfigError: A module does not exist, or its import raises an error.
    """
    sys.path.insert(0, os.getcwd())
    try:
        for name in names:
            try:
                import_module(name)
            except Exception as error:  # a module may raise any exception
                kind = type(error).__name__
                raise ConfigError(
                    f"module {name!r} cannot be imported ({kind}: {reason_of(error)}): check the name and the code"
                ) from error
    finally:
        sys.path.pop(0)


def _register_built_in() -> None:
    """Register the built-in networks at first use, because the import of their modules takes a second."""
    if _NETWORKS:
        return
    from piwsl.models.networks import BUILT_IN

    for name, network, direct in BUILT_IN:
        _NETWORKS[name] = RegisteredNetwork(name, network, direct, _options(name, network))


def _origin(factory: NetworkFactory) -> tuple[str, str]:
    return factory.__module__, getattr(factory, "__qualname__", type(factory).__name__)


def _same_origin(first: tuple[str, str], second: tuple[str, str]) -> bool:
    """Return whether two origins are equal. The module `__main__` of a script equals any imported module."""
    scripts = {"__main__", "__mp_main__"}
    modules = {first[0], second[0]}
    return first[1] == second[1] and (len(modules) == 1 or bool(modules & scripts))


def _options(name: str, network: NetworkFactory) -> type[BaseModel]:
    """Return the options of a network, read from the signature of its constructor."""
    try:
        parameters = dict(inspect.signature(network, eval_str=True).parameters)
    except (TypeError, ValueError, NameError) as error:
        raise ConfigError(f"network {name!r}: the signature cannot be read ({error}): check its annotations") from None
    if _CUTOFF not in parameters:
        raise ConfigError(f"network {name!r}: the constructor has no argument cutoff: add `cutoff: float` (angstrom)")
    fields: dict[str, Any] = {}
    for key, parameter in parameters.items():
        if key in (_CUTOFF, _NEIGHBOR_SUMS):
            continue
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ConfigError(
                f"network {name!r}: the constructor takes {parameter}: declare each option as an argument"
            )
        if key in _RESERVED:
            raise ConfigError(f"network {name!r}: the key model.{key} already exists: choose another argument name")
        if parameter.annotation is parameter.empty:
            raise ConfigError(f"network {name!r}: argument {key} has no type: annotate it")
        fields[key] = (parameter.annotation, ... if parameter.default is parameter.empty else parameter.default)
    try:
        return create_model(f"{name}_options", __config__=ConfigDict(extra="forbid", protected_namespaces=()), **fields)
    except (PydanticUserError, NameError) as error:
        raise ConfigError(
            f"network {name!r}: an option is no valid configuration key ({reason_of(error)}): rename it"
        ) from None
