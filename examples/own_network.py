"""Register an energy network of your own, check it, train it and export it.

python examples/own_network.py OUTPUT [STEPS]

From the command line the same network is trained by a configuration that names this module:

    imports: [own_network]
    model: {network: pair_network, cutoff: 4.0, width: 16}
"""

import sys
from pathlib import Path
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

import piwsl
from piwsl.models import BesselBasis, PolynomialCutoff, register_network
from piwsl.testing import check_network


@register_network("pair_network")
class PairNetwork(nn.Module):
    """Each pair of atoms has an energy, a function of the distance and of both elements."""

    def __init__(
        self,
        cutoff: float,
        width: Annotated[int, Field(ge=1, le=512, description="hidden units of the pair energy")] = 32,
        radial_size: Annotated[int, Field(ge=1, le=64, description="number of radial functions")] = 8,
    ) -> None:
        super().__init__()
        self.basis = BesselBasis(cutoff, radial_size)
        self.switch = PolynomialCutoff(cutoff)
        self.distance = nn.Linear(radial_size, width)
        self.center, self.neighbor = nn.Embedding(119, width), nn.Embedding(119, width)
        self.energy = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1))

    def forward(self, species: Tensor, edges: Tensor, edge_vectors: Tensor, structure_index: Tensor) -> Tensor:
        """Return the energy of each atom (N,), half of the energies of its pairs."""
        distances = (edge_vectors * edge_vectors).sum(-1).sqrt()
        elements = self.center(species[edges[0]]) + self.neighbor(species[edges[1]])
        hidden = self.distance(self.basis(distances)) + elements
        # The switch makes pairs vanish smoothly at the cutoff; edges may be longer.
        pairs = 0.5 * self.energy(hidden).squeeze(-1) * self.switch(distances)
        return pairs.new_zeros(species.shape[0]).index_add(0, edges[0], pairs)


def main(output: Path, steps: int) -> None:
    check_network("pair_network", width=16)
    config = {
        "data": {"train": 50, "validation": 10},
        "model": {"network": "pair_network", "cutoff": 4.0, "width": 16},
        "optimizer": {"steps": steps, "batch_size": 5, "validation_interval": max(1, steps // 4)},
    }
    result = piwsl.train("aspirin", config=config, output=output)
    print("\n".join(result.validation.lines()))
    exported = piwsl.export_model(result.model, output / "pair_network.pt")
    print("\n".join(exported.verification.lines()))


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) == 3 else 500)
