"""Data classes that readers of foundation models return."""

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from piwsl.models.build import ModelConfig


@dataclass(frozen=True)
class Origin:
    """Origin of a foundation model, which is stored in every file made from the model.

    Attributes:
        name: Name of the model.
        license: License of the weights.
        citation: Publication to cite.
        level: Level of theory of the labels; None if the file does not state it.
        source: Name of the file or package that contained the weights.
        sha256: SHA-256 of the file with the weights.
        notes: Notes for users, one fact for each line.
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
    """Foundation model, converted to a network of piwsl.

    Attributes:
        config: Network and its options.
        tensors: Weights of the network by name.
        reference_energies: Reference energy of each element, by atomic number, eV.
        origin: Origin of the model.
        scale: Energy per unit of the network output, eV.
        dtype: Type of the weights, ``float32`` or ``float64``.
    """

    config: ModelConfig
    tensors: dict[str, Tensor]
    reference_energies: dict[int, float]
    origin: Origin
    scale: float = 1.0
    dtype: str = "float32"
