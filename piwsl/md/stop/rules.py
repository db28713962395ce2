"""The stop rules of a run: built-in rules, which a protocol can name, and rules supplied by the caller."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeAlias

from ase import Atoms

from piwsl.errors import ConfigError, reason_of
from piwsl.md.stop.close_pairs import ContactRule, ExtrapolationRule
from piwsl.md.stop.energies import CommitteeRule, EnergyDriftRule, TemperatureRule
from piwsl.md.stop.geometry import BondRule, CellRule, FiniteRule, IsolatedRule
from piwsl.md.stop.rule import BuiltInRule, Phase, RuleWithMemory, RuleWithStart, StopRule, Violation

if TYPE_CHECKING:
    from piwsl.md.engines.base import Snapshot
    from piwsl.trajectories.thermo import Energies

# All built-in rules in the order of their checks.
RULES: tuple[type[BuiltInRule], ...] = (
    FiniteRule,
    CellRule,
    BondRule,
    ContactRule,
    TemperatureRule,
    IsolatedRule,
    EnergyDriftRule,
    CommitteeRule,
    ExtrapolationRule,
)
_BY_NAME = {rule.name: rule for rule in RULES}
_OPTIONAL = [rule.name for rule in RULES if not rule.required]

# Rule supplied by the caller: an object, which is copied for each replica, or a callable that creates a rule from the
# start structure.
OwnRule: TypeAlias = "StopRule | Callable[[Atoms], StopRule]"

_RETIRED = "retired: "  # prefix of keys in restart states


def rules_table() -> list[tuple[str, str, str, str]]:
    """Return a row for each built-in rule: name, default limit with unit, default activation, and condition."""
    return [(rule.name, rule.default_limit(), rule.active, rule.help) for rule in RULES]


def rules_help() -> str:
    """Return the table of built-in rules as text."""
    rows = [("rule", "limit", "active", "violated when"), *rules_table()]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in rows
    )


def parse_rules(specs: Sequence[str]) -> dict[str, tuple[float, ...] | None]:
    """Parse specifications such as ``bond:0.5``, ``temperature:100-900``, ``committee`` and ``contact:off``.

    ``none`` switches off all optional rules.

    Returns:
        The limits of each named rule: empty for the default, None if the rule is switched off.

    Raises:
        ConfigError: A name is unknown or given twice, or a limit is not a positive number.
    """
    if list(specs) == ["none"]:
        return dict.fromkeys(_OPTIONAL)
    named: dict[str, tuple[float, ...] | None] = {}
    for spec in specs:
        if spec == "none":
            raise ConfigError(
                "stop rule none switches off all rules except nan: use none alone, or NAME:off for single rules"
            )
        name, colon, text = spec.partition(":")
        if name not in _BY_NAME:
            near = get_close_matches(name, _BY_NAME, n=1)
            advice = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(_BY_NAME)}"
            raise ConfigError(f"unknown stop rule {name!r}: {advice}")
        if name in named:
            raise ConfigError(f"stop rule {name} is given twice: give it once")
        rule = _BY_NAME[name]
        if text != "off":
            named[name] = rule.parse(text) if colon else ()
        elif rule.required:
            raise ConfigError(
                f"stop rule {name} cannot be switched off, as no run can continue after it: omit {name}:off"
            )
        else:
            named[name] = None
    return named


def check_rules(specs: Sequence[str], ensemble: str) -> None:
    """Check that specifications can be parsed and that the named rules can be used in an ensemble.

    Raises:
        ConfigError: A specification is invalid (see `parse_rules`), or a rule is incompatible with the ensemble.
    """
    for name, limits in parse_rules(specs).items():
        reason = _BY_NAME[name].reason_against(ensemble)
        if limits is not None and reason is not None:
            raise ConfigError(f"stop rule {name}: {reason}")


class StopRules:
    """Stop rules of one replica, in the order of their checks."""

    def __init__(self, rules: Sequence[StopRule]) -> None:
        self._rules = list(rules)
        self._retired: list[str] = []

    @property
    def names(self) -> list[str]:
        """Names of the active rules."""
        return [rule.name for rule in self._rules]

    def check(self, snapshot: Snapshot, energies: Energies | None, step: int) -> Violation | None:
        """Return the first violation, or None; rules that need energies are skipped if ``energies`` is None."""
        for rule in self._rules:
            violation = rule.check(snapshot, energies, step)
            if violation is not None:
                return violation if violation.rule == rule.name else replace(violation, rule=rule.name)
        return None

    @property
    def need_start(self) -> bool:
        """Whether a rule still needs the initial energies."""
        return any(rule.needs_start for rule in self._rules if isinstance(rule, RuleWithStart))

    def begin(self, energies: Energies) -> None:
        """Pass the initial energies to the rules that still need them."""
        for rule in self._rules:
            if isinstance(rule, RuleWithStart) and rule.needs_start:
                rule.begin(energies)

    def retire(self, name: str) -> None:
        """Stop checking a rule."""
        self._retired.append(name)
        self._rules = [rule for rule in self._rules if rule.name != name]

    def state(self) -> dict[str, float]:
        """Return the state of the rules, to be stored in a restart state."""
        state = {_RETIRED + name: 1.0 for name in self._retired}
        for rule in self._rules:
            if isinstance(rule, RuleWithMemory):
                state |= rule.state()
        return state

    def restore(self, state: dict[str, float]) -> None:
        """Restore the rules from a restart state."""
        for rule in self._rules:
            if isinstance(rule, RuleWithMemory):
                rule.restore(state)
        for key in state:
            if key.startswith(_RETIRED):
                self.retire(key.removeprefix(_RETIRED))


def make_rules(
    phase: Phase, specs: Sequence[str] = (), own_rules: Sequence[OwnRule] = (), replicas: int = 1
) -> list[StopRules]:
    """Create the rules for a phase of a run, separately for each replica.

    Args:
        phase: Phase of the run.
        specs: Specifications such as ``bond:0.5``.
        own_rules: Rules supplied by the caller.
        replicas: Number of replicas.

    Raises:
        ConfigError: A rule does not fit the run.
    """
    named = parse_rules(specs)
    factories = []
    for rule in RULES:
        limits = named.get(rule.name, () if rule.is_active(phase) else None)
        # A named rule may be incompatible with the ensemble of equilibration.
        if limits is not None and rule.reason_against(phase.ensemble) is None:
            factories.append(rule.factory(phase, limits))
    rules = []
    for _ in range(replicas):
        own = [_make_own(source, phase.structure) for source in own_rules]
        made = [*(factory() for factory in factories), *own]
        _check_names([rule.name for rule in own])
        rules.append(StopRules(made))
    return rules


def check_picklable(own_rules: Sequence[OwnRule]) -> None:
    """Check that rules supplied by the caller can be sent to other processes.

    Raises:
        ConfigError: A rule cannot be pickled.
    """
    for source in own_rules:
        try:
            pickle.dumps(source)
        except Exception as error:  # an object of the caller may raise any exception
            raise ConfigError(
                f"stop_rules: {source!r} cannot be sent to other processes ({reason_of(error)}): "
                "define it at the top level of a module"
            ) from None


def _make_own(source: OwnRule, structure: Atoms) -> StopRule:
    """Return the rule for one replica: a copy of an object, or the result of a class or function."""
    rule: Any = source
    if isinstance(source, type) or not hasattr(source, "check"):
        if not callable(source):
            raise ConfigError(
                f"stop_rules: {source!r} is not a stop rule: give an object with name and check, or a callable that "
                "creates one"
            )
        rule = source(structure)
    else:
        rule = deepcopy(source)
    if not isinstance(getattr(rule, "name", None), str) or not callable(getattr(rule, "check", None)):
        raise ConfigError(f"stop_rules: {rule!r} is not a stop rule: add a name and a method check")
    checked: StopRule = rule
    return checked


def _check_names(names: Sequence[str]) -> None:
    """Raise ConfigError if a name is already in use, or contains characters that file names should not contain."""
    for place, name in enumerate(names):
        if name in _BY_NAME or name in names[:place]:
            raise ConfigError(f"stop_rules: the name {name!r} is already in use: choose another name")
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise ConfigError(f"stop_rules: the name {name!r} is not a valid file name: use letters, digits and -")
