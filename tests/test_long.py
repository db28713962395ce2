from pathlib import Path

import pytest

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


def test_the_marker_is_given(request):
    """This session was collected with the hook: its other tests have no marker."""
    for item in request.session.items:
        file = item.path.relative_to(TESTS).as_posix()
        assert (item.get_closest_marker("long") is not None) == is_long(file, item.name)
