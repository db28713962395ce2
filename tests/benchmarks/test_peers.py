"""Comparison with other programs: what a failure leaves, the figures of a row, the options; without other programs."""

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
# Answers as step_server.py does; each step takes the given seconds.
CONTESTANT = """
import json, sys
print(json.dumps({"threads": 1, "parameters": 7}), flush=True)
for line in sys.stdin:
    steps = json.loads(line)["steps"]
    times = {"seconds": steps * SECONDS, "cpu_seconds": steps * SECONDS / 2}
    print(json.dumps(times | {"loss": LOSS, "peak_mb": 100.0, "start_mb": 50.0}), flush=True)
"""


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import peers

    return peers


def contestant(peers, name, seconds=0.001, loss="1.0", code=None):
    code = code or CONTESTANT.replace("SECONDS", str(seconds)).replace("LOSS", loss)
    return peers.Contestant(name, "", [sys.executable, "-c", code], {})


def test_a_contestant_that_fails_is_named_and_the_others_go_on(peers):
    reason = json.dumps(json.dumps({"error": "ImportError: no such program"}))
    contestants = [
        contestant(peers, "slow", 0.003),
        contestant(peers, "lacks", code=f"print({reason})"),
        contestant(peers, "dies", code="raise SystemExit(3)"),
        contestant(peers, "diverges", loss="float('nan')"),
        contestant(peers, "piwsl", 0.001),
    ]
    failures = {}
    times, facts = peers.race_without_failures(contestants, failures.__setitem__, 1, 2, 0.01)
    assert failures == {
        "lacks": "ImportError: no such program",
        "dies": "ended with status 3",
        "diverges": "the loss is nan",
    }
    assert set(times) == {"slow", "piwsl"}
    assert facts["slow"]["parameters"] == 7
    rows = peers.rows_of(times, {"slow": 7}, "wall")
    assert rows["slow"]["ratio"] == pytest.approx(3.0)
    assert rows["slow"]["ms"] == pytest.approx(3.0)
    assert rows["slow"]["cpu_ms"] == pytest.approx(1.5)
    assert rows["piwsl"]["weights"] is None


def test_without_a_counterpart_there_is_no_ratio(peers, capsys):
    times, _ = peers.race_without_failures([contestant(peers, "alone")], lambda *_: None, 1, 2, 0.01)
    rows = peers.rows_of(times, {}, "cpu")
    assert rows["alone"]["ratio"] is None
    peers.show("ANI", rows)
    assert "alone" in capsys.readouterr().out


def test_all_contestants_fail(peers):
    failing = contestant(peers, "dies", code="raise SystemExit(3)")
    assert peers.race_without_failures([failing], lambda *_: None, 1, 1, 0.01) == ({}, {})


def test_options(peers, capsys):
    options = peers.parse(["--peers", "nequip", "torchani", "--what", "train", "--threads", "2"])
    assert options.peers == ["nequip", "torchani"]
    assert options.what == ["train"]
    assert options.threads == 2
    assert set(peers.parse([]).peers) == {comparison.peer for comparison in peers.COMPARISONS}
    with pytest.raises(SystemExit):
        peers.parse(["--peers", "unknown"])
    assert "invalid choice" in capsys.readouterr().err


def test_each_program_has_requirements_and_each_counterpart_a_valid_model(peers):
    from piwsl.models import ModelConfig

    for package in peers.PACKAGES.values():
        lines = (BENCHMARKS / f"{package.partition('==')[0]}-requirements.txt").read_text().splitlines()
        assert all(line.startswith("#") or "==" in line for line in lines)
    for comparison in peers.COMPARISONS:
        if comparison.ours is not None:
            assert ModelConfig.model_validate(comparison.ours).network == comparison.ours["network"]
