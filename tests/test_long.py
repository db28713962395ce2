from pathlib import Path

import pytest

from tests.conftest import pytest_collection_modifyitems
from tests.long import LONG, is_long

TESTS = Path(__file__).parent


@pytest.mark.parametrize("file", LONG)
def test_every_entry_names_a_test(file):
    text = (TESTS / file).read_text()
    for entry in LONG[file]:
        assert f"def {entry.partition('[')[0]}(" in text, entry


def test_entries_with_and_without_parameters():
    file = "physics/test_ensembles.py"
    assert is_long(file, "test_both_barostats_keep_the_same_volume")
    assert is_long(file, "test_the_kinetic_energy_is_canonical[fixed1-ase-nvt-csvr]")
    assert not is_long(file, "test_the_kinetic_energy_is_canonical[fixed0-ase-nvt-csvr]")
    assert not is_long(file, "test_both_barostats")
    assert not is_long("physics/test_replicas.py", "test_both_barostats_keep_the_same_volume")


class Item:
    """What the hook sees of a test."""

    def __init__(self, file, name):
        self.path, self.name, self.markers = TESTS / file, name, []

    def add_marker(self, marker):
        self.markers.append(marker.name)


def test_the_hook_gives_the_marker():
    file = "physics/test_ensembles.py"
    items = [Item(file, "test_both_barostats_keep_the_same_volume"), Item(file, "test_time_runs_backwards[ase]")]
    pytest_collection_modifyitems(items)
    assert [item.markers for item in items] == [["long"], []]
