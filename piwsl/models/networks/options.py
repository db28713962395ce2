"""Shared options of the built-in networks, with their limits and descriptions."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

Channels: TypeAlias = Annotated[int, Field(ge=4, le=1024, multiple_of=2, description="features of an atom")]
Layers: TypeAlias = Annotated[int, Field(ge=1, le=12, description="interaction layers")]
RadialSize: TypeAlias = Annotated[int, Field(ge=2, le=256, description="number of radial functions")]
RadialBasis: TypeAlias = Annotated[Literal["bessel", "gaussian"], Field(description="radial functions")]
