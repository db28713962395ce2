import contextlib
from importlib.metadata import PackageNotFoundError

import pytest
import torch

from piwsl.cli.doctor import line as line_of
from piwsl.cli.main import run
from piwsl.interfaces.doctor import check_library, examine
from piwsl.interfaces.openmm.probe import FORCE_PROBES, Probe


@pytest.mark.torchforce
def test_the_doctor_tries_and_tells(capsys):
    run_doctor()
    out = capsys.readouterr().out
    lines = {line[13:39].strip(): line for line in out.splitlines()}
    assert lines["TorchForce on Reference"].startswith("ok")
    assert lines["PythonForce on Reference"].startswith("ok")
    assert lines["platform Reference"].startswith("ok")
    assert {"piwsl", "python", "torch", "openmm", "openmm-torch", "openmm-ml", "torch-sim", "CPU"} <= set(lines)
    assert "\x1b" not in out


def test_what_does_not_work_gets_an_install_line():
    probes = {**FORCE_PROBES, "TorchForce": lambda platform: Probe(False, "openmm-torch is not installed")}
    out = [line_of(check) for check in examine(missing, force_probes=probes)]
    line = next(line for line in out if "TorchForce on Reference" in line)
    assert line.startswith("--")
    assert line.endswith("openmm-torch is not installed  ->  pip install 'piwsl[torchforce-cpu]'")
    label = "tblite                     not installed; for labeling  ->  pip install 'piwsl[label]'"
    assert any(line.endswith(label) for line in out)


@pytest.mark.parametrize("python", [(3, 11, 9), (3, 12, 0)])
def test_torch_sim_is_offered_where_it_can_be_installed(python):
    check = check_library("torch-sim", "torch-sim", "batches", missing, python)
    if python < (3, 12):
        assert (check.detail, check.install) == ("not installed; for batches; needs Python 3.12 or newer", "")
    else:
        assert (check.detail, check.install) == ("not installed; for batches", "pip install 'piwsl[torch-sim]'")


def test_a_probe_that_blows_up_does_not_end_the_report():
    def explode(platform: str) -> Probe:
        raise RuntimeError("no such symbol\n" + 100 * "and a long trace ")

    checks = {check.name: check for check in examine(probe=explode)}
    assert (checks["platform Reference"].works, checks["platform Reference"].detail) == (False, "no such symbol")


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")
def test_a_machine_without_gpu_is_told_so():
    checks = {check.name: check for check in examine()}
    assert not checks["GPU"].works
    assert "torch cannot use a GPU" in checks["GPU"].detail


def missing(name: str) -> str:
    raise PackageNotFoundError(name)


def run_doctor() -> None:
    with contextlib.suppress(SystemExit):
        run(["doctor"])
