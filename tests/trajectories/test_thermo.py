from pathlib import Path

import numpy as np
import pytest

from piwsl.errors import DataError, RunDirectoryError
from piwsl.trajectories.thermo import CELL_COLUMNS, COLUMNS, Energies, Thermo, ThermoWriter, read_latest, read_thermo
from tests.support.limits import limited_files


def test_thermo_is_cut_and_continued(tmp_path: Path):
    path = tmp_path / "thermo.csv"
    writer = ThermoWriter(path, 0.5)
    for step in (100, 200, 300, 400):
        writer.write(step, Energies(-1.0, 0.25), 300.0)
    writer.close()
    with path.open("a") as file:
        file.write("500,0.25,-1.0")  # a kill in the middle of a row
    writer = ThermoWriter(path, 0.5, keep_until=200)
    writer.write(300, Energies(-2.0, 0.5), 310.0)
    writer.close()
    lines = path.read_text().splitlines()
    assert lines[0] == ",".join(COLUMNS)
    assert lines[1] == "100,0.05,-1.00000000,0.25000000,-0.75000000,300.000"
    assert [row[0] for row in read_thermo(path)] == ["100", "200", "300"]


def test_a_cell_has_volume_and_density(tmp_path: Path):
    """Water: 55.5 mol in a liter are 0.998 kg."""
    path = tmp_path / "thermo.csv"
    writer = ThermoWriter(path, 0.5, mass=18.015)
    side = (1e27 / (55.4 * 6.02214076e23)) ** (1 / 3)  # angstrom, of one molecule
    writer.write(100, Energies(-1.0, 0.25), 300.0, np.diag([side] * 3))
    writer.close()
    header, row = (line.split(",") for line in path.read_text().splitlines())
    assert tuple(header) == COLUMNS + CELL_COLUMNS
    assert float(row[6]) == pytest.approx(side**3, rel=1e-6)
    assert float(row[7]) == pytest.approx(0.99803, abs=1e-5)
    assert len(read_thermo(path)) == 1


def test_a_full_disk_is_one_line(tmp_path: Path):
    path = tmp_path / "thermo.csv"
    writer = ThermoWriter(path, 0.5)
    for step in range(1, 10_000):
        writer.write(step, Energies(-1.0, 0.25), 300.0)
    with limited_files(20_000), pytest.raises(RunDirectoryError, match=r"thermo\.csv: cannot be written \(File too l"):
        writer.flush()
    writer.close()
    assert path.read_text().endswith("\n")  # whole rows
    rows = read_thermo(path)
    assert [int(row[0]) for row in rows] == list(range(1, len(rows) + 1))
    assert 20_000 - 60 < path.stat().st_size <= 20_000


@pytest.mark.parametrize("content", [b"step,a\n1,2\n\x94\xff,3\n", b"step\n" + b"1" * 200_000 + b"\n"])
def test_a_damaged_file_is_one_line(content: bytes, tmp_path: Path):
    (tmp_path / "thermo.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"thermo\.csv: damaged \(.*\): restore or remove the file"):
        read_thermo(tmp_path / "thermo.csv")
    with pytest.raises(DataError, match=r"thermo\.csv: (damaged \(.*\): restore or remove the file|has no column)"):
        Thermo.read(tmp_path / "thermo.csv")
    (tmp_path / "thermo.csv").write_text("step,a\n\u00b2,3\n4,5\n", encoding="utf-8")
    assert read_thermo(tmp_path / "thermo.csv") == [["4", "5"]]


def test_damaged_rows_are_not_among_the_latest(tmp_path: Path):
    path = tmp_path / "thermo.csv"
    path.write_bytes(b"step,a\n1,2\n2,\x94\xff\n3,nan\n1e999,1\n4,5,6\n7,8\n9,1")
    assert read_latest(path) == {"step": [1.0, 7.0], "a": [2.0, 8.0]}
    path.write_bytes(b"\xff,a\n1,2\n")
    assert read_latest(path) == {"\ufffd": [1.0], "a": [2.0]}


def test_a_row_that_is_no_text_is_one_line(tmp_path: Path):
    path = tmp_path / "thermo.csv"
    head = b"step,time [ps],potential [eV],kinetic [eV],total [eV],temperature [K]\n"
    path.write_bytes(head + b"1,1,1,1,1,1\n2,\xff,1,1,1,1\n3,1,1,1,1,1\n")
    with pytest.raises(DataError, match=r"thermo\.csv: damaged"):
        Thermo.read(path)
