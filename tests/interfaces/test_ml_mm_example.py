"""The example of a molecule by piwsl in water by a force field, run as its reader would."""

import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from shutil import copyfile

import pytest
from openmm.app import PDBFile

from piwsl import PiwslCalculator
from piwsl.units import KJ_PER_MOL

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "ml_mm.py"


@pytest.fixture
def example():
    spec = spec_from_file_location("ml_mm", EXAMPLE)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_aspirin_in_water_runs():
    result = subprocess.run(
        [sys.executable, str(EXAMPLE), "--steps", "40"], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert re.match(r"aspirin and 4\d\d waters on the platform \w+", lines[0])
    rows = [[float(value) for value in line.split()] for line in lines[4:-1]]
    assert [row[0] for row in rows] == [round(0.001 * i, 3) for i in range(1, 21)]
    for _, potential, non_bonded, temperature, density, bonds in rows:
        assert -10 < potential < 200  # kJ/mol above the relaxed molecule; 71 is its share at 300 K
        assert -30_000 < non_bonded < -15_000  # about 41 kJ/mol a water
        assert 100 < temperature < 500
        assert 0.8 < density < 1.1
        assert bonds < 0.3  # the molecule is whole
    assert re.fullmatch(r"second half: \d+\.\d K, \d\.\d{4} g/ml; \d+\.\d ms a step", lines[-1])


def test_the_script_of_the_page_runs(example, tmp_path):
    page = (ROOT / "docs/export.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    script = next(block for block in blocks if "createMixedSystem" in block)
    example.BOX = 1.9  # quicker
    modeller, _, _ = example.solvate()
    with (tmp_path / "solvated.pdb").open("w") as file:
        PDBFile.writeFile(modeller.topology, modeller.positions, file)
    (tmp_path / "aspirin.xml").write_text(example.parameters_of_aspirin())
    copyfile(example.RESOURCES / "aspirin_openmm.pt", tmp_path / "aspirin.pt")
    script += """
print([len(molecule) for molecule in simulation.context.getMolecules()][:2])
print(simulation.context.getState(energy=True, groups={1}).getPotentialEnergy()._value)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    molecules, energy = result.stdout.splitlines()
    assert molecules == "[21, 3]"
    _, relaxed = example.aspirin()
    relaxed.calc = PiwslCalculator(tmp_path / "aspirin.pt")
    assert -10 < float(energy) - relaxed.get_potential_energy() / KJ_PER_MOL < 200
