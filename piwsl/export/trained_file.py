"""The trained file: tensors and one JSON text, no code.

It is the primary artifact; every other form is made from it.
"""

import json
import pickle
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from ase.data import chemical_symbols
from pydantic import ValidationError
from torch import Tensor

from piwsl._version import __version__
from piwsl.data.frames import Frame
from piwsl.errors import ElementError, ModelFileError, UnregisteredNetworkError
from piwsl.models import ModelConfig, Potential, build_potential, registered_networks
from piwsl.models.neighbor_sums.edge_list import NeighborSums
from piwsl.runs.files import atomic_path

TRAINED_FORMAT = "piwsl-trained"
TRAINED_VERSION = 1
UNITS = {"energy": "eV", "length": "angstrom", "force": "eV/angstrom"}
DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """What a trained file holds.

    Attributes:
        config: the network.
        reference_energies: eV of each element, by atomic number.
        scale: eV per unit of the network's output.
        dtype: type of the network's weights, ``float32`` or ``float64``.
        tensors: weights of the network.
        check_frames: a few real structures that exports are verified on (species, positions, cell, pbc).
        training: data hash, metrics, settings: whatever the training wants to tell.
        piwsl_version: the version that wrote the file.
    """

    config: ModelConfig
    reference_energies: dict[int, float]
    scale: float
    dtype: str
    tensors: dict[str, Tensor]
    check_frames: Sequence[Frame] = ()
    training: dict[str, Any] = field(default_factory=dict)
    piwsl_version: str = __version__

    @property
    def elements(self) -> list[int]:
        """Atomic numbers the model was made for."""
        return sorted(self.reference_energies)

    def potential(self, neighbor_sums: NeighborSums | None = None, dtype: str | None = None) -> Potential:
        """Return the eager potential with frozen weights.

        Args:
            neighbor_sums: object that sums over neighbors; None: a list of edges.
            dtype: float type of the network, ``float32`` or ``float64``; None: that of the file.
        """
        potential = build_potential(self.config, self.reference_energies, self.scale, neighbor_sums)
        potential.network.load_state_dict(self.tensors)
        potential.network.to(DTYPES[dtype or self.dtype])
        return potential.requires_grad_(False).eval()


def save_trained(model: TrainedModel, path: Path) -> None:
    """Write a trained file atomically."""
    description = {
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
    }
    frames = [
        {
            "species": torch.as_tensor(frame.species),
            "positions": torch.as_tensor(frame.positions),
            "cell": torch.as_tensor(frame.cell),
            "pbc": torch.tensor(frame.pbc),
        }
        for frame in model.check_frames
    ]
    content = {"description": json.dumps(description), "tensors": model.tensors, "check_frames": frames}
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def load_trained(path: Path) -> TrainedModel:
    """Read a trained file; nothing in it is executed.

    Raises:
        ModelFileError: the file is missing, damaged, not ours, or of another format version.
        UnregisteredNetworkError: no network has the name in the file; import the module that registers it first.
    """
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about foreign pickles, which are refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError, KeyError, AttributeError):
        # A pickle, a TorchScript archive and a truncated file all end here, unexecuted.
        raise ModelFileError(f"{path}: damaged or not a trained piwsl model (it was not opened further)") from None
    description = _description(path, content)
    _check_network(path, description)
    try:
        numbers = {int(z): float(energy) for z, energy in description["reference_energies"].items()}
        no_energy = float("nan")
        frames = [
            Frame(
                species=entry["species"].numpy(),
                positions=entry["positions"].numpy(),
                energy=no_energy,
                forces=entry["positions"].numpy() * no_energy,
                cell=entry["cell"].numpy(),
                pbc=(bool(entry["pbc"][0]), bool(entry["pbc"][1]), bool(entry["pbc"][2])),
            )
            for entry in content["check_frames"]
        ]
        return TrainedModel(
            config=ModelConfig(**description["network"]),
            reference_energies=numbers,
            scale=float(description["scale"]),
            dtype=str(description["dtype"]),
            tensors=content["tensors"],
            check_frames=frames,
            training=dict(description["training"]),
            piwsl_version=str(description["piwsl_version"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, ValidationError):
        raise ModelFileError(f"{path}: its description is incomplete or damaged") from None


def check_elements(model: TrainedModel, species: Sequence[int]) -> None:
    """Refuse a structure with an element that the model never saw.

    Raises:
        ElementError: names the elements.
    """
    unknown = sorted(set(species) - set(model.elements))
    if unknown:
        names = ", ".join(chemical_symbols[z] for z in unknown)
        known = " ".join(chemical_symbols[z] for z in model.elements)
        raise ElementError(f"the model was not trained on {names}: it knows {known}")


def _check_network(path: Path, description: dict[str, Any]) -> None:
    """Refuse a network that is not registered. A file never causes an import: importing executes code."""
    network = description.get("network")
    name = network.get("network") if isinstance(network, dict) else None
    if isinstance(name, str) and name not in registered_networks():
        raise UnregisteredNetworkError(
            f"{path}: its network {name!r} is not registered here: import the module that registers it first"
        )


def _description(path: Path, content: object) -> dict[str, Any]:
    not_ours = ModelFileError(f"{path}: not a trained piwsl model: make one with `piwsl train`")
    if not isinstance(content, dict) or not isinstance(content.get("description"), str):
        raise not_ours
    try:
        description = json.loads(content["description"])
    except json.JSONDecodeError:
        raise not_ours from None
    if not isinstance(description, dict) or description.get("format") != TRAINED_FORMAT:
        raise not_ours
    version = description.get("format_version")
    if version != TRAINED_VERSION:
        newer = isinstance(version, int) and version > TRAINED_VERSION
        todo = "update piwsl" if newer else "train again with this version"
        raise ModelFileError(f"{path}: format version {version}, this piwsl reads {TRAINED_VERSION}: {todo}")
    return description
