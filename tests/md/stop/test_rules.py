import json

import mdtraj
import numpy as np
import pytest
from ase.build import bulk, molecule

from piwsl.data.systems import named_system
from piwsl.errors import ConfigError, DataError
from piwsl.export.evaluation import Evaluation
from piwsl.export.exporter import Exporter
from piwsl.md.engines.base import Snapshot, kinetic_energy
from piwsl.md.protocol import MDProtocol
from piwsl.md.restart import newest_states
from piwsl.md.run import run_protocol
from piwsl.md.stop.energies import CommitteeRule, TemperatureRule
from piwsl.md.stop.rule import Phase
from piwsl.md.stop.rules import RULES, make_rules, parse_rules
from piwsl.md.stop.start import check_start
from piwsl.md.structure import thermal_velocities
from piwsl.trajectories.thermo import Energies
from tests.support.models_for_tests import trained_file


def rules_of(structure, model=None, **options):
    protocol = MDProtocol.of(**options)
    phase = Phase(structure, protocol.ensemble, 3 * len(structure), protocol.temperature.highest, model)
    return make_rules(phase, protocol.stop)[0]


def test_what_is_asked_by_default(ethanol):
    assert rules_of(ethanol).names == ["nan", "bond", "contact", "temperature", "isolated"]
    assert rules_of(ethanol, ensemble="nve").names == [
        "nan", "bond", "contact", "temperature", "isolated", "energy-drift",
    ]  # fmt: skip
    assert "isolated" not in rules_of(bulk("Cu")).names
    pair = molecule("H2O") + molecule("H2O")
    pair.positions[3:] += [3.0, 0, 0]
    assert "isolated" not in rules_of(pair).names
    assert "isolated" in rules_of(pair, stop=["isolated"]).names


@pytest.mark.parametrize(
    ("specs", "expected"),
    [
        (["bond:0.3", "contact:off"], {"bond": (0.3,), "contact": None}),
        (["committee"], {"committee": ()}),
        (["temperature:100-900.5"], {"temperature": (100.0, 900.5)}),
        (["none"], {rule.name: None for rule in RULES if rule.name != "nan"}),
        ([], {}),
    ],
)
def test_rules_are_read(specs, expected):
    assert parse_rules(specs) == expected


@pytest.mark.parametrize(
    ("specs", "words"),
    [
        (["bound:0.3"], "unknown stop rule 'bound': did you mean 'bond'?"),
        (["xyz"], "choose one of nan, cell"),
        (["bond:0.3", "bond:off"], "stop rule bond is given twice"),
        (["bond:x"], "stop rule bond:x: give a limit above 0 such as bond:0.5, or bond:off"),
        (["bond:-1"], "give a limit above 0"),
        (["bond:0"], "give a limit above 0"),
        (["temperature:900-100"], "temperature:100-900"),
        (["nan:off"], "cannot be switched off"),
        (["none", "bond:1"], "stop rule none switches off all rules except nan: use none alone"),
        (["bond:1-2"], "stop rule bond:1-2: give a limit above 0"),
        (["nan:1"], "stop rule nan has no limit"),
    ],
)
def test_what_is_wrong_is_one_line(specs, words):
    with pytest.raises(ConfigError) as caught:
        parse_rules(specs)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_temperature_bounds(ethanol):
    hot = Snapshot(ethanol.positions, thermal_velocities(ethanol, 6000, np.random.default_rng(0)))
    violation = TemperatureRule(ethanol, 27, 0, 3000).check(hot, None, 9)
    assert violation is not None
    assert "is above 3000 K; most energy in atom" in violation.message
    cold = TemperatureRule(ethanol, 27, 10, 3000).check(Snapshot(ethanol.positions, 0 * ethanol.positions), None, 9)
    assert cold is not None
    assert "temperature 0 K is below 10 K" in cold.message
    assert rules_of(ethanol, temperature="300:900", stop=["bond:off"]).check(hot, None, 1) is None  # ten times 900


def test_a_drift_of_the_energy_is_seen_and_remembered(ethanol):
    still = Snapshot(ethanol.positions, 0 * ethanol.positions)
    rules = rules_of(ethanol, ensemble="nve", stop=["energy-drift:0.01"])
    assert rules.need_start
    rules.begin(Energies(-100.0, 1.0))
    assert not rules.need_start
    rules.begin(Energies(-50.0, 1.0))  # what is there stays
    assert rules.check(still, Energies(-99.95, 1.03), 200) is None  # 0.0089 eV/atom
    violation = rules.check(still, Energies(-99.95, 1.05), 300)
    assert violation is not None
    assert (violation.rule, violation.limit, violation.step) == ("energy-drift", 0.01, 300)
    assert violation.value == pytest.approx(0.1 / 9)
    again = rules_of(ethanol, ensemble="nve", stop=["energy-drift:0.01"])
    again.restore(rules.state())
    assert again.check(still, Energies(-99.95, 1.05), 300) == violation
    assert (rules_of(ethanol).state(), rules_of(ethanol).need_start) == ({}, False)


@pytest.mark.parametrize("engine", ["openmm", "ase"])
def test_a_run_compares_with_the_energy_of_its_first_step(engine, ethanol, make_model, tmp_path):
    options = {"engine": engine, "ensemble": "nve", "steps": 20, "report_interval": 5, "check_interval": 10}
    run = run_protocol(ethanol, make_model(ethanol), MDProtocol.of(**options), tmp_path / "run")
    assert run.completed
    state = newest_states({0: tmp_path / "run"})[0][0]
    (kept,) = state.rules.values()
    rng = np.random.default_rng(np.random.SeedSequence([0, 0]))
    kinetic = kinetic_energy(ethanol.get_masses(), thermal_velocities(ethanol, 500, rng))
    assert kept == pytest.approx(kinetic, rel=0.01)  # the springs are at rest in the start structure
    limit = {"stop": ["energy-drift:1e-9"], "on_stop": "record"}
    noted = run_protocol(ethanol, make_model(ethanol), MDProtocol.of(**options, **limit), tmp_path / "tight")
    # At every report, also between two checks; the time step makes the energy fluctuate.
    assert [(one.rule, one.step) for one in noted.summary.violations] == [("energy-drift", 5)]


def test_drift_is_for_constant_energy():
    with pytest.raises(ConfigError, match="stop rule energy-drift: energy is not constant in nvt-langevin"):
        MDProtocol.of(stop=["energy-drift:0.1"])
    assert MDProtocol.of(stop=["energy-drift:off"]).stop == ("energy-drift:off",)


def test_an_energy_that_is_no_number_is_seen(ethanol):
    still = Snapshot(ethanol.positions, 0 * ethanol.positions)
    violation = rules_of(ethanol).check(still, Energies(float("nan"), 1.0), 100)
    assert (violation.rule, violation.message) == ("nan", "step 100: the energy is not a finite number")


@pytest.mark.slow
def test_members_that_differ_stop_a_run(ethanol, tmp_path):
    members = [trained_file(tmp_path / f"{seed}.pt", channels=8, layers=1, seed=seed) for seed in range(2)]
    Exporter(members).general(tmp_path / "both.pt")
    still = Snapshot(ethanol.positions, 0 * ethanol.positions)
    rule = next(
        rule
        for rule in rules_of(ethanol, tmp_path / "both.pt", stop=["committee:1e-6"])._rules
        if isinstance(rule, CommitteeRule)
    )
    violation = rule.check(still, Energies(0, 0), 50)
    assert violation is not None
    assert violation.message.startswith("step 50: members of the ensemble differ by ")
    rule.limit = 1000.0
    assert rule.check(still, Energies(0, 0), 50) is None
    lost = CommitteeRule(ethanol, lambda *_: Evaluation(0.0, np.zeros((9, 3)), None, np.full((9, 3), np.nan)), 0.3)
    violation = lost.check(still, Energies(0, 0), 50)
    assert violation.value is None
    json.dumps(violation.as_dict(), allow_nan=False)
    Exporter(members[:1]).general(tmp_path / "one.pt")
    with pytest.raises(ConfigError, match="is a single model"):
        run_protocol(ethanol, tmp_path / "one.pt", MDProtocol.of(stop=["committee"], steps=10), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_retired_rule_is_not_asked(ethanol):
    rules = rules_of(ethanol)
    snapshot = Snapshot(ethanol.positions * 1.5, 0 * ethanol.positions)
    assert rules.check(snapshot, None, 1).rule == "bond"
    rules.retire("bond")
    assert "bond" not in rules.names
    assert rules.check(snapshot, None, 1) is None
    continued = rules_of(ethanol)
    continued.restore(json.loads(json.dumps(rules.state())))
    assert continued.names == rules.names
    assert continued.state() == rules.state()


def test_what_was_noted_is_known_after_a_restart(ethanol, make_model, tmp_path):
    model = make_model(ethanol)
    options = {"stop": ("bond:0.02",), "on_stop": "record", "temperature": 600, "state_interval": 50}
    first = run_protocol(ethanol, model, MDProtocol.of(**options, steps=100), tmp_path / "run")
    assert [one.rule for one in first.summary.violations] == ["bond"]
    whole = run_protocol(ethanol, model, MDProtocol.of(**options, steps=200), tmp_path / "run", restart=True)
    assert whole.summary.violations == first.summary.violations


def test_copies_do_not_share_what_they_remember(ethanol):
    first, second = (rules_of(ethanol, ensemble="nve") for _ in range(2))
    first.begin(Energies(-100.0, 1.0))
    first.retire("bond")
    assert second.need_start
    assert "bond" in second.names


def test_ordinary_dynamics_violates_nothing():
    """5 000 frames of aspirin by the reference method at 500 K, with its temperature in the positions alone."""
    aspirin = named_system("aspirin")
    frames = mdtraj.load(str(aspirin.reference_trajectory), top=str(aspirin.reference_topology)).xyz * 10.0
    rules = rules_of(aspirin.structure)
    velocities = thermal_velocities(aspirin.structure, 500, np.random.default_rng(0))
    assert len(frames) >= 5000
    found = [rules.check(Snapshot(frame.astype(float), velocities), None, 1) for frame in frames[:5000]]
    assert set(found) == {None}


def test_the_start_is_looked_at(ethanol):
    forces = np.zeros((9, 3))
    assert check_start(ethanol, 0.0, forces) is None
    forces[2, 0] = 20
    warning = check_start(ethanol, 0.0, forces)
    assert warning is not None
    assert "force of 20 eV/angstrom on atom O2, 0.97 angstrom from H3: the run may heat up" in warning
    forces[4, 0] = -200
    with pytest.raises(DataError, match=r"200 eV/angstrom on atom H4, 1\.\d\d angstrom from C1"):
        check_start(ethanol, 0.0, forces)
    forces[1, 1] = np.nan
    with pytest.raises(DataError, match="force on atom C1 is not a finite number"):
        check_start(ethanol, 0.0, forces)
    with pytest.raises(DataError, match="energy is not a finite number"):
        check_start(ethanol, float("inf"), np.zeros((9, 3)))
