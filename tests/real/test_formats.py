"""Published cells and molecules through every format that holds them."""

import pytest

from piwsl.data.inspect import inspect_frames
from piwsl.data.read import read_frames
from piwsl.data.write import WRITERS, write_frames
from piwsl.units import parse_units
from tests.support.frame_sets import assert_same_frames

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def titania(real_data):
    return read_frames(real_data / "tio2.extxyz.gz").select(range(0, 5400, 50))


def _facts(lines):
    """The lines of a report without those about the names of labels, which each format has its own of."""
    return [line for line in lines if not line.startswith(("names", "note"))]


@pytest.mark.parametrize("ending", [ending for ending in WRITERS if ending not in (".npz", ".hdf5", ".xyz")])
def test_titania(titania, tmp_path, ending):
    write_frames(titania, tmp_path / f"tio2{ending}")
    again = read_frames(tmp_path / f"tio2{ending}")
    assert_same_frames(again, titania, 5.1e-9 if ending == ".extxyz" else 0.0)
    one, other = (_facts(inspect_frames(frames).lines()) for frames in (titania, again))
    assert one == other


def test_aspirin(real_data, tmp_path):
    frames = read_frames(real_data / "rmd17_aspirin.npz", parse_units("kcal/mol")).select(range(0, 2050, 20))
    for ending in (".npz", ".h5"):
        write_frames(frames, tmp_path / f"aspirin{ending}")
        assert_same_frames(read_frames(tmp_path / f"aspirin{ending}"), frames)
