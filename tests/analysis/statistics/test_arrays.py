"""Statistics as named arrays, and back."""

from dataclasses import dataclass

import numpy as np
import pytest

from piwsl.analysis.statistics.arrays import flatten, restore
from piwsl.typing import FloatArray


@dataclass(frozen=True, eq=False)
class Inner:
    values: FloatArray
    unit: str


@dataclass(frozen=True, eq=False)
class Outer:
    count: int
    by_name: dict[str, Inner]
    absent: Inner | None
    present: Inner | None


OUTER = Outer(
    3, {"C-H": Inner(np.arange(4.0), "angstrom"), "a.b": Inner(np.zeros((2, 2)), "")}, None, Inner(np.ones(1), "K")
)


def saved(value, path):
    np.savez_compressed(path, allow_pickle=False, **flatten(value))
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def test_a_file_gives_back_what_was_saved(tmp_path):
    restored = restore(Outer, saved(OUTER, tmp_path / "a.npz"))
    assert (restored.count, restored.absent, restored.present.unit) == (3, None, "K")
    assert list(restored.by_name) == ["C-H", "a.b"]
    np.testing.assert_array_equal(restored.by_name["C-H"].values, np.arange(4.0))
    assert restored.by_name["a.b"].values.shape == (2, 2)


def test_dictionaries_at_the_top(tmp_path):
    assert restore(dict[str, Inner], saved({}, tmp_path / "a.npz")) == {}
    restored = restore(dict[str, Inner], saved(OUTER.by_name, tmp_path / "b.npz"))
    assert restored["a.b"].unit == ""


def test_what_is_missing_is_named():
    arrays = flatten(OUTER)
    del arrays["by_name.C-H.values"]
    with pytest.raises(KeyError, match=r"by_name\.C-H\.values"):
        restore(Outer, arrays)
