"""What a reader of a foundation model returns."""

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from piwsl.models.build import ModelConfig


@dataclass(frozen=True)
class Origin:
    """Where a foundation model comes from, as kept in every file made from it.

    Attributes:
        name: Name of the model.
        license: License of the weights.
        citation: Publication to cite.
        level: Level of theory of its labels; None if the file does not state it.
        source: Name of the file or package that held the weights.
        sha256: Checksum of the file of the weights.
        notes: What a user should know, one fact a line.
    """

    name: str
    license: str
    citation: str
    level: str | None
    source: str
    sha256: str = ""
    notes: tuple[str, ...] = ()

    def described(self) -> dict[str, Any]:
        """Return the attributes as JSON values."""
        return {**asdict(self), "notes": list(self.notes)}


@dataclass(frozen=True, eq=False)
class FoundationModel:
    """A foundation model as a network of piwsl.

    Attributes:
        config: Network and its options.
        tensors: Weights of the network.
        reference_energies: Energy of each element, by atomic number, eV.
        scale: eV per unit of the network's output.
        dtype: Type of the weights, ``float32`` or ``float64``.
        origin: Where the model comes from.
    """

    config: ModelConfig
    tensors: dict[str, Tensor]
    reference_energies: dict[int, float]
    origin: Origin
    scale: float = 1.0
    dtype: str = "float32"
