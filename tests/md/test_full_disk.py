"""A run on a disk that takes no more: one line, and a run that can be continued."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from piwsl.analysis.run_directory import read_run
from piwsl.errors import RunDirectoryError
from piwsl.md.protocol import MDProtocol
from piwsl.md.run import run_protocol
from piwsl.runs.provenance import log_to_file
from tests.support.limits import limited_files

SHORT = {"steps": 600, "trajectory_interval": 1, "report_interval": 100, "state_interval": 100}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dcd", "xtc", "extxyz", "hdf5"])
def test_a_run_is_continued_when_there_is_room(kind, ethanol, make_model, tmp_path):
    model, protocol = make_model(ethanol), MDProtocol.of(trajectory_format=kind, **SHORT)
    run_protocol(ethanol, model, protocol, tmp_path / "whole")
    size = (tmp_path / "whole" / f"trajectory.{kind}").stat().st_size
    with limited_files(size * 3 // 4), pytest.raises(RunDirectoryError) as caught:
        run_protocol(ethanol, model, protocol, tmp_path / "cut")
    assert str(caught.value).startswith(f"{tmp_path}/cut/trajectory.{kind}: cannot be written (File too large): make")
    summary = json.loads((tmp_path / "cut" / "summary.json").read_text())
    assert summary["result"] == "interrupted"
    assert 0 < summary["steps_done"] < 600
    assert len(read_run(tmp_path / "cut").frames) >= summary["steps_done"]
    run_protocol(ethanol, model, protocol, tmp_path / "cut", restart=True)
    whole, cut = (read_run(tmp_path / name) for name in ("whole", "cut"))
    assert np.array_equal(whole.frames.all(), cut.frames.all())
    assert np.array_equal(whole.thermo.total, cut.thermo.total)


def test_a_state_that_does_not_fit_leaves_the_last_one(ethanol, make_model, tmp_path):
    model, protocol = make_model(ethanol), MDProtocol.of(**SHORT | {"trajectory_interval": 1000})
    run_protocol(ethanol, model, MDProtocol.of(**protocol.model_dump() | {"steps": 200}), tmp_path / "run")
    states = sorted((tmp_path / "run").glob("state-*"))
    smallest = min(state.stat().st_size for state in states)
    with limited_files(smallest - 100), pytest.raises(RunDirectoryError, match=r"/state-000000300\.npz: cannot be wri"):
        run_protocol(ethanol, model, protocol, tmp_path / "run", restart=True)
    assert sorted((tmp_path / "run").glob("*state-*")) == states  # and no scratch file
    assert run_protocol(ethanol, model, protocol, tmp_path / "run", restart=True).completed


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_log_that_cannot_be_written_is_given_up(capfd, caplog):
    logger = logging.getLogger("piwsl.md")
    with log_to_file(logger, Path("/dev/full")):
        logger.info("one")
        logger.info("two")
    said = [record.message for record in caplog.records]
    assert said == ["/dev/full: cannot be written (No space left on device): this log file ends here", "one", "two"]
    assert "Traceback" not in capfd.readouterr().err
