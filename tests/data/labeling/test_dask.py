"""Labeling on a real Dask cluster of two worker processes, some of which die."""

import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from piwsl.data.frames import FrameSet
from piwsl.data.labeling.calculators import reference_calculator
from piwsl.data.labeling.dynamics import SamplingPlan, sample_and_label
from piwsl.data.labeling.structures import label_frames
from piwsl.data.read import read_frames
from piwsl.errors import ConfigError, MissingDependencyError
from piwsl.runs.dask_cluster import DaskCluster
from piwsl.runs.executors import LocalProcesses
from tests.support.molecules import frame

pytestmark = pytest.mark.cluster

distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
ROOT = Path(__file__).parents[3]
SPRINGS = "tests.support.faulty_calculators:Springs"


@pytest.fixture(scope="module")
def cluster():
    import dask

    settings = {"distributed.scheduler.allowed-failures": 0, "distributed.comm.timeouts.connect": "10s"}
    with pytest.MonkeyPatch.context() as patch, dask.config.set(settings):
        patch.syspath_prepend(ROOT)  # for the workers
        with distributed.LocalCluster(2, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as running:
            yield running


def numbered(count):
    frames = [frame("H2O", seed=index) for index in range(count)]
    for index, structure in enumerate(frames):
        structure.positions[0, 0] = index
    return FrameSet(frames)


def test_the_labels_are_those_of_this_machine(cluster, tmp_path):
    frames = FrameSet([frame(name, seed=seed) for seed, name in enumerate(["H2O", "CH4", "NH3"])])
    calls = []
    where = DaskCluster(cluster.scheduler_address)
    labeled = label_frames(frames, "gfn2-xtb", tmp_path / "job", where=where, progress=lambda *a: calls.append(a))
    assert labeled.failures == {}
    assert calls[-1] == (3, 3)
    for before, after in zip(frames, read_frames(labeled.file), strict=True):
        atoms = before.atoms()
        atoms.calc = reference_calculator("gfn2-xtb")
        assert after.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-9)


def test_failures_and_workers_that_die(cluster, tmp_path):
    """A failure is a failure; what killed its worker once goes on elsewhere; what always does is given up."""
    log = tmp_path / "log"
    options = {"fail": [0], "kill": [2], "log": str(log)}
    labeled = label_frames(numbered(5), SPRINGS, tmp_path / "always", options, DaskCluster(cluster.scheduler_address))
    assert labeled.failures == {0: "no convergence for structure 0", 2: "the workers that computed it died"}
    assert [found.has_energy for found in read_frames(labeled.file)] == [False, True, False, True, True]

    options = {"kill": [1], "once": str(tmp_path / "died")}
    labeled = label_frames(numbered(4), SPRINGS, tmp_path / "once", options, DaskCluster(cluster.scheduler_address))
    assert (tmp_path / "died").exists()
    assert labeled.failures == {}


def test_trajectories_are_the_same_on_a_cluster(cluster, tmp_path):
    plan = SamplingPlan(
        trajectories=2, steps=10, equilibration_steps=0, frame_interval=5, position_interval=5, chunk_steps=5, seed=3
    )
    start = frame("H2O").atoms()
    here = sample_and_label(start, plan, tmp_path / "here", LocalProcesses(1))
    there = tmp_path / "there"
    there.mkdir()
    for name in ("plan.json", "minimized.xyz"):  # the same start to the last bit
        (there / name).write_bytes((here / name).read_bytes())
    sample_and_label(start, plan, there, DaskCluster(cluster.scheduler_address))
    with np.load(here / "frames.npz") as one, np.load(there / "frames.npz") as two:
        for key in one.files:
            assert np.array_equal(one[key], two[key]), key


def test_no_scheduler(tmp_path):
    where = DaskCluster("tcp://127.0.0.1:9", patience=0.5)
    with pytest.raises(ConfigError, match=r"no Dask scheduler at tcp://127\.0\.0\.1:9"):
        label_frames(numbered(1), SPRINGS, tmp_path / "job", where=where)


def test_no_workers_and_a_scheduler_that_goes(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    options = {"n_workers": 0, "dashboard_address": ":0", "silence_logs": 50}
    with distributed.LocalCluster(**options) as empty:
        where = DaskCluster(empty.scheduler_address, patience=0.5)
        with pytest.raises(ConfigError, match=r"no workers for 0\.5 s: start workers"):
            label_frames(numbered(1), SPRINGS, tmp_path / "job", where=where)
    cluster = distributed.LocalCluster(processes=False, threads_per_worker=1, **{**options, "n_workers": 1})
    closing = threading.Thread(target=lambda: (time.sleep(1.5), cluster.close()))
    closing.start()
    try:
        with pytest.raises(ConfigError, match="lost connection to the Dask scheduler at"):
            label_frames(
                numbered(50), SPRINGS, tmp_path / "gone", {"pause": 0.2}, DaskCluster(cluster.scheduler_address)
            )
    finally:
        closing.join()
    assert (tmp_path / "gone" / "labels.jsonl").read_text().count("\n") >= 1


def test_without_dask(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.syspath_prepend(ROOT)
    with pytest.raises(MissingDependencyError, match=r"pip install 'piwsl\[dask\]'"):
        label_frames(numbered(1), SPRINGS, tmp_path / "job", where=DaskCluster("tcp://127.0.0.1:9"))
