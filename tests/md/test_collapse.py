"""Cells that collapse and engines that fail end a run with a sentence, and never without an end."""

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read

from piwsl.errors import ConfigError, DataError, EngineError, RunDirectoryError, UnphysicalError
from piwsl.md.engines.ase import DYNAMICS
from piwsl.md.engines.openmm import _reduced_box
from piwsl.md.protocol import MDProtocol
from piwsl.md.run import MDRun, run_md
from piwsl.md.run_directory import MD_RUN
from piwsl.md.stop.start import check_start
from piwsl.runs.directory import RunDirectory
from tests.support.argon import argon_model


@pytest.fixture(scope="module")
def argon(tmp_path_factory):
    return argon_model(tmp_path_factory.mktemp("argon") / "argon.pt")


@pytest.fixture
def crystal():
    atoms = bulk("Ar", "fcc", a=5.4, cubic=True)
    return atoms.repeat(2)


class Collapse:
    """Stands for a potential without repulsion: the cell shrinks by a tenth of its edges at every step."""

    def __init__(self, atoms, *arguments):
        self._atoms = atoms
        self.dynamics = self

    def run(self, steps):
        for _ in range(steps):
            self._atoms.set_cell(0.9 * self._atoms.cell.array, scale_atoms=True)
            self._atoms.get_forces()

    def set_temperature(self, temperature):
        pass

    def extended(self):
        return {}


def collapsing(monkeypatch):
    # No potential of the tests is attractive at all distances, and no option selects other dynamics.
    monkeypatch.setitem(DYNAMICS, "npt", Collapse)


@pytest.mark.parametrize("interval", [2, 1000])
def test_a_cell_that_collapses_is_a_violation_however_seldom_rules_are_checked(
    interval, argon, crystal, monkeypatch, tmp_path
):
    collapsing(monkeypatch)
    options = {"engine": "ase", "ensemble": "npt", "temperature": 30, "steps": 1000, "progress": False}
    intervals = dict.fromkeys(("check_interval", "trajectory_interval", "report_interval", "state_interval"), interval)
    with pytest.raises(UnphysicalError, match=r"the cell volume is .* angstrom\^3, and was"):
        run_md(crystal, argon, output=tmp_path / "run", **options, **intervals)
    run = MDRun.read(tmp_path / "run")
    assert run.summary.stop is not None
    assert run.summary.stop.rule == "cell"
    assert read(tmp_path / "run" / "stopped.extxyz").get_volume() < crystal.get_volume() / 2


def test_without_the_rule_the_engine_says_why_it_cannot_continue(argon, crystal, monkeypatch, tmp_path):
    collapsing(monkeypatch)
    with pytest.raises(EngineError, match=r"ASE failed: .*(is too small for 32 atoms|is flat)"):
        run_md(
            crystal, argon, output=tmp_path / "run", engine="ase", ensemble="npt", temperature=30, steps=1000,
            stop=["cell:off", "contact:off", "bond:off"], progress=False,
        )  # fmt: skip


def test_left_handed_cells_and_advice_that_helps(crystal):
    crystal.set_cell(crystal.cell.array[[1, 0, 2]])
    crystal.rotate(20, "z", rotate_cell=True)
    with pytest.raises(EngineError, match="needs right-handed cell vectors") as refused:
        _reduced_box(crystal)
    distances = np.sort(crystal.get_all_distances(mic=True), axis=None)
    code = str(refused.value).partition("in ASE: ")[2].partition("), or choose")[0]
    exec(code, {"atoms": crystal})
    _reduced_box(crystal)
    assert np.sort(crystal.get_all_distances(mic=True), axis=None) == pytest.approx(distances, abs=1e-6)
    assert crystal.cell.handedness > 0


@pytest.mark.parametrize(
    "options",
    [
        {"thermostat_time": np.inf},
        {"thermostat_time": 1e-300},
        {"thermostat_time": np.nan},
        {"barostat_time": np.inf},
        {"timestep": 1e-300},
        {"temperature": 1e300},
        {"temperature": "300:inf"},
        {"steps": 10**30},
        {"equilibration": 10**30},
        {"trajectory_interval": 10**30},
        {"friction": np.nan},
        {"pressure": np.inf},
        {"hydrogen_mass": np.nan},
    ],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        MDProtocol.of(**options)


def test_a_restart_is_advised_only_where_there_is_a_state(ethanol, make_model, tmp_path):
    model = make_model(ethanol)
    run_md(ethanol, model, output=tmp_path / "run", steps=20, progress=False)
    with pytest.raises(RunDirectoryError, match="continue it with restart=True"):
        RunDirectory(tmp_path / "run", MD_RUN).check_free()
    for path in (tmp_path / "run").glob("state-*.npz"):
        path.unlink()
    with pytest.raises(RunDirectoryError, match="already holds a molecular dynamics run: replace it with force=True"):
        RunDirectory(tmp_path / "run", MD_RUN).check_free()


def test_energies_beyond_measure_are_refused(ethanol):
    with pytest.raises(DataError, match=r"an energy of 1e\+300 eV is beyond 1e\+09"):
        check_start(ethanol, 1e300, np.zeros((9, 3)))
