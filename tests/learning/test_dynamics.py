"""Dynamics within a job: what a signal interrupts is not a result."""

import os
import signal
import threading

import pytest
from ase.build import molecule

from piwsl.learning.dynamics import replica_protocol, run_dynamics, survival_of
from piwsl.learning.settings import LearnSettings
from piwsl.md.run import MDRun
from tests.support.springs import springs_model


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_an_interrupted_run_is_not_a_survival_and_goes_on(tmp_path, number):
    atoms = molecule("H2O")
    model = springs_model(tmp_path / "springs.pt", atoms)
    protocol = replica_protocol(LearnSettings(temperature=300.0), 300.0, 8.0, 2, 20.0, 0)
    output = tmp_path / "run"

    def interrupt():
        while not any(file.read_text().count("\n") > 3 for file in output.glob("replica-*/thermo.csv")):
            if ended.wait(0.01):
                return
        os.kill(os.getpid(), number)

    ended = threading.Event()
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run_dynamics(atoms, model, protocol, output, "water", progress=False)
    finally:
        ended.set()
        thread.join()
    assert MDRun.read(output).result == "interrupted"
    survival = survival_of(run_dynamics(atoms, model, protocol, output, "water", progress=False))
    assert (survival.survived, survival.picoseconds) == (2, 8.0)
