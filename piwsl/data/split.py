"""Random split of frames into training, validation and test sets."""

from dataclasses import dataclass, field

import numpy as np

from piwsl.errors import DataError
from piwsl.typing import IntArray

MOST_VALIDATION = 2000  # frames; a limit of the default, because training evaluates the validation set many times


@dataclass(frozen=True)
class Split:
    """Indices of the frames in disjoint training, validation and test sets.

    Attributes:
        train: Indices of the training frames.
        validation: Indices of the validation frames.
        test: Indices of the test frames.
        levels: Indices of the training frames in the source of each further level of theory, by the name of the level.
    """

    train: list[int]
    validation: list[int]
    test: list[int]
    levels: dict[str, list[int]] = field(default_factory=dict)


def random_split(count: int, train: int | None, validation: int | None, test: int | None, seed: int) -> Split:
    """Split frames at random. Equal arguments give equal splits.

    The test frames are drawn first, so they are the same for every training size.

    Args:
        count: Number of frames.
        train: Number of training frames; by default all remaining frames.
        validation: Number of validation frames; by default the number of training frames, at least 100, but at most a
            tenth of all frames and at most 2000.
        test: Number of test frames; by default 0.
        seed: Seed of the random order.

    Raises:
        DataError: The sizes exceed the number of frames, or a part is empty.
    """
    order = np.random.default_rng(np.random.SeedSequence([seed, 1])).permutation(count)
    test = test or 0
    if validation is None:
        validation = max(1, min(max(train or count, 100), count // 10, MOST_VALIDATION))
    if train is None:
        train = count - test - validation
    if train < 1 or validation < 1 or train + validation + test > count:
        raise DataError(
            f"cannot take {train} training, {validation} validation and {test} test frames from {count}: "
            "choose smaller sizes"
        )
    parts = np.split(order, [test, test + validation, test + validation + train])
    return Split(train=_sorted(parts[2]), validation=_sorted(parts[1]), test=_sorted(parts[0]))


def _sorted(indices: IntArray) -> list[int]:
    return sorted(int(index) for index in indices)
