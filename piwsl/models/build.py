"""The section `model` of a configuration, and the network and the potential made from it."""

import difflib
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError
from torch import nn

from piwsl.errors import ConfigError
from piwsl.models.neighbor_sums.edge_list import NeighborSums
from piwsl.models.potential import DirectPotential, Potential
from piwsl.models.register import registered_network, registered_networks


class ModelConfig(BaseModel):
    """Which energy network, and how large.

    Beside the fields below, the options of the network are keys of the same level, such as ``channels`` and ``layers``
    of the built-in networks. They are checked against the signature under which the network was registered.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    network: str = Field("painn", description="energy network: painn, schnet, tensornet, ace, or one of your own")
    cutoff: float = Field(5.0, gt=0.5, le=20.0, description="range of the interaction [A]")
    forces: Literal["conservative", "direct"] = Field(
        "conservative", description="gradient of the energy, or a force head (painn)"
    )

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        """Check the options of the network, and add those that are missing."""
        if not isinstance(values, Mapping):
            return values
        name = values.get("network", cls.model_fields["network"].default)
        try:
            network = registered_network(str(name))
        except ConfigError as error:
            raise _invalid("network", name, str(error)) from None
        shared = {key: value for key, value in values.items() if key in cls.model_fields}
        options = {key: value for key, value in values.items() if key not in cls.model_fields}
        for key, value in options.items():
            if key not in network.options.model_fields:
                known = [*cls.model_fields, *network.options.model_fields]
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean model.{near[0]}?" if near else f"the keys are {', '.join(known)}"
                raise _invalid(key, value, f"network {name} has no such option: {hint}")
        # The errors of pydantic's own checks pass through with the name of their key.
        return {**shared, **network.options.model_validate(options).model_dump()}

    @property
    def options(self) -> dict[str, Any]:
        """Values of the options of the network."""
        return dict(self.__pydantic_extra__ or {})

    def described(self) -> dict[str, tuple[Any, str]]:
        """Return the value and the description of each key, with the options of the network."""
        fields: dict[str, FieldInfo] = {
            **type(self).model_fields,
            **registered_network(self.network).options.model_fields,
        }
        return {key: (value, fields[key].description or "") for key, value in self.model_dump().items()}


def _invalid(key: str, value: Any, message: str) -> ValidationError:
    # Braces are place holders in messages of pydantic.
    error = PydanticCustomError("network_option", "{message}", {"message": message})
    return ValidationError.from_exception_data("ModelConfig", [InitErrorDetails(type=error, loc=(key,), input=value)])


def build_network(config: ModelConfig, neighbor_sums: NeighborSums | None = None) -> nn.Module:
    """Build a network with random weights.

    Args:
        config: Network and its options.
        neighbor_sums: Object that sums over neighbors; None: a list of edges.

    Raises:
        ConfigError: The network has no force head and ``forces`` is ``direct``, or it accepts no ``neighbor_sums``.
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
        if not network.takes_neighbor_sums(direct):
            raise ConfigError(f"network {config.network} does not take neighbor_sums: it works on lists of edges only")
        arguments["neighbor_sums"] = neighbor_sums
    return factory(**arguments)


def build_potential(
    config: ModelConfig,
    reference_energies: Mapping[int, float],
    scale: float = 1.0,
    neighbor_sums: NeighborSums | None = None,
) -> Potential:
    """Build a potential with random weights.

    Args:
        config: Network and its options.
        reference_energies: Reference energy of each supported element, by atomic number, eV.
        scale: eV per unit of the network's output.
        neighbor_sums: Object that sums over neighbors; None: a list of edges.

    Returns:
        A `DirectPotential` if ``config.forces`` is ``direct``.

    Raises:
        ConfigError: See `build_network`.
    """
    kind = DirectPotential if config.forces == "direct" else Potential
    network = build_network(config, neighbor_sums)
    return kind(network, list(reference_energies), list(reference_energies.values()), scale)
