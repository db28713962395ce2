"""Further heads in a trained file: what a level of theory has beside the weights that it shares with the main level."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from piwsl.data.domain import Number, TrainingDomain
from piwsl.data.frames import LARGEST_ENERGY, Frame
from piwsl.export.tensor_entries import check_frame, frame_entry, named_tensors

MOST_HEADS = 100
_ALIKE = ("shape", "dtype", "layout")  # attributes of a weight that agree in all heads
ReferenceEnergies = Annotated[
    dict[Number, Annotated[float, Field(ge=-LARGEST_ENERGY, le=LARGEST_ENERGY)]], Field(min_length=1)
]
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,100}")


class HeadRecord(BaseModel):
    """Description of a further head in a trained file. Unknown keys of later versions are ignored."""

    model_config = ConfigDict(extra="ignore")

    name: str
    reference_energies: ReferenceEnergies
    training: dict[str, Any]
    domain: TrainingDomain | None = None


@dataclass(frozen=True, eq=False)
class TrainedHead:
    """Head of a further level of theory.

    Attributes:
        name: Name of the level.
        reference_energies: Reference energy of each element, by atomic number, eV.
        tensors: Weights of the head, by their names in the network.
        check_frames: Structures from the data of the level for the verification of exports, without labels.
        training: Entries in which the level differs from the main level, such as the data and their hash.
        domain: Training domain.
    """

    name: str
    reference_energies: dict[int, float]
    tensors: dict[str, Tensor]
    check_frames: Sequence[Frame] = ()
    training: dict[str, Any] = field(default_factory=dict)
    domain: TrainingDomain | None = None

    def description(self) -> dict[str, Any]:
        """Return the description of the head in a trained file as values for JSON."""
        return {
            "name": self.name,
            "reference_energies": {str(z): energy for z, energy in self.reference_energies.items()},
            "training": self.training,
            "domain": None if self.domain is None else self.domain.model_dump(),
        }

    def content(self) -> dict[str, Any]:
        """Return the tensors of the head in a trained file."""
        return {"tensors": self.tensors, "check_frames": [frame_entry(frame) for frame in self.check_frames]}


def heads_of_file(
    records: Sequence[HeadRecord], contents: object, tensors: Mapping[str, Tensor], main: object
) -> tuple[TrainedHead, ...]:
    """Return the further heads of a trained file.

    Args:
        records: Descriptions of the heads.
        contents: Tensors of the heads in the same order, as they are in the file.
        tensors: Weights of the network with the main head.
        main: Name of the main level, as it is in the file.

    Raises:
        ValueError: Descriptions and tensors contradict each other, or a weight does not fit the network.
    """
    if not isinstance(contents, list) or len(contents) != len(records):
        raise ValueError("the heads have other descriptions than weights")
    names = [main, *(record.name for record in records)] if records else []
    if len(set(names)) < len(names) or not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names):
        raise ValueError("the names of the heads are missing, invalid or not unique")
    heads: list[TrainedHead] = []
    for record, content in zip(records, contents, strict=True):
        weights = named_tensors(content["tensors"])
        for name, weight in weights.items():
            known = tensors.get(name)
            if known is None or any(getattr(known, what) != getattr(weight, what) for what in _ALIKE):
                raise ValueError(f"weight {name[:100]!r} of a head does not fit the network")
        frames = [check_frame(entry) for entry in content["check_frames"]]
        heads.append(
            TrainedHead(record.name, record.reference_energies, weights, frames, record.training, record.domain)
        )
    return tuple(heads)
