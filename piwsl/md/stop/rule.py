"""Stop rules: their interface, their report, and the base class of the rules that a protocol can name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from ase import Atoms

from piwsl.errors import ConfigError

if TYPE_CHECKING:
    from piwsl.data.domain import TrainingDomain
    from piwsl.md.engines.base import Snapshot
    from piwsl.trajectories.thermo import Energies


@dataclass(frozen=True, kw_only=True)
class Violation:
    """Report of a violated stop rule.

    Attributes:
        rule: Name of the rule.
        value: Measured value that is out of range; None if there is no such value, or if the value is not finite.
        limit: Limit of the value.
        unit: Unit of the value and the limit.
        atoms: Atoms involved, as returned by `name_atoms`.
        step: Step of the run.
        message: One-line description for the log and for the error of a stopped run.
        advisory: Whether the violation is only recorded and the run continues, regardless of the protocol.
    """

    rule: str
    value: float | None = None
    limit: float | None = None
    unit: str = ""
    atoms: Sequence[dict[str, Any]] = ()
    step: int
    message: str
    advisory: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the violation as plain values for ``summary.json``."""
        value, limit = (None if x is None or not isfinite(x) else float(x) for x in (self.value, self.limit))
        return {**asdict(self), "value": value, "limit": limit, "atoms": list(self.atoms), "step": int(self.step)}


def name_atoms(structure: Atoms, indices: Sequence[int]) -> list[dict[str, Any]]:
    """Return the index (from 0) and the element of each atom, in the form that `Violation` requires."""
    return [{"index": int(index), "element": structure.symbols[index]} for index in indices]


class StopRule(Protocol):
    """Interface of a stop rule: any object with a name and a method `check`.

    Every replica has a separate rule object, so a rule can store state between calls. `RuleWithMemory` and
    `RuleWithStart` describe additional methods that a rule can have.

    Attributes:
        name: Name in messages, in ``summary.json`` and in file names: letters, digits, ``-``, ``_`` and ``.``.
    """

    @property
    def name(self) -> str:
        """See the class."""

    def check(self, snapshot: Snapshot, energies: Energies | None, step: int) -> Violation | None:
        """Return the violation at a step, or None.

        Args:
            snapshot: Positions (n, 3) in angstrom, velocities (n, 3) in angstrom/fs, cell (3, 3) in angstrom or None.
                Atoms are not wrapped into the cell.
            energies: Potential and kinetic energy in eV at report intervals; None in all other calls.
            step: Step of the run; negative during equilibration.
        """


@runtime_checkable
class RuleWithMemory(Protocol):
    """Interface of a stop rule whose state must survive a restart."""

    def state(self) -> dict[str, float]:
        """Return the values to store in the restart state. Keys must be unique among all rules."""

    def restore(self, state: dict[str, float]) -> None:
        """Restore the rule from a restart state, which also contains the keys of other rules."""


@runtime_checkable
class RuleWithStart(Protocol):
    """Interface of a stop rule that needs the energies at the start of a phase of the run.

    Attributes:
        needs_start: Whether the rule has not yet received these energies.
    """

    @property
    def needs_start(self) -> bool:
        """See the class."""

    def begin(self, energies: Energies) -> None:
        """Receive the energies of the first step, eV."""


@dataclass(frozen=True)
class Phase:
    """Properties of a phase of a run (equilibration or production) that stop rules depend on.

    Attributes:
        structure: Start structure.
        ensemble: Ensemble of the phase.
        degrees_of_freedom: Number of kinetic degrees of freedom.
        temperature: Highest temperature of the protocol, K.
        model: Exported file of the potential.
        domain: Training domain of the model; None if the file does not contain it.
    """

    structure: Atoms
    ensemble: str
    degrees_of_freedom: int
    temperature: float
    model: Path
    domain: TrainingDomain | None = None


RuleFactory = Callable[[], StopRule]


class BuiltInRule:
    """Base class of the built-in rules, which the option ``stop`` of a protocol can name.

    `piwsl.md.stop.rules.RULES` lists all built-in rules.

    Attributes:
        name: Name in the option ``stop``.
        unit: Unit of the limit.
        default: Default limit; None if the rule has no default or if the default depends on the run.
        help: Condition that violates the rule.
        active: Description of when the rule is active by default; `is_active` decides.
        required: Whether the rule cannot be switched off.
    """

    name: ClassVar[str]
    unit: ClassVar[str] = ""
    default: ClassVar[float | None] = None
    help: ClassVar[str]
    active: ClassVar[str] = "always"
    required: ClassVar[bool] = False

    @classmethod
    def is_active(cls, phase: Phase) -> bool:
        """Return whether the rule is active in a phase if the protocol does not name the rule."""
        return True

    @classmethod
    def reason_against(cls, ensemble: str) -> str | None:
        """Return the reason why the rule cannot be used in an ensemble; None if it can be used."""
        return None

    @classmethod
    def default_limit(cls) -> str:
        """Return the default limit with its unit, for tables."""
        return "" if cls.default is None else f"{cls.default} {cls.unit}".rstrip()

    @classmethod
    def parse(cls, text: str) -> tuple[float, ...]:
        """Parse the limits in a specification; ``text`` is the part after the colon.

        Raises:
            ConfigError: ``text`` is not a limit above 0.
        """
        return cls._positive(text, [text], f"{cls.name}:{cls.default}")

    @classmethod
    def factory(cls, phase: Phase, limits: tuple[float, ...]) -> RuleFactory:
        """Return a function that creates the rule for one replica.

        Args:
            phase: Phase of the run.
            limits: Limits from `parse`; empty for the default.

        Raises:
            ConfigError: The rule does not fit the run.
        """
        if not limits and cls.default is not None:
            limits = (cls.default,)
        return lambda: cls(phase.structure, *limits)  # type: ignore[call-arg,return-value]  # subclass

    @classmethod
    def _positive(cls, text: str, parts: list[str], example: str) -> tuple[float, ...]:
        """Convert the parts of a text to numbers above 0; the first of two numbers may be 0."""
        try:
            values = tuple(float(part) for part in parts)
        except ValueError:
            values = ()
        in_range = len(values) in (1, 2) and all(0 <= value < float("inf") for value in values) and values[-1] > 0
        if not in_range or (len(values) == 2 and values[0] >= values[1]):
            raise ConfigError(f"stop rule {cls.name}:{text}: give a limit above 0 such as {example}, or {cls.name}:off")
        return values
