"""Features of atoms: the input of the readout of a network, and their statistics for whole structures."""

import numpy as np
from torch import Tensor, nn

from piwsl.errors import ConfigError
from piwsl.models.potential import Potential
from piwsl.typing import FloatArray, IntArray

# Names of the module that maps the features of atoms to energies, in the networks of piwsl.
_READOUTS = ("readout", "energy")


class AtomFeatures:
    """Record the features of the atoms whenever a potential is evaluated, within a ``with`` block.

    Args:
        potential: Potential whose network has a readout.

    Raises:
        ConfigError: The network has no module with the name ``readout``.
    """

    def __init__(self, potential: Potential) -> None:
        modules = dict(potential.network.named_children())
        self._readout: nn.Module | None = next((modules[name] for name in _READOUTS if name in modules), None)
        if self._readout is None:
            raise ConfigError(
                "the network has no module named readout, whose input are the features of the atoms: name it so"
            )
        self._recorded: Tensor | None = None

    def __enter__(self) -> "AtomFeatures":
        assert self._readout is not None
        self._handle = self._readout.register_forward_pre_hook(self._record)
        return self

    def __exit__(self, *error: object) -> None:
        self._handle.remove()

    def _record(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._recorded = inputs[-1].detach()

    def take(self) -> FloatArray:
        """Return the features (N, F) of the latest evaluation."""
        assert self._recorded is not None, "the potential was not evaluated"
        return self._recorded.flatten(1).cpu().double().numpy()


def structure_features(species: IntArray, features: FloatArray, elements: list[int]) -> FloatArray:
    """Return features of a structure that do not depend on the order of its atoms.

    Args:
        species: Atomic numbers (n,).
        features: Features of the atoms (n, F).
        elements: Atomic numbers of all structures that are compared, in a fixed order.

    Returns:
        Mean and standard deviation of the features over the atoms of each element (2 F times the number of elements);
        zeros for an element that does not occur.
    """
    parts = []
    for element in elements:
        own = features[species == element]
        parts += [own.mean(0), own.std(0)] if len(own) else [np.zeros(features.shape[1])] * 2
    return np.concatenate(parts)


def farthest_points(candidates: FloatArray, known: FloatArray, count: int) -> list[int]:
    """Choose points one after another, each as far as possible from the known and the chosen points.

    Args:
        candidates: Points (c, d).
        known: Points (k, d) that are taken already; may be empty.
        count: Number of points to choose, at most c.

    Returns:
        Indices of the chosen candidates, in the order of choice. Candidates that equal a known point are not chosen.
    """
    distances = np.full(len(candidates), np.inf)
    for point in known:
        distances = np.minimum(distances, np.square(candidates - point).sum(1))
    if not len(known) and len(candidates):  # begin with the point in the middle
        distances = -np.square(candidates - candidates.mean(0)).sum(1)
    chosen: list[int] = []
    while len(chosen) < min(count, len(candidates)):
        best = int(np.argmax(distances))
        if (chosen or len(known)) and not distances[best] > 0:
            break
        from_best = np.square(candidates - candidates[best]).sum(1)
        distances = from_best if not chosen and not len(known) else np.minimum(distances, from_best)
        chosen.append(best)
    return chosen
