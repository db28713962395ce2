"""The stop rules of a run: the list of all rules, those that a protocol names, and those of the caller."""

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
from piwsl.md.stop.energies import CommitteeRule, EnergyDriftRule, TemperatureRule
from piwsl.md.stop.geometry import BondRule, CellRule, ContactRule, ExtrapolationRule, FiniteRule, IsolatedRule
from piwsl.md.stop.rule import BuiltInRule, Phase, RuleWithMemory, RuleWithStart, StopRule, Violation

if TYPE_CHECKING:
    from piwsl.md.engines.base import Snapshot
    from piwsl.trajectories.thermo import Energies

# In the order in which they are checked.
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

# A rule of the caller: an object, of which each replica gets a copy, or what makes one from the start structure.
OwnRule: TypeAlias = "StopRule | Callable[[Atoms], StopRule]"

_RETIRED = "retired: "  # keys of restart states


def rules_table() -> list[tuple[str, str, str, str]]:
    """Return a row of each rule: name, default limit and unit, when it is active, what violates it."""
    return [(rule.name, rule.default_limit(), rule.active, rule.help) for rule in RULES]


def rules_help() -> str:
    """Return the table of all rules as text."""
    rows = [("rule", "limit", "active", "violated when"), *rules_table()]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in rows
    )


def parse_rules(specs: Sequence[str]) -> dict[str, tuple[float, ...] | None]:
    """Parse specifications such as ``bond:0.5``, ``temperature:100-900``, ``committee`` and ``contact:off``.

    ``none`` switches off all rules that are not required.

    Returns:
        The limits of each rule that is named: empty for the default, None where the rule is switched off.

    Raises:
        ConfigError: a name is unknown or given twice, or a limit is not a positive number.
    """
    if list(specs) == ["none"]:
        return dict.fromkeys(_OPTIONAL)
    named: dict[str, tuple[float, ...] | None] = {}
    for spec in specs:
        if spec == "none":
            raise ConfigError("stop rule none switches off all others but nan: give it alone, or NAME:off for each")
        name, colon, text = spec.partition(":")
        if name not in _BY_NAME:
            near = get_close_matches(name, _BY_NAME, n=1)
            advice = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(_BY_NAME)}"
            raise ConfigError(f"unknown stop rule {name!r}: {advice}")
        if name in named:
            raise ConfigError(f"stop rule {name} is given twice")
        rule = _BY_NAME[name]
        if text != "off":
            named[name] = rule.parse(text) if colon else ()
        elif rule.required:
            raise ConfigError(f"stop rule {name} cannot be switched off: no run can continue after it")
        else:
            named[name] = None
    return named


def check_rules(specs: Sequence[str], ensemble: str) -> None:
    """Refuse specifications that cannot be parsed, and rules that cannot work in an ensemble.

    Raises:
        ConfigError: see `parse_rules`; or a rule does not go with the ensemble.
    """
    for name, limits in parse_rules(specs).items():
        reason = _BY_NAME[name].reason_against(ensemble)
        if limits is not None and reason is not None:
            raise ConfigError(f"stop rule {name}: {reason}")


class StopRules:
    """The rules of one replica, in the order in which they are checked."""

    def __init__(self, rules: Sequence[StopRule]) -> None:
        self._rules = list(rules)
        self._retired: list[str] = []

    @property
    def names(self) -> list[str]:
        """Names of the rules that are checked."""
        return [rule.name for rule in self._rules]

    def check(self, snapshot: Snapshot, energies: Energies | None, step: int) -> Violation | None:
        """Return the first violation; rules that need energies are skipped where there are none."""
        for rule in self._rules:
            violation = rule.check(snapshot, energies, step)
            if violation is not None:
                return violation if violation.rule == rule.name else replace(violation, rule=rule.name)
        return None

    @property
    def need_start(self) -> bool:
        """Whether a rule lacks the energies of the start, with which it compares."""
        return any(rule.needs_start for rule in self._rules if isinstance(rule, RuleWithStart))

    def begin(self, energies: Energies) -> None:
        """Give the energies of the start to the rules that lack them."""
        for rule in self._rules:
            if isinstance(rule, RuleWithStart) and rule.needs_start:
                rule.begin(energies)

    def retire(self, name: str) -> None:
        """Stop checking a rule."""
        self._retired.append(name)
        self._rules = [rule for rule in self._rules if rule.name != name]

    def state(self) -> dict[str, float]:
        """Return what the rules remember, for a restart state."""
        state = {_RETIRED + name: 1.0 for name in self._retired}
        for rule in self._rules:
            if isinstance(rule, RuleWithMemory):
                state |= rule.state()
        return state

    def restore(self, state: dict[str, float]) -> None:
        """Take over what the rules remembered."""
        for rule in self._rules:
            if isinstance(rule, RuleWithMemory):
                rule.restore(state)
        for key in state:
            if key.startswith(_RETIRED):
                self.retire(key.removeprefix(_RETIRED))


def make_rules(
    phase: Phase, specs: Sequence[str] = (), own_rules: Sequence[OwnRule] = (), replicas: int = 1
) -> list[StopRules]:
    """Make the rules of a phase of a run, for each of its replicas.

    Args:
        phase: what the rules need of the run.
        specs: specifications such as ``bond:0.5``.
        own_rules: rules of the caller.
        replicas: how many replicas there are.

    Raises:
        ConfigError: a rule does not fit the run.
    """
    named = parse_rules(specs)
    factories = []
    for rule in RULES:
        limits = named.get(rule.name, () if rule.is_active(phase) else None)
        # A rule of production may be named that cannot work during equilibration.
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
    """Refuse rules of the caller that cannot be sent to other processes.

    Raises:
        ConfigError: a rule cannot be pickled.
    """
    for source in own_rules:
        try:
            pickle.dumps(source)
        except Exception as error:  # whatever an object of the caller raises
            raise ConfigError(
                f"stop_rules: {source!r} cannot be sent to other processes ({reason_of(error)}): "
                "define it at the top level of a module"
            ) from None


def _make_own(source: OwnRule, structure: Atoms) -> StopRule:
    """Return the rule of one replica: a copy of an object, or what a class or function makes."""
    rule: Any = source
    if isinstance(source, type) or not hasattr(source, "check"):
        if not callable(source):
            raise ConfigError(
                f"stop_rules: {source!r} is no stop rule: give an object with name and check, or what makes one"
            )
        rule = source(structure)
    else:
        rule = deepcopy(source)
    if not isinstance(getattr(rule, "name", None), str) or not callable(getattr(rule, "check", None)):
        raise ConfigError(f"stop_rules: {rule!r} is no stop rule: it needs a name and a method check")
    checked: StopRule = rule
    return checked


def _check_names(names: Sequence[str]) -> None:
    """Refuse names of own rules that another rule has, or that cannot stand in the name of a file."""
    for place, name in enumerate(names):
        if name in _BY_NAME or name in names[:place]:
            raise ConfigError(f"stop_rules: there is another stop rule {name!r}: choose another name")
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise ConfigError(f"stop_rules: the name {name!r} cannot stand in a file name: use letters, digits and -")
