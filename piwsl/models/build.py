"""Section `model` of a configuration, and construction of the network and the potential."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ase.data import chemical_symbols
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError
from torch import nn

from piwsl.errors import ConfigError, ElementError
from piwsl.models.neighbor_sums.edge_list import NeighborSums
from piwsl.models.neighbor_sums.molecule import MoleculePairs
from piwsl.models.potential import DirectPotential, Potential
from piwsl.models.priors.prior import Prior
from piwsl.models.priors.walls import WallRanges, Walls
from piwsl.models.priors.zbl import ZBL
from piwsl.models.register import registered_network, registered_networks


class ModelConfig(BaseModel):
    """Section `model`: the energy network and its options.

    In addition to the fields below, the section contains the options of the network, such as ``channels`` and
    ``layers`` of the built-in networks. They are validated against the signature of the registered network.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    network: str = Field(
        "painn",
        description="energy network: painn, schnet, tensornet, ace, escn, equiformer_v2, spinconv, so3lr, mace, or "
        "your own network",
    )
    preset: str | None = Field(
        None, description="named set of the options below, `paper` for published sizes; other keys take precedence"
    )
    cutoff: float = Field(5.0, gt=0.5, le=20.0, description="range of the interaction [A]")
    forces: Literal["conservative", "direct"] = Field(
        "conservative", description="gradient of the energy, or a force head (painn, escn, equiformer_v2, spinconv)"
    )
    zbl: bool = Field(
        True, description="add the ZBL repulsion of nuclei to the network; always false for so3lr and mace"
    )
    walls: Literal["auto", "none", "elements", "molecule"] | WallRanges = Field(
        "auto",
        description="add an energy that rises outside the distances of the training data: elements (pairs of elements "
        "closer than in the data), molecule (also bonds and angles; all frames contain one molecule), or ranges; auto: "
        "molecule with random weights and at most 1000 training frames of one molecule in vacuum; with a start model, "
        "its walls; otherwise none",
    )

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        """Validate the options of the network, and add the default values of missing options."""
        if not isinstance(values, Mapping):
            return values
        name = values.get("network", cls.model_fields["network"].default)
        try:
            network = registered_network(str(name))
        except ConfigError as error:
            raise _invalid("network", name, str(error)) from None
        preset = values.get("preset")
        if preset is not None:
            try:
                values = {**network.preset(str(preset)), **values}
            except ConfigError as error:
                raise _invalid("preset", preset, str(error)) from None
        if network.own_repulsion:
            if values.get("zbl", False) not in (False, "false"):
                text = f"network {name} has its own repulsion of nuclei: set it to false, or remove the key"
                raise _invalid("zbl", values["zbl"], text)
            values = {**values, "zbl": False}
        shared = {key: value for key, value in values.items() if key in cls.model_fields}
        options = {key: value for key, value in values.items() if key not in cls.model_fields}
        for key, value in options.items():
            if key not in network.options.model_fields:
                known = [*cls.model_fields, *network.options.model_fields]
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean model.{near[0]}?" if near else f"the keys are {', '.join(known)}"
                raise _invalid(key, value, f"network {name} has no option {key}: {hint}")
        # Validation errors of pydantic already contain the name of the key.
        complete = network.options.model_validate(options).model_dump()
        try:
            network.check_options(complete)
        except ConfigError as error:
            raise _invalid("network", name, str(error)) from None
        return {**shared, **complete}

    @property
    def options(self) -> dict[str, Any]:
        """Values of the options of the network."""
        return dict(self.__pydantic_extra__ or {})

    @property
    def takes_charge(self) -> bool:
        """Whether the network takes the charge and spin of a structure as input."""
        return registered_network(self.network).takes_charge(self.options)

    @property
    def default_charge(self) -> tuple[float, float] | None:
        """Charge (e) and unpaired electrons of structures that state none; None if the network ignores them."""
        if not self.takes_charge:
            return None
        return float(self.options.get("charge", 0)), float(self.options.get("unpaired_electrons", 0))

    @property
    def walls_kind(self) -> str:
        """Kind of the walls: ``none`` (also for ``auto``, which training replaces), ``elements`` or ``molecule``."""
        if isinstance(self.walls, WallRanges):
            return "elements" if self.walls.molecule is None else "molecule"
        return "none" if self.walls == "auto" else self.walls

    @property
    def molecule(self) -> list[int] | None:
        """Atomic numbers of the only molecule that the walls support, in their order; None without such walls."""
        return self.walls.molecule if isinstance(self.walls, WallRanges) else None

    def shown(self) -> dict[str, Any]:
        """Return the values by key, with the kind of the walls instead of their ranges."""
        return {**self.model_dump(exclude={"walls"}), "walls": self.walls_kind}

    def described(self) -> dict[str, tuple[Any, str]]:
        """Return the value and the description of each key, including the options of the network."""
        fields: dict[str, FieldInfo] = {
            **type(self).model_fields,
            **registered_network(self.network).options.model_fields,
        }
        return {key: (value, fields[key].description or "") for key, value in self.model_dump().items()}


def _invalid(key: str, value: Any, message: str) -> ValidationError:
    # The message is passed as a parameter, because pydantic interprets braces in its template.
    error = PydanticCustomError("network_option", "{message}", {"message": message})
    return ValidationError.from_exception_data("ModelConfig", [InitErrorDetails(type=error, loc=(key,), input=value)])


def build_network(config: ModelConfig, neighbor_sums: NeighborSums | None = None) -> nn.Module:
    """Build a network with random weights.

    Args:
        config: Section `model` of a configuration.
        neighbor_sums: Object that computes the sums over neighbors. With None, `EdgeList` is used.

    Raises:
        ConfigError: ``forces`` is ``direct`` but the network has no force head, or ``neighbor_sums`` is given but the
            network does not accept it.
    """
    network, direct = registered_network(config.network), config.forces == "direct"
    factory = network.direct if direct else network.energy
    if factory is None:
        with_head = [name for name in registered_networks() if registered_network(name).direct is not None]
        raise ConfigError(
            f"model.forces: {config.network} has no force head: choose conservative, or "
            f"network {' or '.join(with_head)}"
        )
    arguments: dict[str, Any] = {"cutoff": config.cutoff, **config.options}
    if neighbor_sums is not None:
        if not network.takes_neighbor_sums(config.options, direct):
            raise ConfigError(
                f"network {config.network} does not accept neighbor_sums: omit this argument to use a list of edges"
            )
        arguments["neighbor_sums"] = neighbor_sums
    return factory(**arguments)


def build_prior(
    config: ModelConfig, elements: Sequence[int], neighbor_sums: NeighborSums | None = None
) -> Prior | None:
    """Build the pair energies that a potential adds to its network; None if the configuration has none.

    Args:
        config: Section `model` of a configuration.
        elements: Atomic numbers that the potential supports.
        neighbor_sums: Object that computes the sums over neighbors of the network.
    """
    pairs = neighbor_sums if isinstance(neighbor_sums, MoleculePairs) else None
    terms: list[ZBL | Walls] = [ZBL(elements, config.cutoff)] if config.zbl else []
    if isinstance(config.walls, WallRanges):
        terms.append(Walls(config.walls, elements, config.cutoff, pairs))
    elif config.walls_kind != "none":
        raise ConfigError(f"model.walls: {config.walls} has no ranges yet: training measures them")
    return Prior(terms, pairs) if terms else None


def check_network_elements(config: ModelConfig, elements: Sequence[int]) -> None:
    """Raise an error if the network supports a fixed list of elements, and one of the given elements is missing.

    Raises:
        ElementError: An element is missing. The message lists the supported elements.
    """
    if config.network == "mace":
        known = config.options["elements"]
        missing = [chemical_symbols[number] for number in elements if number not in known]
        if missing:
            symbols = " ".join(chemical_symbols[number] for number in known)
            raise ElementError(
                f"model.elements: the network has weights for {symbols} only, not for {', '.join(missing)}"
            )


def build_potential(
    config: ModelConfig,
    reference_energies: Mapping[int, float],
    scale: float = 1.0,
    neighbor_sums: NeighborSums | None = None,
) -> Potential:
    """Build a potential with random weights.

    Args:
        config: Section `model` of a configuration.
        reference_energies: Reference energy of each supported element, by atomic number, eV.
        scale: Energy per unit of the network output, eV.
        neighbor_sums: Object that computes the sums over neighbors. With None, `EdgeList` is used.

    Returns:
        The potential, a `DirectPotential` if ``config.forces`` is ``direct``.

    Raises:
        ConfigError: The network cannot be built, see `build_network`.
        ElementError: The network supports a fixed list of elements, and one of the given elements is missing.
    """
    check_network_elements(config, list(reference_energies))
    prior = build_prior(config, list(reference_energies), neighbor_sums)
    kind = DirectPotential if config.forces == "direct" else Potential
    network = build_network(config, neighbor_sums)
    return kind(network, list(reference_energies), list(reference_energies.values()), scale, prior)
