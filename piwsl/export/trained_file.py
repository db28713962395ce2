"""Trained file, which contains tensors and a JSON description but no code.

All exported files are created from trained files.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from ase.data import chemical_symbols
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from piwsl._version import __version__
from piwsl.compat.torch import torch_bytes
from piwsl.data.batch import collate
from piwsl.data.domain import Finite, TrainingDomain
from piwsl.data.frames import Frame, FrameSet
from piwsl.data.read import FrameSource, as_frames
from piwsl.errors import (
    ConfigError,
    ModelFileError,
    RunDirectoryError,
    UnregisteredNetworkError,
    public,
    reason_of,
)
from piwsl.export.archive import parsed, read_archive
from piwsl.export.heads import MOST_HEADS, HeadRecord, ReferenceEnergies, TrainedHead, heads_of_file
from piwsl.export.supported import check_elements, check_molecule, in_trained_order
from piwsl.export.tensor_entries import check_frame, frame_entry, named_tensors
from piwsl.models import ModelConfig, Potential, build_potential, registered_networks
from piwsl.models.neighbor_sums.edge_list import NeighborSums
from piwsl.runs import notebook
from piwsl.runs.files import read_json_object, write_bytes
from piwsl.runs.json_text import json_text

MODEL_FILE = "model.pt"  # trained file in the directory of a training run
ENSEMBLE_FILE = "ensemble.json"  # summary in the directory of an ensemble
TRAINED_FORMAT = "piwsl-trained"
TRAINED_VERSION = 1
UNITS = {"energy": "eV", "length": "angstrom", "force": "eV/angstrom"}
DTYPES = {"float32": torch.float32, "float64": torch.float64}


class TrainedRecord(BaseModel):
    """Description in a trained file. Unknown keys of later versions are ignored."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    network: dict[str, Any]
    reference_energies: ReferenceEnergies
    scale: Finite
    dtype: Literal["float32", "float64"]
    training: dict[str, Any]
    piwsl_version: str
    domain: TrainingDomain | None = None
    units: dict[str, str] = UNITS
    heads: list[HeadRecord] = Field(default_factory=list, max_length=MOST_HEADS)


@dataclass(frozen=True, eq=False, repr=False)
class TrainedModel:
    """Content of a trained file: network, weights, and information about the training.

    Most users require only ``elements``, ``symbols``, ``cutoff``, ``units``, ``level`` and `predict`. The attributes
    below represent the content of the file.

    Attributes:
        config: Network and its options.
        reference_energies: Reference energy of each element, by atomic number, eV.
        scale: Energy per unit of the network output, eV.
        dtype: Float type of the weights, ``float32`` or ``float64``.
        tensors: Weights of the network, by name.
        check_frames: Structures from the data for the verification of exports, without labels.
        training: Data hash, metrics, settings and other information about the training.
        piwsl_version: Version of piwsl that wrote the file.
        domain: Training domain; None for files of earlier versions.
        heads: Heads of further levels of theory. The other attributes belong to the main level, see `at_level`.
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
    heads: tuple[TrainedHead, ...] = ()

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
        """Level of theory of the labels, or None if it is unknown."""
        level = self.training.get("level")
        return None if level is None else str(level)

    @property
    def levels(self) -> list[str]:
        """Names of the levels of theory with a head, the main level first; empty for a model without names of levels.

        `piwsl.load_model` takes such a name.
        """
        main = self.training.get("head")
        return [] if main is None else [str(main), *(head.name for head in self.heads)]

    def at_level(self, name: str) -> "TrainedModel":
        """Return the model with the head of one level of theory, and without the other heads.

        Raises:
            ConfigError: The model has no such head. The message lists its heads.
        """
        if name not in self.levels:
            known = f"choose one of {', '.join(self.levels)}" if self.levels else "it has a single one without a name"
            raise ConfigError(f"the model has no head {name[:100]!r}: {known}")
        head = next((head for head in self.heads if head.name == name), None)
        if head is None:
            return replace(self, heads=())
        errors = dict.fromkeys(("validation", "test"))  # those of the main level
        return replace(
            self,
            reference_energies=head.reference_energies,
            tensors={**self.tensors, **head.tensors},
            check_frames=head.check_frames,
            training={**self.training, **errors, **head.training, "head": name},
            domain=head.domain,
            heads=(),
        )

    def predict(self, structures: FrameSource, *, device: str = "cpu", batch_size: int = 50) -> FrameSet:
        """Return structures with predicted energies (eV) and forces (eV/angstrom).

        Args:
            structures: Frames, ASE structures, or a source that `piwsl.read_frames` accepts.
            device: ``cpu`` or ``cuda``.
            batch_size: Number of structures per batch.

        Returns:
            Frames in the order of the structures, without stress.

        Raises:
            ElementError: A structure contains an element that the model was not trained on.
            DataError: The structures cannot be read.
        """
        frames = as_frames(structures)
        check_elements(self.elements, frames.elements)
        ordered, orders = in_trained_order(self.config.walls, frames)
        potential, dtype = self.potential().to(device), DTYPES[self.dtype]
        predicted: list[Frame] = []
        for first in range(0, len(frames), batch_size):
            some = [ordered[index] for index in range(first, min(first + batch_size, len(frames)))]
            energies, forces = potential(*collate(some, self.cutoff, dtype).to(device).graph)
            parts = forces.detach().to("cpu", torch.float64).split([len(frame.species) for frame in some])
            for frame, energy, part in zip(some, energies.tolist(), parts, strict=True):
                predicted.append(Frame.from_atoms(frame.atoms(), energy, part.numpy()))
        if orders is not None:
            predicted = [frame.reordered(np.argsort(order)) for frame, order in zip(predicted, orders, strict=True)]
        return FrameSet(predicted, frames.source)

    def check_structure(self, species: Sequence[int], periodic: bool) -> None:
        """Raise an error if the model does not support a structure.

        Raises:
            ElementError: The model was not trained on an element, or has walls of one molecule, and the structure is
                another one, has its atoms in another order, or is periodic.
        """
        check_elements(self.elements, species)
        check_molecule(self.config.molecule, species, periodic)

    def check_structures(self, frames: FrameSet) -> None:
        """Raise an error if the model does not support one of some frames, with their atoms in any order.

        Raises:
            ElementError: See `check_structure` and `in_trained_order`.
        """
        check_elements(self.elements, frames.elements)
        in_trained_order(self.config.walls, frames)

    def potential(self, neighbor_sums: NeighborSums | None = None, dtype: str | None = None) -> Potential:
        """Return the eager potential with frozen weights.

        Args:
            neighbor_sums: Object that computes the sums over neighbors. With None, `EdgeList` is used.
            dtype: Float type of the network, ``float32`` or ``float64``. With None, the float type of the file is used.
        """
        potential = build_potential(self.config, self.reference_energies, self.scale, neighbor_sums)
        # In the type of the file first: loading would round weights in float64 to the float32 of new networks.
        potential.network.to(DTYPES[self.dtype]).load_state_dict(self.tensors)
        potential.network.to(DTYPES[dtype or self.dtype])
        return potential.requires_grad_(False).eval()

    def __repr__(self) -> str:
        return f"TrainedModel({self.config.network}, {' '.join(self.symbols)}, cutoff {self.cutoff:g} angstrom)"

    def _repr_html_(self) -> str:
        return notebook.facts(
            [
                ("network", ", ".join(f"{key} {value}" for key, value in self.config.shown().items())),
                ("elements", " ".join(self.symbols)),
                ("cutoff", f"{self.cutoff:g} angstrom"),
                ("level of theory", self.level),
                ("heads", ", ".join(self.levels) or None),
                ("remark", None if self.domain is None else self.domain.remark()),
                ("precision", self.dtype),
                ("trained on", self.training.get("data")),
                ("training frames", self.training.get("train_frames")),
                ("written by piwsl", self.piwsl_version),
            ]
        )


def trained_description(model: TrainedModel) -> dict[str, Any]:
    """Return the description of a trained file as values for JSON."""
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
        **({"heads": [head.description() for head in model.heads]} if model.heads else {}),
    }


def save_trained(model: TrainedModel, path: Path) -> None:
    """Write a trained file atomically."""
    description = trained_description(model)
    frames = [frame_entry(frame) for frame in model.check_frames]
    content = {"description": json_text(description), "tensors": model.tensors, "check_frames": frames}
    if model.heads:
        content["heads"] = [head.content() for head in model.heads]
    write_bytes(path, torch_bytes(content))


@public
def load_model(path: str | PathLike[str], *, level: str | None = None) -> TrainedModel:
    """Read a trained file, or the ``model.pt`` of a run directory, without executing anything in the file.

    Args:
        path: Trained file, or run directory.
        level: Name of a level of theory, for a model with several heads. With None, the result has the head of the main
            level, and also contains the others.

    Raises:
        ModelFileError: The file is missing, damaged, not a trained file of piwsl, or has another format version.
        UnregisteredNetworkError: The network of the file is not registered. Import the module that registers it first.
        ConfigError: The model has no head of this level.
    """
    return load_trained(trained_file(Path(path)), level)


def load_trained(path: Path, level: str | None = None) -> TrainedModel:
    """Read a trained file without executing anything in the file.

    Args:
        path: Trained file.
        level: Name of the level of theory, see `load_model`.

    Raises:
        ModelFileError: The file is missing, damaged, not a trained file of piwsl, or has another format version.
        UnregisteredNetworkError: The network of the file is not registered. Import the module that registers it first.
        ConfigError: The model has no head of this level.
    """
    model = _read(path)
    try:
        return model if level is None else model.at_level(level)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _read(path: Path) -> TrainedModel:
    archive = read_archive(path, "a trained piwsl model", "use an intact copy, or train the model again")
    if archive.has_code:
        raise ModelFileError(
            f"{path}: the file contains code, so it is not a trained piwsl model: use the model.pt of a training run"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about unsupported pickles, which raise an error below
            content = torch.load(BytesIO(archive.content), map_location="cpu", weights_only=True)
    except Exception:  # Unsupported pickles raise many kinds of errors before anything is executed.
        raise ModelFileError(
            f"{path}: damaged or not a trained piwsl model: use the model.pt of a training run"
        ) from None
    description = _description(path, content)
    _check_network(path, description)
    try:
        record = TrainedRecord.model_validate(description)
        tensors = named_tensors(content["tensors"])
        if record.units != UNITS:
            raise ValueError(f"its units are {record.units}")
        model = TrainedModel(
            config=ModelConfig(**{"zbl": False, **record.network}),  # files of earlier versions have no such key
            reference_energies=record.reference_energies,
            scale=record.scale,
            dtype=record.dtype,
            tensors=tensors,
            check_frames=[check_frame(entry) for entry in content["check_frames"]],
            training=record.training,
            piwsl_version=record.piwsl_version,
            domain=record.domain,
            heads=heads_of_file(record.heads, content.get("heads", []), tensors, record.training.get("head")),
        )
    except ValidationError as error:
        raise ModelFileError(
            f"{path}: incomplete or damaged description ({first_mistake(error)}): use an intact copy"
        ) from None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        raise ModelFileError(
            f"{path}: incomplete or damaged description ({reason_of(error)}): use an intact copy"
        ) from None
    try:
        with torch.random.fork_rng(devices=[]):
            model.potential()
    except (RuntimeError, TypeError, ValueError, KeyError) as error:
        raise ModelFileError(
            f"{path}: the weights do not fit the network ({reason_of(error)}): use an intact copy"
        ) from None
    return model


def first_mistake(error: ValidationError) -> str:
    """Return the location and the description of the first error in data from a file."""
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg'].lower()}"


def trained_file(path: Path) -> Path:
    """Return the trained file in a run directory, or the path itself if it is not a run directory."""
    return path / MODEL_FILE if (path / MODEL_FILE).is_file() else path


def member_models(directory: Path) -> list[Path]:
    """Return the trained files of the members of an ensemble.

    Raises:
        RunDirectoryError: The directory contains no ensemble, or the ensemble is not finished.
    """
    try:
        content = read_json_object(directory / ENSEMBLE_FILE)
        models = [directory / member["directory"] / MODEL_FILE for member in content["members"]]
    except (RunDirectoryError, KeyError, TypeError):
        raise RunDirectoryError(f"{directory} contains no finished ensemble: pass trained files instead") from None
    missing = next((model for model in models if not model.is_file()), None)
    if missing is not None:
        raise RunDirectoryError(f"{missing} is missing: finish the ensemble with resume=True")
    return models


def _check_network(path: Path, description: dict[str, Any]) -> None:
    """Raise an error if a network is not registered. A file never causes an import, because imports execute code."""
    network = description.get("network")
    name = network.get("network") if isinstance(network, dict) else None
    if isinstance(name, str) and name not in registered_networks():
        raise UnregisteredNetworkError(
            f"{path}: network {name!r} is not registered: import the module that registers it first"
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
        raise ModelFileError(
            f"{path}: the file has format version {version}, but this piwsl reads version {TRAINED_VERSION}: {todo}"
        )
    return description
