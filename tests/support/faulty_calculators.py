"""ASE calculators with the faults that quantum-chemistry programs have; imported by worker processes, too."""

import os
import time
from pathlib import Path

import numpy as np
from ase.calculators.calculator import CalculationFailed, Calculator


class Springs(Calculator):
    """E = 1/2 sum r^2. The x coordinate of the first atom says which structure it is.

    Args:
        fail: structures that raise.
        kill: structures that end their process; with `once`, only while that file does not exist.
        pause: s that each takes.
        log: file that gets a line a calculation.
    """

    implemented_properties = ("energy", "forces")
    made = 0

    def __init__(self, fail=(), kill=(), once=None, pause=0.0, log=None):
        super().__init__()
        self.faults = (fail, kill, once, pause, log)
        Springs.made += 1

    def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
        super().calculate(atoms, properties, system_changes)
        fail, kill, once, pause, log = self.faults
        index = round(atoms.positions[0, 0])
        if log:
            with open(log, "a") as stream:
                stream.write(f"{index}\n")
        if index in kill and not (once and Path(once).exists()):
            if once:
                Path(once).touch()
            os._exit(9)
        if index in fail:
            raise CalculationFailed(f"no convergence\nfor structure {index}")
        time.sleep(pause)
        self.results = {"energy": 0.5 * float(np.square(atoms.positions).sum()), "forces": -atoms.positions}


class EnergyOnly(Calculator):
    """The energy of `Springs`, without forces."""

    implemented_properties = ("energy",)

    def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.5 * float(np.square(atoms.positions).sum())}


class NotANumber(Calculator):
    """Gives an energy that is no number."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": np.nan, "forces": np.zeros((len(atoms), 3))}


class ThroughFiles(Springs):
    """Writes and reads a file of always the same name, as programs do that ASE starts."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
        path = Path(self.directory) / "energy.txt"
        assert not path.exists()
        super().calculate(atoms, properties, system_changes)
        path.write_text(repr(self.results["energy"]))
        time.sleep(0.01)
        self.results["energy"] = float(path.read_text())


def no_calculator():
    """Something else."""
    return "nothing"
