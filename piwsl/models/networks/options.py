"""Shared options of the built-in networks, with their limits and descriptions."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from piwsl.errors import ConfigError

Channels: TypeAlias = Annotated[int, Field(ge=4, le=1024, multiple_of=2, description="features of an atom")]
HiddenChannels: TypeAlias = Annotated[int, Field(ge=4, le=4096, description="hidden features")]
Layers: TypeAlias = Annotated[int, Field(ge=1, le=12, description="interaction layers")]
RadialSize: TypeAlias = Annotated[int, Field(ge=2, le=1024, description="number of radial functions")]
RadialBasis: TypeAlias = Annotated[Literal["bessel", "gaussian"], Field(description="radial functions")]
MaxDegree: TypeAlias = Annotated[int, Field(ge=1, le=8, description="largest degree l of spherical harmonics")]
MaxOrder: TypeAlias = Annotated[int, Field(ge=1, le=8, description="largest order m around an edge")]
AttentionHeads: TypeAlias = Annotated[int, Field(ge=1, le=64, description="attention heads")]
HeadChannels: TypeAlias = Annotated[int, Field(ge=1, le=512, description="features of an attention head")]
EquivariantActivation: TypeAlias = Annotated[
    Literal["sphere", "gate"], Field(description="nonlinearity: polynomial on the sphere, or gates")
]
Rings: TypeAlias = Annotated[int, Field(ge=3, le=64, description="rings of latitude around an edge")]
Orders: TypeAlias = Annotated[int, Field(ge=1, le=8, description="largest order of the filters around an edge")]
Chiral: TypeAlias = Annotated[
    bool, Field(description="distinguish mirror images, as the published networks do; energies of both then differ")
]


def check_orders(options: Mapping[str, Any]) -> None:
    """Check that orders are at most as large as degrees.

    Raises:
        ConfigError: ``m_max`` is larger than ``l_max``.
    """
    if options["m_max"] > options["l_max"]:
        raise ConfigError(
            f"m_max={options['m_max']} is above l_max={options['l_max']}: a harmonic of degree l has orders up to l"
        )
