"""Equivariant layers for coefficients of atoms (N, (l_max + 1)^2, F): mixing of channels, norm, activations."""

import math

import torch
from torch import Tensor, nn

from piwsl.models.networks.sphere import SphereActivation

# Added to the mean square of the coefficients above degree zero before the division. It limits the amplification of
# small coefficients, such as those of an atom whose only neighbor is close to the cutoff.
SMALLEST_SQUARE = 1e-2


class PointwiseLinear(nn.Module):
    """Mixing of channels at each point of the sphere, with the same weights for all degrees.

    Args:
        inputs: Number of channels F.
        outputs: Number of channels G.
        gain: Size of the initial weights. It is 2 for inputs that an activation has halved.
    """

    def __init__(self, inputs: int, outputs: int, gain: float = 1.0) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=False)
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.normal_(self.linear.weight, std=gain / math.sqrt(inputs))

    def forward(self, values: Tensor) -> Tensor:
        """Map coefficients (N, K, F) to (N, K, G)."""
        mixed: Tensor = self.linear(values)
        # A constant on the sphere is a coefficient of degree zero.
        return mixed + nn.functional.pad(self.bias.view(1, 1, -1), [0, 0, 0, values.shape[1] - 1])


class DegreewiseLinear(nn.Module):
    """Mixing of channels with separate weights for each degree."""

    def __init__(self, l_max: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.sizes = [2 * degree + 1 for degree in range(l_max + 1)]
        degrees = [nn.Linear(inputs, outputs, bias=degree == 0) for degree in range(l_max + 1)]
        for degree in degrees:
            nn.init.normal_(degree.weight, std=1.0 / math.sqrt(inputs))
        nn.init.zeros_(degrees[0].bias)
        self.degrees = nn.ModuleList(degrees)

    def forward(self, values: Tensor) -> Tensor:
        """Map coefficients (N, K, F) to (N, K, G)."""
        parts = values.split_with_sizes(self.sizes, dim=1)
        mixed: list[Tensor] = []
        for number, degree in enumerate(self.degrees):
            mixed.append(degree(parts[number]))
        return torch.cat(mixed, dim=1)


class SeparableLayerNorm(nn.Module):
    """Layer norm of the scalars, and one common norm for all other degrees (Liao et al. 2023, section 3.4).

    The common norm is the root mean square over degrees, orders and channels. All degrees have the same weight.
    """

    shares: Tensor
    degree_of_row: Tensor

    def __init__(self, l_max: int, channels: int) -> None:
        super().__init__()
        self.scalars = nn.LayerNorm(channels)
        self.weight = nn.Parameter(torch.ones(l_max, channels))
        self.smallest = SMALLEST_SQUARE
        degrees = [degree for degree in range(1, l_max + 1) for _ in range(2 * degree + 1)]
        shares = torch.tensor([1.0 / ((2 * degree + 1) * l_max * channels) for degree in degrees], dtype=torch.float64)
        self.register_buffer("shares", shares.view(-1, 1), persistent=False)
        self.register_buffer("degree_of_row", torch.tensor(degrees) - 1, persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """Map coefficients (N, K, F) to (N, K, F)."""
        # Without this conversion, the derivatives of the layer norm would have mixed types.
        values = values.to(self.weight.dtype)
        scalars, rest = values.split_with_sizes([1, values.shape[1] - 1], dim=1)
        squares = (rest * rest * self.shares.to(rest.dtype)).sum(dim=[1, 2], keepdim=True)
        rest = rest * torch.rsqrt(squares + self.smallest) * self.weight.index_select(0, self.degree_of_row)
        return torch.cat((self.scalars(scalars), rest), dim=1)


class SeparableSphereActivation(nn.Module):
    """SiLU of separate scalars, and the activation on the sphere for all degrees above zero (Liao et al., section 3.3).

    Attributes:
        scalars: Number of separate scalars.
    """

    def __init__(self, orders: list[tuple[int, int]], channels: int) -> None:
        super().__init__()
        self.scalars = channels
        self.on_sphere = SphereActivation(orders)

    def forward(self, values: Tensor, scalars: Tensor) -> Tensor:
        """Map coefficients (N, K, F) and separate scalars (N, F) to coefficients (N, K, F)."""
        rest = self.on_sphere(values)[:, 1:]
        return torch.cat((nn.functional.silu(scalars).unsqueeze(1), rest), dim=1)


class GateActivation(nn.Module):
    """SiLU of separate scalars, and one gate for each channel and each degree above zero.

    The gate is a factor of all coefficients of its degree.

    Attributes:
        scalars: Number of separate scalars, including the inputs of the gates.
    """

    degree_of_row: Tensor

    def __init__(self, orders: list[tuple[int, int]], channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.l_max = max(degree for degree, _ in orders)
        self.scalars = (self.l_max + 1) * channels
        degrees = [degree - 1 for degree, _ in orders[1:]]
        self.register_buffer("degree_of_row", torch.tensor(degrees), persistent=False)

    def forward(self, values: Tensor, scalars: Tensor) -> Tensor:
        """Map coefficients (N, K, F) and separate scalars (N, (l_max + 1) F) to coefficients (N, K, F)."""
        separate = scalars.reshape(values.shape[0], self.l_max + 1, self.channels)
        own, gates = separate.split_with_sizes([1, self.l_max], dim=1)
        gates = torch.sigmoid(gates).index_select(1, self.degree_of_row)
        return torch.cat((nn.functional.silu(own), values[:, 1:] * gates), dim=1)


ACTIVATIONS: dict[str, type[SeparableSphereActivation] | type[GateActivation]] = {
    "sphere": SeparableSphereActivation,
    "gate": GateActivation,
}


def vectors_of(coefficients: Tensor) -> Tensor:
    """Return the vectors (N, 3) from coefficients (N, K, 1). Degree one has the order y, z, x."""
    y, z, x = coefficients[:, 1:4, 0].unbind(1)
    return torch.stack((x, y, z), dim=-1)
