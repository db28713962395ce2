"""What a reader of a foundation model returns."""

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from piwsl.models.build import ModelConfig


@dataclass(frozen=True)
class Origin:
    """Where a foundation model comes from, as kept in every file made from it.

    Attributes:
        name: name of the model.
        license: license of the weights.
        citation: publication to cite.
        level: level of theory of its labels; None if the file does not state it.
        source: name of the file or package that held the weights.
        sha256: checksum of the file of the weights.
        notes: what a user should know, one fact a line.
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
        config: network and its options.
        tensors: weights of the network.
        reference_energies: energy of each element, by atomic number, eV.
        scale: eV per unit of the network's output.
        dtype: type of the weights, ``float32`` or ``float64``.
        origin: where the model comes from.
    """

    config: ModelConfig
    tensors: dict[str, Tensor]
    reference_energies: dict[int, float]
    origin: Origin
    scale: float = 1.0
    dtype: str = "float32"
