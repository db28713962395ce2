"""Stop rules of the caller, handed to `run_protocol`."""

import json
import pickle

import numpy as np
import pytest

from piwsl.errors import ConfigError, UnphysicalError
from piwsl.md import MDProtocol, Violation, name_atoms
from piwsl.md.engines.base import Snapshot
from piwsl.md.replicas.distributed import DistributedReplicas
from piwsl.md.run import run_protocol
from piwsl.md.stop.rule import Phase
from piwsl.md.stop.rules import make_rules
from piwsl.runs.executors import LocalProcesses, Outcome


class TooLong:
    """The distance between the ends stays below a limit; counts how often it was checked."""

    name = "too-long"

    def __init__(self, structure, limit=0.0):
        self.structure, self.limit, self.checked = structure, limit, 0

    def check(self, snapshot, energies, step):
        self.checked += 1
        distance = np.linalg.norm(snapshot.positions[0] - snapshot.positions[2])
        if distance <= self.limit:
            return None
        return Violation(
            rule=self.name,
            value=np.float32(distance),
            limit=self.limit,
            unit="angstrom",
            atoms=name_atoms(self.structure, [0, 2]),
            step=step,
            message=f"step {step}: the ends are {distance:.2f} angstrom apart",
        )

    def state(self):
        return {"too-long: checked": self.checked}

    def restore(self, state):
        self.checked = int(state["too-long: checked"])


def never(structure):
    return TooLong(structure, 100.0)


def rules_of(structure, *stop_rules, replicas=1, **options):
    protocol = MDProtocol.of(**options)
    phase = Phase(structure, protocol.ensemble, 3 * len(structure), protocol.temperature.highest, None)
    return make_rules(phase, protocol.stop, stop_rules, replicas)


@pytest.mark.parametrize("given", ["class", "object"])
def test_an_own_rule_ends_a_run_like_a_built_in_one(given, ethanol, make_model, tmp_path):
    rule = TooLong if given == "class" else TooLong(ethanol)
    with pytest.raises(UnphysicalError, match=r"step \d+: the ends are \d\.\d\d angstrom apart"):
        run_protocol(ethanol, make_model(ethanol), MDProtocol.of(steps=100), tmp_path / "run", stop_rules=[rule])
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["result"] == "stopped"
    assert (summary["stop"]["rule"], summary["stop"]["step"]) == ("too-long", 20)
    assert summary["stop"]["atoms"] == [{"index": 0, "element": "C"}, {"index": 2, "element": "O"}]
    assert (tmp_path / "run/stopped.extxyz").is_file()


def test_an_own_rule_is_noted_once_and_remembers_over_a_restart(ethanol, make_model, tmp_path):
    model, options = make_model(ethanol), {"on_stop": "record", "check_interval": 10}
    counted = []

    def rule(structure):
        counted.append(never(structure))
        return counted[-1]

    first = MDProtocol.of(steps=50, **options)
    run = run_protocol(ethanol, model, first, tmp_path / "run", stop_rules=[TooLong, lambda s: renamed(rule(s))])
    assert [(violation.rule, violation.frame) for violation in run.summary.violations] == [
        ("too-long", "violation-too-long.extxyz")
    ]
    assert counted[-1].checked == 4  # not at the step of the violation
    longer = MDProtocol.of(steps=100, **options)
    again = run_protocol(
        ethanol, model, longer, tmp_path / "run", restart=True, stop_rules=[TooLong, lambda s: renamed(rule(s))]
    )
    assert again.summary.violations == run.summary.violations
    assert counted[-1].checked == 9


def renamed(rule):
    rule.name = "never"
    return rule


def test_replicas_do_not_share_a_rule(ethanol):
    given = TooLong(ethanol, 100.0)
    still = Snapshot(ethanol.positions, 0 * ethanol.positions)
    first, second = rules_of(ethanol, given, replicas=2)
    assert "too-long" in first.names
    first.check(still, None, 1)
    assert first.state() == {"too-long: checked": 1}
    assert second.state() == {"too-long: checked": 0}
    assert given.checked == 0


def test_a_violation_bears_the_name_of_its_rule(ethanol):
    """`on_stop: record` retires the rule by this name."""

    class Sloppy(TooLong):
        name = "sloppy"

        def check(self, snapshot, energies, step):
            return Violation(rule="ends", step=step, message="too long")

    (rules,) = rules_of(ethanol, Sloppy)
    violation = rules.check(Snapshot(ethanol.positions, 0 * ethanol.positions), None, 1)
    assert violation.rule == "sloppy"
    rules.retire(violation.rule)
    assert rules.check(Snapshot(ethanol.positions, 0 * ethanol.positions), None, 2) is None


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ((3,), "3 is not a stop rule: give an object with name and check"),
        ((lambda structure: structure,), "add a name and a method check"),
        ((type("Bond", (TooLong,), {"name": "bond"}),), "the name 'bond' is already in use"),
        ((TooLong, never), "the name 'too-long' is already in use"),
        ((type("Slash", (TooLong,), {"name": "a/b"}),), "the name 'a/b' is not a valid file name"),
    ],
)
def test_what_is_no_rule_is_refused_in_one_line(rules, words, ethanol):
    with pytest.raises(ConfigError) as caught:
        rules_of(ethanol, *rules)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_processes_need_rules_that_can_be_pickled(ethanol, make_model, tmp_path):
    protocol, workers = MDProtocol.of(steps=40, replicas=2), DistributedReplicas(LocalProcesses(1), 1)
    with pytest.raises(ConfigError, match="cannot be sent to other processes"):
        run_protocol(
            ethanol,
            make_model(ethanol),
            protocol,
            tmp_path / "run",
            distributed=workers,
            stop_rules=[lambda s: never(s)],
        )
    assert not (tmp_path / "run").exists()


class Pickled:
    """An executor that calls the function here, with arguments that have been through a pickle."""

    def run(self, function, tasks, waiting=None):
        for index, task in enumerate(tasks):
            function(*pickle.loads(pickle.dumps(task)))
            yield Outcome(index)


def test_workers_check_own_rules(ethanol, make_model, tmp_path):
    protocol = MDProtocol.of(steps=40, replicas=2)
    with pytest.raises(UnphysicalError, match="2 of 2 replicas"):
        run_protocol(
            ethanol,
            make_model(ethanol),
            protocol,
            tmp_path / "run",
            distributed=DistributedReplicas(Pickled(), 1),
            stop_rules=[TooLong],
        )
    for replica in ("replica-000", "replica-001"):
        assert json.loads((tmp_path / "run" / replica / "summary.json").read_text())["stop"]["rule"] == "too-long"
