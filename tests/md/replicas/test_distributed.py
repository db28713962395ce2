"""Replicas on a real Dask cluster of two worker processes, some of which are killed."""

import contextlib
import json
import os
import signal
import threading
import time
from pathlib import Path

import mdtraj
import numpy as np
import psutil
import pytest
import requests

from piwsl.errors import ConfigError, RunDirectoryError, UnphysicalError
from piwsl.md.protocol import MDProtocol
from piwsl.md.replicas.distributed import DistributedReplicas
from piwsl.md.restart import state_files
from piwsl.md.run import run_protocol
from piwsl.runs.dask_cluster import DaskCluster, local_cluster

pytestmark = pytest.mark.cluster

distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
COUNT = 5
NAMES = [f"replica-{number:03d}" for number in range(COUNT)]


@pytest.fixture(scope="module")
def cluster():
    environment = variables()
    with local_cluster(2) as running:
        yield running
    assert variables() == environment  # Dask sets variables of its workers in this process, too


def variables():
    """Return the environment without the variable that pytest changes in each phase of each test."""
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


def protocol(**options) -> MDProtocol:
    short = {"steps": 300, "trajectory_interval": 20, "report_interval": 50, "state_interval": 50, "temperature": 300}
    return MDProtocol.of(**{**short, "replicas": COUNT, "seed": 5, **options})


def frames(directory: Path):
    return mdtraj.load(str(directory / "trajectory.dcd"), top=str(directory / "topology.pdb")).xyz * 10


def equal(one: Path, other: Path) -> bool:
    same = (one / "thermo.csv").read_text() == (other / "thermo.csv").read_text()
    return same and np.array_equal(frames(one), frames(other))


def workers_of(where: DaskCluster) -> dict[str, int]:
    """Process of each worker."""
    with distributed.Client(where.address, set_as_default=False, security=where.security) as client:
        return dict(client.run(os.getpid))


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_nobody_else_can_use_the_cluster_of_a_run(cluster, tmp_path):
    assert workers_of(cluster)
    address = cluster.address
    plain = address.replace("tls://", "tcp://")
    for where, security in ((plain, None), (address, distributed.Security.temporary())):
        with pytest.raises(ConfigError, match="no Dask scheduler at"):
            list(DaskCluster(where, patience=2.0, security=security).run(Path.touch, [(tmp_path / "intruder",)]))
    assert not list(tmp_path.iterdir())


def test_a_cluster_has_no_pages_and_leaves_the_usual_port_to_others(cluster):
    me = psutil.Process()
    connections = [each for process in (me, *me.children(recursive=True)) for each in process.net_connections("tcp")]
    ports = [each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN]
    assert len(ports) >= 4
    assert 8787 not in ports
    answers = []
    for port in ports:
        for page in ("health", "metrics", "info/main/workers.html", "json/counts.json"):
            with contextlib.suppress(requests.ConnectionError):  # a port that wants a certificate
                answers.append(requests.get(f"http://127.0.0.1:{port}/{page}", timeout=10).status_code)
    assert set(answers) == {404}


def test_replicas_are_those_of_one_process(cluster, ethanol, make_model, tmp_path):
    model = make_model(ethanol)
    found = run_protocol(ethanol, model, protocol(), tmp_path / "spread", distributed=DistributedReplicas(cluster, 2))
    run_protocol(ethanol, model, protocol(), tmp_path / "whole")
    assert found.completed
    assert [one.result for one in found.summary.replicas] == ["completed"] * COUNT
    for name in NAMES:
        assert equal(tmp_path / "spread" / name, tmp_path / "whole" / name)
    assert "3 tasks with up to 2 replicas" in (tmp_path / "spread" / "md.log").read_text()


def test_those_that_break_are_told_and_stay(cluster, ethanol, make_model, tmp_path):
    options = {"stop": ("temperature:1",), "steps": 100}
    with pytest.raises(UnphysicalError, match="5 of 5 replicas became unphysical"):
        run_protocol(
            ethanol,
            make_model(ethanol),
            protocol(**options),
            tmp_path / "run",
            distributed=DistributedReplicas(cluster, 2),
        )
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["result"], {one["stop"]["rule"] for one in summary["replicas"]}) == ("stopped", {"temperature"})


def test_a_killed_worker_loses_nothing(cluster, ethanol, make_model, tmp_path):
    """Its replicas go on from their last states, and all are what they are without the kill."""
    model, output = make_model(ethanol), tmp_path / "run"
    steps = 4000
    killed = []

    def kill():
        wait_for(lambda: len(state_files(output / NAMES[0])) == 2 or ((output / "summary.json").is_file() and done()))
        if not done():
            pids = workers_of(cluster)
            for pid in pids.values():
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    def done():
        return json.loads((output / "summary.json").read_text())["finished"] is not None

    thread = threading.Thread(target=kill)
    thread.start()
    found = run_protocol(ethanol, model, protocol(steps=steps), output, distributed=DistributedReplicas(cluster, 2))
    thread.join()
    assert len(killed) == 2
    assert found.completed
    restarted = [json.loads((output / name / "summary.json").read_text())["restarted_at_step"] for name in NAMES]
    assert any(restarted)
    run_protocol(ethanol, model, protocol(steps=steps), tmp_path / "whole")
    for name in NAMES:
        assert equal(output / name, tmp_path / "whole" / name)


def test_an_interrupted_run_writes_states_and_goes_on_here_or_there(cluster, ethanol, make_model, tmp_path):
    model, output = make_model(ethanol), tmp_path / "run"

    def interrupt():
        wait_for(lambda: state_files(output / NAMES[0]) and state_files(output / NAMES[3]))
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    cut = run_protocol(
        ethanol, model, protocol(steps=10**7, state_interval=10**6), output, distributed=DistributedReplicas(cluster, 2)
    )
    thread.join()
    assert cut.summary.result == "interrupted"
    steps = {one.directory: one.steps_done for one in cut.summary.replicas}
    assert 0 < steps[NAMES[0]] < 10**6
    assert steps[NAMES[0]] == steps[NAMES[1]]  # of one task
    assert not (output / ".stop").exists()
    total = max(steps.values()) + 100
    if len(set(steps.values())) > 1:
        with pytest.raises(RunDirectoryError, match="continue on a Dask cluster"):
            run_protocol(ethanol, model, protocol(steps=total, state_interval=10**6), output, restart=True)
    longer = protocol(steps=total, state_interval=10**6)
    again = run_protocol(ethanol, model, longer, output, distributed=DistributedReplicas(cluster, 2), restart=True)
    assert again.completed
    run_protocol(ethanol, model, longer, tmp_path / "whole")
    for name in NAMES:
        assert equal(output / name, tmp_path / "whole" / name)
