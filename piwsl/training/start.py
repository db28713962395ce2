"""Initial weights of a training run: random weights, or the weights of a trained file."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols
from pydantic import ValidationError
from torch import Tensor

from piwsl.errors import ConfigError, ElementError
from piwsl.export.licenses import foundation_lines, label_origins
from piwsl.export.trained_file import DTYPES, TrainedModel, load_trained
from piwsl.models import ModelConfig, Potential, build_potential
from piwsl.models.build import build_prior
from piwsl.runs.files import sha256
from piwsl.training.config import TrainingConfig
from piwsl.training.data import absolute_source
from piwsl.training.frames import TrainingFrames
from piwsl.training.initial_energies import LEAST_SQUARES, energy_words, fitted, network_scale, refit
from piwsl.training.start_heads import HeadStart, by_symbol, of_level, with_heads
from piwsl.training.trainable import choose_weights

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class StartingPoint:
    """Potential at the start of training, and a record of how it was initialized.

    Attributes:
        potential: Potential with initial weights. Frozen weights do not require gradients.
        loaded: Names of weights loaded from the trained file.
        missing: Names of weights that the file does not contain. They are initialized randomly.
        unexpected: Names of weights in the file that the network does not have.
        wrong_shape: Names of weights with another shape in the file. They are initialized randomly.
        frozen: Names of weights that are not trained.
        low_rank: Names of weights to which training adds a low-rank change.
        notes: Further remarks, one per line.
        energy_sources: Source of the reference energy of each element, by chemical symbol.
        heads: Start of the head of each further level.
        origin: Record of the start in the trained file of this run. None for random weights without frozen weights.
    """

    potential: Potential
    loaded: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    wrong_shape: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    low_rank: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    energy_sources: Mapping[str, str] = field(default_factory=dict)
    heads: tuple[HeadStart, ...] = ()
    origin: dict[str, Any] | None = None

    def energy_line(self) -> str:
        """Return the reference energies, grouped by their source, as a line for the log."""
        return energy_words(self.potential.reference_energies, self.energy_sources)

    def log(self) -> None:
        """Write `lines` to the log."""
        for line in self.lines():
            LOGGER.info(line)

    def lines(self) -> list[str]:
        """Return the notes and the lists of weights as text. The list is empty for a start from random weights."""
        lists = (
            ("loaded", self.loaded),
            ("initialized, not in the file", self.missing),
            ("initialized, other shape in the file", self.wrong_shape),
            ("ignored, not in the network", self.unexpected),
            ("frozen", self.frozen),
            ("trained by a low-rank change", self.low_rank),
        )
        weights = (f"{title} ({len(names)}): {_summed_up(names)}" for title, names in lists if names)
        return [*self.notes, *weights, *(line for head in self.heads for line in head.lines)]


_FEW = 4  # largest number of names that are listed individually


def _summed_up(names: tuple[str, ...]) -> str:
    """Return the names of a few weights, or the modules of many weights with the number of weights in each."""
    if len(names) <= _FEW:
        return ", ".join(names)
    counts = Counter(".".join(name.split(".")[:2]) if name.count(".") > 1 else name.split(".")[0] for name in names)
    if len(counts) > 2 * _FEW:
        counts = Counter(name.split(".")[0] for name in names)
    return ", ".join(f"{module} ({count})" if count > 1 else module for module, count in counts.items())


def with_network_of_start(config: TrainingConfig) -> TrainingConfig:
    """Return the configuration with `model` keys at their defaults replaced by the values in ``start.init_from``.

    Explicitly set ``model.forces``, ``model.zbl`` and ``model.walls`` take precedence over the file, even at their
    default values. Thus a potential with direct forces can be fine-tuned as a conservative one.

    Raises:
        ModelFileError: The trained file cannot be read.
    """
    path = config.start.init_from
    if path is None:
        return config
    replay = config.start.replay
    if isinstance(replay, str):
        replay = absolute_source(replay)
    start = config.start.model_copy(update={"init_from": path.resolve(), "replay": replay})
    model = _network_of_start(start_file(path)[0].config, config.model)
    return config.model_copy(update={"model": model, "start": start})


def start_file(path: Path) -> tuple[TrainedModel, str]:
    """Return the content of a trained file and its hash. The last file is cached."""
    path = path.resolve()
    if not path.is_file():
        return load_trained(path), ""  # raises an error that describes the problem
    state = path.stat()
    return _read_once(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1)
def _read_once(path: Path, modified: int, size: int) -> tuple[TrainedModel, str]:
    return load_trained(path), sha256(path)


def _network_of_start(own: ModelConfig, here: ModelConfig) -> ModelConfig:
    defaults = ModelConfig(network=here.network).model_dump() | {"network": ModelConfig().network}
    kept = {key: value for key, value in here.model_dump().items() if value != defaults[key]}
    kept |= {key: getattr(here, key) for key in ("forces", "zbl", "walls") if key in here.model_fields_set}
    if here.walls == "auto":
        kept.pop("walls", None)
    values = own.model_dump()
    if kept.get("network", own.network) != own.network:  # other networks have other options
        values = {key: values[key] for key in ("cutoff", "forces")}
    try:
        return ModelConfig(**{**values, **kept})
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"start.init_from: model.{first['loc'][0]}: {first['msg']}") from None


def starting_potential(
    config: TrainingConfig, frames: TrainingFrames, replay_elements: Iterable[int] = ()
) -> StartingPoint:
    """Build the initial potential of a run, for the elements of its training, validation and replay frames.

    With random weights, the reference energies are fitted to the training labels, and the scale is the RMS force. With
    a trained file, weights and scale are taken from the file. The reference energies are kept, or refitted so that the
    mean error at the start is zero.

    Raises:
        ModelFileError: The trained file cannot be read.
        ConfigError: No weight of the file fits the network, or ``start.freeze`` or ``start.lora_targets`` match no
            weight, or no weight is left to train.
        ElementError: With ``reference_energies: keep``, the file does not contain an element of the frames.
    """
    elements = sorted({*frames.main.elements, *frames.validation.elements, *replay_elements})
    file = None
    if config.start.init_from is None:
        prior = build_prior(config.model, sorted({*elements, *frames.train.elements}))
        energies = fitted(frames.main, elements, frames.atom_energies, prior)
        potential = build_potential(config.model, energies, network_scale(frames, prior))
        potential.network.to(DTYPES[config.weights_dtype])
        sources = {z: frames.energy_sources.get(z, LEAST_SQUARES) for z in elements}
        point = StartingPoint(potential, energy_sources=by_symbol(sources))
    else:
        file, _ = start_file(config.start.init_from)
        point = _from_file(config, frames, elements, of_level(file, frames.main_level))
    if frames.levels:
        several, heads = with_heads(point.potential, config, frames, file)
        point = replace(point, potential=several, heads=heads)
    untrained = (*point.missing, *(text.split()[0] for text in point.wrong_shape))
    weights = choose_weights(point.potential, config.start, untrained)
    origin = _origin(config)
    if origin is not None and file is not None and file.levels:
        origin["heads"] = {head.name: head.origin for head in point.heads}
        origin["heads"] |= {frames.main_level: of_level(file, frames.main_level).levels[0]}
    return replace(point, frozen=weights.frozen, low_rank=weights.low_rank, origin=origin)


def _origin(config: TrainingConfig) -> dict[str, Any] | None:
    start = config.start
    if start.init_from is None:
        return {"freeze": list(start.freeze)} if start.freeze else None
    file, digest = start_file(start.init_from)
    origin: dict[str, Any] = {
        "init_from": start.init_from.name,
        "init_from_sha256": digest,
        "reference_energies": start.reference_energies,
        "method": start.training_method,
        "freeze": list(start.freeze),
    }
    if start.layer_decay != 1.0:
        origin["layer_decay"] = start.layer_decay
    if start.replay is not None:
        origin |= {"replay": start.replay, "replay_share": start.replay_share}
    if start.training_method == "lora":
        origin |= {"lora_rank": start.lora_rank, "lora_scale": start.lora_scale, "lora_targets": [*start.lora_targets]}
    # The license of a foundation model holds for everything that is made from it.
    labels = label_origins(file.training)
    origin |= {"labels_from": labels} if labels else {}
    return origin | {"foundation": file.training["foundation"]} if "foundation" in file.training else origin


def _from_file(
    config: TrainingConfig, frames: TrainingFrames, elements: list[int], file: TrainedModel
) -> StartingPoint:
    path = config.start.init_from
    assert path is not None
    differences = _network_differences(file.config, config.model)
    head = f", head {file.levels[0]}" if file.levels else ""
    notes = [f"starting from {path}{head}: {_network_words(file.config)}", *foundation_lines(file.training)]
    if differences:
        notes.append(f"the network differs from the file: {'; '.join(differences)}")
    known, new = file.reference_energies, sorted(set(elements) - set(file.elements))
    keep = config.start.reference_energies == "keep"
    given = config.data.reference_energies is not None
    if given and keep:
        raise ConfigError("start.reference_energies: keep contradicts data.reference_energies: remove one of them")
    if new and keep:
        raise ElementError(
            f"{path} was not trained on {_symbols(new)}, so it contains no reference energy: set "
            "start.reference_energies: refit"
        )
    if new and config.start.training_method == "lora":
        raise ElementError(f"{path} was not trained on {_symbols(new)}: start.method: lora keeps their embedding fixed")
    if new and any(prefix.split(".")[0] == "embedding" for prefix in config.start.freeze):
        raise ElementError(f"{path} was not trained on {_symbols(new)}: remove embedding from start.freeze")
    if new:
        notes.append(f"new elements with untrained embedding: {_symbols(new)}")
    energies = known if keep else {z: known.get(z, 0.0) for z in elements}
    potential = build_potential(config.model, energies, file.scale)
    loaded = _load(potential, file, config.model, path.name, differences)
    potential.network.to(DTYPES[config.weights_dtype])
    if keep:
        notes.append("reference energies: kept")
        sources = dict.fromkeys(known, f"kept from {path.name}")
    else:
        dropped = sorted(set(known) - set(elements))
        if dropped:
            notes.append(f"elements removed from the model: {_symbols(dropped)} (no new frame determines their energy)")
        if given:
            for number in elements:
                potential.reference_energies[number] = frames.atom_energies[number]
            sources = {number: frames.energy_sources[number] for number in elements}
            notes.append("reference energies: those of data.reference_energies, without a refit")
        else:
            notes.append(refit(potential, potential.reference_energies, potential.elements, frames.main, config))
            sources = dict.fromkeys(elements, f"refitted from {path.name}")
    return replace(loaded, notes=tuple(notes), energy_sources=by_symbol(sources))


def _load(
    potential: Potential, file: TrainedModel, model: ModelConfig, name: str, differences: list[str]
) -> StartingPoint:
    """Load the weights with the same name and shape. Raise an error if there is no common weight matrix."""
    here, there = potential.network.state_dict(), file.tensors
    same = {key: there[key] for key in here if key in there and here[key].shape == there[key].shape}
    if file.config.network != model.network or not any(value.ndim > 1 for value in same.values()):
        raise ConfigError(
            f"start.init_from: no weights of {name} fit the network of the configuration ({'; '.join(differences)}): "
            "remove these keys to use the network of the file"
        )
    potential.network.to(DTYPES[file.dtype]).load_state_dict(same, strict=False)
    return StartingPoint(
        potential,
        loaded=tuple(same),
        missing=tuple(key for key in here if key not in there),
        unexpected=tuple(key for key in there if key not in here),
        wrong_shape=tuple(
            f"{key} {_shape(there[key])} to {_shape(here[key])}" for key in here if key in there and key not in same
        ),
    )


def _network_differences(file: ModelConfig, here: ModelConfig) -> list[str]:
    own, chosen = file.shown(), here.shown()
    return [
        f"model.{key} is {own.get(key, 'absent')} in the file, {chosen.get(key, 'absent')} here"
        for key in {**own, **chosen}
        if own.get(key) != chosen.get(key)
    ]


def _network_words(model: ModelConfig) -> str:
    return ", ".join(f"{key} {value}" for key, value in model.shown().items())


def _symbols(numbers: list[int]) -> str:
    return ", ".join(chemical_symbols[number] for number in numbers)


def _shape(tensor: Tensor) -> str:
    return "x".join(str(size) for size in tensor.shape)
