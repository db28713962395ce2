"""Dynamics within a job: what a signal interrupts is not a result; the workers of a cluster run the same replicas."""

import os
import signal
import threading

import pytest
from ase.build import molecule

from piwsl.learning.dynamics import replica_protocol, replicas_of, run_dynamics, survival_of
from piwsl.learning.settings import LearnSettings
from piwsl.md.run import MDRun
from tests.support.models_for_tests import trained_file
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


@pytest.mark.slow
def test_a_run_that_was_killed_after_its_last_replica_broke_runs_again(tmp_path, caplog):
    atoms = molecule("H2O")
    model = springs_model(tmp_path / "springs.pt", atoms)
    protocol = replica_protocol(LearnSettings(temperature=300.0), 20000.0, 0.5, 2, 5.0, 0)
    output = tmp_path / "run"
    first = survival_of(run_dynamics(atoms, model, protocol, output, "water", progress=False))
    assert first.survived == 0
    summary = MDRun.read(output).summary
    summary.finished, summary.result = None, "interrupted"  # the kill came before the last summary
    summary.write(output)
    assert survival_of(run_dynamics(atoms, model, protocol, output, "water", progress=False)).times == first.times
    assert "run again from its start" in caplog.text


@pytest.mark.cluster
def test_a_cluster_runs_the_same_replicas(tmp_path):
    distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
    atoms, model = molecule("H2O"), trained_file(tmp_path / "model.pt")
    protocol = replica_protocol(LearnSettings(temperature=300.0), 50.0, 0.02, 3, 5.0, 0)
    here = replicas_of(atoms, model, protocol, tmp_path / "here" / "run", "water", progress=False)
    with distributed.LocalCluster(1, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as cluster:
        address = cluster.scheduler_address
        there = replicas_of(atoms, model, protocol, tmp_path / "there" / "run", "water", address, progress=False)
        assert (tmp_path / "there" / "exported-3").is_dir()
    assert survival_of(there).times == survival_of(here).times
    log = (there.directory / "md.log").read_text()
    assert "1 tasks with up to 3 replicas each" in log
    for replica in ("replica-000", "replica-002"):
        one, other = ((run.directory / replica / "trajectory.extxyz").read_text() for run in (here, there))
        assert one == other
