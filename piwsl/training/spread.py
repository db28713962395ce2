"""Use of the stored spreads of labels in training: limits and weights."""

import numpy as np

from piwsl.data.frames import FrameSet
from piwsl.data.inspect import stored_spreads
from piwsl.errors import ConfigError
from piwsl.losses.spread import EQUAL_WEIGHTS, SpreadWeights
from piwsl.training.data_config import DataConfig
from piwsl.typing import FloatArray

_SMALLEST_SCALE = 1e-9  # a scale above zero, where the members of an ensemble agree exactly


def spread_weights(data: DataConfig, train: FrameSet) -> tuple[SpreadWeights, list[str]]:
    """Return the weights of the training labels by their spread, and notes for the user.

    With ``weigh_by_spread``, the scales are the median spreads of the training frames (of a sample of a large set).

    Raises:
        ConfigError: The configuration uses spreads, but no training frame stores one.
    """
    limits = {"largest_force_spread": data.largest_force_spread, "largest_energy_spread": data.largest_energy_spread}
    asked = [key for key, value in limits.items() if value is not None]
    asked += ["weigh_by_spread"] if data.weigh_by_spread else []
    if not asked:
        return EQUAL_WEIGHTS, []
    forces, energies = stored_spreads(train)
    missing = {
        "largest_force_spread": not len(forces),
        "largest_energy_spread": not len(energies),
        "weigh_by_spread": not len(forces) and not len(energies),
    }
    for key in asked:
        if missing[key]:
            raise ConfigError(
                f"data.{key}: no training frame stores this spread: label the frames with an ensemble "
                "(method='model:FILE,FILE'), or remove the key"
            )
    notes = []
    for what, values, largest, unit in (
        ("forces on atoms", forces, data.largest_force_spread, "eV/A"),
        ("energies", energies, data.largest_energy_spread, "eV"),
    ):
        if largest is not None:
            share = float((values > largest).mean())
            notes.append(f"{share:.1%} of the {what} with a spread exceed {largest:g} {unit} and are not used")
    weights = SpreadWeights(
        data.largest_energy_spread,
        data.largest_force_spread,
        _median(energies) if data.weigh_by_spread else None,
        _median(forces) if data.weigh_by_spread else None,
    )
    if data.weigh_by_spread:
        scales = [f"{weights.force_scale:.3g} eV/A"] if weights.force_scale else []
        scales += [f"{weights.energy_scale:.3g} eV"] if weights.energy_scale else []
        notes.append(f"labels are weighted by their spread: half weight at {' and '.join(scales)}")
    return weights, notes


def _median(values: FloatArray) -> float | None:
    return max(float(np.median(values)), _SMALLEST_SCALE) if len(values) else None
