import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from piwsl.md.engines.base import Energies
from piwsl.md.output.thermo import CELL_COLUMNS, COLUMNS, ThermoWriter, read_thermo


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
    """Water: 55.5 mol in a litre are 0.998 kg."""
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


LIMITED = """
import resource, signal, sys
from pathlib import Path
from piwsl.errors import PiwslError
from piwsl.md.engines.base import Energies
from piwsl.md.output.thermo import ThermoWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    writer = ThermoWriter(Path(sys.argv[1]), 0.5)
    for step in range(1, 10000):
        writer.write(step, Energies(-1.0, 0.25), 300.0)
    writer.flush()
except PiwslError as error:
    print(error)
"""


def test_a_full_disk_is_one_line(tmp_path: Path):
    path = tmp_path / "thermo.csv"
    said = subprocess.run([sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True)
    assert said.stdout.startswith(f"{path}: cannot be written (File too large)")
    assert len(read_thermo(path)) > 100
