"""The trained file: tensors and one JSON text, no code.

All other forms of a potential are exported from it.
"""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from ase.data import chemical_symbols
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from piwsl._version import __version__
from piwsl.compat.torch import torch_bytes
from piwsl.data.batch import collate
from piwsl.data.domain import Finite, Number, TrainingDomain
from piwsl.data.frames import LARGEST_ENERGY, Frame, FrameSet
from piwsl.data.read import FrameSource, as_frames
from piwsl.errors import (
    ElementError,
    ModelFileError,
    RunDirectoryError,
    UnregisteredNetworkError,
    reason_of,
    system_errors,
)
from piwsl.export.archive import parsed, read_archive
from piwsl.models import ModelConfig, Potential, build_potential, registered_networks
from piwsl.models.neighbor_sums.edge_list import NeighborSums
from piwsl.runs import notebook
from piwsl.runs.files import write_bytes
from piwsl.runs.json_text import json_text
from piwsl.typing import MAX_ATOMIC_NUMBER

MODEL_FILE = "model.pt"  # in the directory of a training run
ENSEMBLE_FILE = "ensemble.json"  # in the directory of an ensemble
TRAINED_FORMAT = "piwsl-trained"
TRAINED_VERSION = 1
UNITS = {"energy": "eV", "length": "angstrom", "force": "eV/angstrom"}
DTYPES = {"float32": torch.float32, "float64": torch.float64}


class TrainedRecord(BaseModel):
    """The description in a trained file; keys of later versions are ignored."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    network: dict[str, Any]
    reference_energies: dict[Number, Annotated[float, Field(ge=-LARGEST_ENERGY, le=LARGEST_ENERGY)]] = Field(
        min_length=1
    )
    scale: Finite
    dtype: Literal["float32", "float64"]
    training: dict[str, Any]
    piwsl_version: str
    domain: TrainingDomain | None = None


@dataclass(frozen=True, eq=False, repr=False)
class TrainedModel:
    """Content of a trained file: a network with its weights, and how it was trained.

    ``elements``, ``symbols``, ``cutoff``, ``units``, ``level`` and `predict` are what users need; the attributes
    below are the content of the file.

    Attributes:
        config: The network.
        reference_energies: eV of each element, by atomic number.
        scale: eV per unit of the network's output.
        dtype: Type of the network's weights, ``float32`` or ``float64``.
        tensors: Weights of the network.
        check_frames: A few structures of the data, on which exports are verified (species, positions, cell, pbc).
        training: Data hash, metrics, settings and other facts about the training.
        piwsl_version: The version that wrote the file.
        domain: What was seen in training; None for files of earlier versions.
    """

    config: ModelConfig
    reference_energies: dict[int, float]
    scale: float
    dtype: str
    tensors: dict[str, Tensor]
    check_frames: Sequence[Frame] = ()
    training: dict[str, Any] = field(default_factory=dict)
    piwsl_version: str = __version__
    domain: TrainingDomain | None = None

    @property
    def elements(self) -> list[int]:
        """Atomic numbers that the model was trained on."""
        return sorted(self.reference_energies)

    @property
    def symbols(self) -> list[str]:
        """Chemical symbols of `elements`."""
        return [chemical_symbols[number] for number in self.elements]

    @property
    def cutoff(self) -> float:
        """Cutoff radius of the neighbor list, angstrom."""
        return float(self.config.cutoff)

    @property
    def units(self) -> dict[str, str]:
        """Units of energies, lengths and forces."""
        return dict(UNITS)

    @property
    def level(self) -> str | None:
        """Level of theory of the labels; None where the data do not state it."""
        level = self.training.get("level")
        return None if level is None else str(level)

    def predict(self, structures: FrameSource, *, device: str = "cpu", batch_size: int = 50) -> FrameSet:
        """Return structures with the energies (eV) and forces (eV/angstrom) that the model predicts for them.

        Args:
            structures: Frames, ASE structures, or what `piwsl.read_frames` reads.
            device: ``cpu`` or ``cuda``.
            batch_size: Structures that are evaluated together.

        Returns:
            Frames in the order of the structures; their stress has no value.

        Raises:
            ElementError: A structure contains an element that the model was not trained on.
            DataError: The structures cannot be read.
        """
        frames = as_frames(structures)
        check_elements(self, frames.elements)
        potential, dtype = self.potential().to(device), DTYPES[self.dtype]
        predicted: list[Frame] = []
        for first in range(0, len(frames), batch_size):
            some = [frames[index] for index in range(first, min(first + batch_size, len(frames)))]
            energies, forces = potential(*collate(some, self.cutoff, dtype).to(device).graph)
            parts = forces.detach().to("cpu", torch.float64).split([len(frame.species) for frame in some])
            for frame, energy, part in zip(some, energies.tolist(), parts, strict=True):
                predicted.append(Frame.from_atoms(frame.atoms(), energy, part.numpy()))
        return FrameSet(predicted, frames.source)

    def potential(self, neighbor_sums: NeighborSums | None = None, dtype: str | None = None) -> Potential:
        """Return the eager potential with frozen weights.

        Args:
            neighbor_sums: Object that sums over neighbors; None: a list of edges.
            dtype: Float type of the network, ``float32`` or ``float64``; None: that of the file.
        """
        potential = build_potential(self.config, self.reference_energies, self.scale, neighbor_sums)
        potential.network.load_state_dict(self.tensors)
        potential.network.to(DTYPES[dtype or self.dtype])
        return potential.requires_grad_(False).eval()

    def __repr__(self) -> str:
        return f"TrainedModel({self.config.network}, {' '.join(self.symbols)}, cutoff {self.cutoff:g} angstrom)"

    def _repr_html_(self) -> str:
        return notebook.facts(
            [
                ("network", ", ".join(f"{key} {value}" for key, value in self.config.model_dump().items())),
                ("elements", " ".join(self.symbols)),
                ("cutoff", f"{self.cutoff:g} angstrom"),
                ("level of theory", self.level),
                ("remark", None if self.domain is None else self.domain.remark()),
                ("precision", self.dtype),
                ("trained on", self.training.get("data")),
                ("training frames", self.training.get("train_frames")),
                ("written by piwsl", self.piwsl_version),
            ]
        )


def trained_description(model: TrainedModel) -> dict[str, Any]:
    """Return the description of a trained file, as values for JSON."""
    return {
        "format": TRAINED_FORMAT,
        "format_version": TRAINED_VERSION,
        "piwsl_version": model.piwsl_version,
        "network": model.config.model_dump(mode="json"),
        "elements": model.elements,
        "reference_energies": {str(z): energy for z, energy in model.reference_energies.items()},
        "scale": model.scale,
        "cutoff": model.config.cutoff,
        "units": UNITS,
        "dtype": model.dtype,
        "training": model.training,
        "domain": None if model.domain is None else model.domain.model_dump(),
    }


def save_trained(model: TrainedModel, path: Path) -> None:
    """Write a trained file atomically."""
    description = trained_description(model)
    frames = [
        {
            "species": torch.as_tensor(frame.species),
            "positions": torch.as_tensor(frame.positions),
            "cell": torch.as_tensor(frame.cell),
            "pbc": torch.tensor(frame.pbc),
        }
        for frame in model.check_frames
    ]
    content = {"description": json_text(description), "tensors": model.tensors, "check_frames": frames}
    write_bytes(path, torch_bytes(content))


@system_errors()
def load_model(path: str | PathLike[str]) -> TrainedModel:
    """Read a trained file, or the ``model.pt`` of a run directory; nothing in it is executed.

    Raises:
        ModelFileError: The file is missing, damaged, not a trained file of piwsl, or of another format version.
    """
    return load_trained(trained_file(Path(path)))


def load_trained(path: Path) -> TrainedModel:
    """Read a trained file; nothing in it is executed.

    Raises:
        ModelFileError: The file is missing, damaged, not ours, or of another format version.
        UnregisteredNetworkError: No network has the name in the file; import the module that registers it first.
    """
    archive = read_archive(path, "a trained piwsl model", "use a whole copy, or train again")
    if archive.has_code:
        raise ModelFileError(f"{path}: contains code, so it is not a trained piwsl model: give the model.pt of a run")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about other pickles, which are refused below
            content = torch.load(BytesIO(archive.content), map_location="cpu", weights_only=True)
    except Exception:  # a pickle of anything but tensors, numbers and text ends here, unexecuted, with many exceptions
        raise ModelFileError(f"{path}: damaged or not a trained piwsl model") from None
    description = _description(path, content)
    _check_network(path, description)
    try:
        record = TrainedRecord.model_validate(description)
        tensors = _tensors(content["tensors"])
        model = TrainedModel(
            config=ModelConfig(**record.network),
            reference_energies=record.reference_energies,
            scale=record.scale,
            dtype=record.dtype,
            tensors=tensors,
            check_frames=[_check_frame(entry) for entry in content["check_frames"]],
            training=record.training,
            piwsl_version=record.piwsl_version,
            domain=record.domain,
        )
    except ValidationError as error:
        raise ModelFileError(f"{path}: its description is incomplete or damaged: {first_mistake(error)}") from None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        raise ModelFileError(f"{path}: its description is incomplete or damaged: {reason_of(error)}") from None
    try:
        with torch.random.fork_rng(devices=[]):
            model.potential()
    except (RuntimeError, TypeError, ValueError, KeyError) as error:
        raise ModelFileError(f"{path}: its weights do not fit its network ({reason_of(error)})") from None
    return model


def first_mistake(error: ValidationError) -> str:
    """Return the first mistake in data from a file: where it is, and what is wrong."""
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg'].lower()}"


def _tensors(values: object) -> dict[str, Tensor]:
    """Return the weights of a file by name.

    Raises:
        ValueError: They are something else.
    """
    if not isinstance(values, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in values.items()
    ):
        raise ValueError("the weights are not tensors with names")
    return dict(values)


def _check_frame(entry: Any) -> Frame:
    """Return a structure of a trained file.

    Raises:
        ValueError: Shapes or values are not those of a structure.
    """
    species, positions = entry["species"].numpy(), entry["positions"].numpy()
    cell, pbc = entry["cell"].numpy(), entry["pbc"].numpy()
    fits = positions.shape == (len(species), 3) and cell.shape == (3, 3) and pbc.shape == (3,)
    if not fits or species.dtype != np.int64 or not len(species):
        raise ValueError("a structure to check exports has arrays of other shapes")
    if species.min() < 1 or species.max() > MAX_ATOMIC_NUMBER or not np.isfinite(positions).all():
        raise ValueError("a structure to check exports has impossible elements or positions")
    if positions.dtype != np.float64 or cell.dtype != np.float64 or not np.isfinite(cell).all():
        raise ValueError("a structure to check exports has an impossible cell or positions of another type")
    return Frame(
        species=species,
        positions=positions,
        energy=float("nan"),
        forces=positions * float("nan"),
        cell=cell,
        pbc=(bool(pbc[0]), bool(pbc[1]), bool(pbc[2])),
    )


def trained_file(path: Path) -> Path:
    """Return the trained file that a path means: that of a training run where it is a run directory, else the path."""
    return path / MODEL_FILE if (path / MODEL_FILE).is_file() else path


def member_models(directory: Path) -> list[Path]:
    """Return the trained files of the members of an ensemble.

    Raises:
        RunDirectoryError: The directory contains no finished ensemble.
    """
    try:
        content = json.loads((directory / ENSEMBLE_FILE).read_text(encoding="utf-8"))
        models = [directory / member["directory"] / MODEL_FILE for member in content["members"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise RunDirectoryError(f"{directory} contains no finished ensemble: name trained files instead") from None
    missing = next((model for model in models if not model.is_file()), None)
    if missing is not None:
        raise RunDirectoryError(f"{missing} is missing: finish the ensemble with resume=True")
    return models


def check_elements(model: TrainedModel, species: Sequence[int]) -> None:
    """Refuse a structure with an element on which the model was not trained.

    Raises:
        ElementError: There is such an element.
    """
    unknown = sorted(set(species) - set(model.elements))
    if unknown:
        names = ", ".join(chemical_symbols[z] for z in unknown)
        known = " ".join(chemical_symbols[z] for z in model.elements)
        raise ElementError(f"the model was not trained on {names}: it was trained on {known}")


def _check_network(path: Path, description: dict[str, Any]) -> None:
    """Refuse a network that is not registered. A file never causes an import: importing executes code."""
    network = description.get("network")
    name = network.get("network") if isinstance(network, dict) else None
    if isinstance(name, str) and name not in registered_networks():
        raise UnregisteredNetworkError(
            f"{path}: its network {name!r} is not registered here: import the module that registers it first"
        )


def _description(path: Path, content: object) -> dict[str, Any]:
    not_trained = ModelFileError(f"{path}: not a trained piwsl model: create one with `piwsl train`")
    if not isinstance(content, dict) or not isinstance(content.get("description"), str):
        raise not_trained
    try:
        description = parsed(content["description"])
    except ValueError:
        raise not_trained from None
    if not isinstance(description, dict) or description.get("format") != TRAINED_FORMAT:
        raise not_trained
    version = description.get("format_version")
    if version != TRAINED_VERSION:
        newer = isinstance(version, int) and version > TRAINED_VERSION
        todo = "update piwsl" if newer else "train again with this version"
        raise ModelFileError(f"{path}: format version {version}, this piwsl reads {TRAINED_VERSION}: {todo}")
    return description
