"""What a stop rule is: its interface, its report, and the base class of the rules that a protocol can name."""

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
    """The report of a stop rule.

    Attributes:
        rule: name of the rule.
        value: the figure that is out of range; None where there is none, or where it is not a finite number.
        limit: the limit of this figure.
        unit: of value and limit.
        atoms: the atoms concerned, as `name_atoms` lists them.
        step: step of the run.
        message: one line for the log and for the error of a stopped run.
        advisory: whether it is recorded and the run continues, whatever the protocol requires.
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
        """Return plain values for summary.json."""
        value, limit = (None if x is None or not isfinite(x) else float(x) for x in (self.value, self.limit))
        return {**asdict(self), "value": value, "limit": limit, "atoms": list(self.atoms), "step": int(self.step)}


def name_atoms(structure: Atoms, indices: Sequence[int]) -> list[dict[str, Any]]:
    """Return atoms as a violation lists them: index, from 0, and element."""
    return [{"index": int(index), "element": structure.symbols[index]} for index in indices]


class StopRule(Protocol):
    """A condition that ends a run: any object with a name and a method `check`.

    Every replica has a rule of its own, which may therefore remember earlier calls. `RuleWithMemory` and
    `RuleWithStart` describe methods that a rule may have in addition.

    Attributes:
        name: used in messages, in summary.json and in file names: letters, digits, ``-``, ``_`` and ``.``.
    """

    @property
    def name(self) -> str:
        """See the class."""

    def check(self, snapshot: Snapshot, energies: Energies | None, step: int) -> Violation | None:
        """Return what is wrong at a step, or None.

        Args:
            snapshot: positions (n, 3) in angstrom, velocities (n, 3) in angstrom/fs, cell (3, 3) in angstrom or None.
                Atoms are not wrapped into the cell.
            energies: potential and kinetic energy in eV at report intervals; None at the other calls.
            step: step of the run; negative during equilibration.
        """


@runtime_checkable
class RuleWithMemory(Protocol):
    """A rule whose memory must survive a restart."""

    def state(self) -> dict[str, float]:
        """Return what the rule remembers; the restart state stores it. Keys must be unique among all rules."""

    def restore(self, state: dict[str, float]) -> None:
        """Take over a state; it also holds the keys of other rules."""


@runtime_checkable
class RuleWithStart(Protocol):
    """A rule that compares with the energies at the start of a phase of the run.

    Attributes:
        needs_start: whether it lacks these energies.
    """

    @property
    def needs_start(self) -> bool:
        """See the class."""

    def begin(self, energies: Energies) -> None:
        """Take over the energies of the first step, eV."""


@dataclass(frozen=True)
class Phase:
    """What the rules of a phase of a run (equilibration or production) may depend on.

    Attributes:
        structure: start structure.
        ensemble: of the phase.
        degrees_of_freedom: that share the kinetic energy.
        temperature: the highest temperature that the protocol sets, K.
        model: exported file of the potential.
        domain: what its model has seen in training; None where the file does not state it.
    """

    structure: Atoms
    ensemble: str
    degrees_of_freedom: int
    temperature: float
    model: Path
    domain: TrainingDomain | None = None


RuleFactory = Callable[[], StopRule]


class BuiltInRule:
    """Base class of the rules of `piwsl.md.stop.rules.RULES`, which a protocol names in its option ``stop``.

    Attributes:
        name: name in the option ``stop``.
        unit: unit of the limit.
        default: default limit; None where there is none, or where it depends on the run.
        help: what violates the rule.
        active: when the rule is active without being named, in words; `is_active` decides.
        required: whether the rule cannot be switched off.
    """

    name: ClassVar[str]
    unit: ClassVar[str] = ""
    default: ClassVar[float | None] = None
    help: ClassVar[str]
    active: ClassVar[str] = "always"
    required: ClassVar[bool] = False

    @classmethod
    def is_active(cls, phase: Phase) -> bool:
        """Return whether the rule is active in a phase where the protocol does not name it."""
        return True

    @classmethod
    def reason_against(cls, ensemble: str) -> str | None:
        """Return why the rule cannot work in an ensemble; None where it can."""
        return None

    @classmethod
    def default_limit(cls) -> str:
        """Return the default limit and its unit for tables."""
        return "" if cls.default is None else f"{cls.default} {cls.unit}".rstrip()

    @classmethod
    def parse(cls, text: str) -> tuple[float, ...]:
        """Return the limits of a specification, of which ``text`` is the part after the colon.

        Raises:
            ConfigError: ``text`` is no limit above 0.
        """
        return cls._positive(text, [text], f"{cls.name}:{cls.default}")

    @classmethod
    def factory(cls, phase: Phase, limits: tuple[float, ...]) -> RuleFactory:
        """Return a function that makes the rule of one replica.

        Args:
            phase: phase of the run.
            limits: from `parse`; empty for the default.

        Raises:
            ConfigError: the rule does not fit the run.
        """
        if not limits and cls.default is not None:
            limits = (cls.default,)
        return lambda: cls(phase.structure, *limits)  # type: ignore[call-arg,return-value]  # of the subclass

    @classmethod
    def _positive(cls, text: str, parts: list[str], example: str) -> tuple[float, ...]:
        """Return the numbers of the parts of a text, which must be above 0; the first of two may be 0."""
        try:
            values = tuple(float(part) for part in parts)
        except ValueError:
            values = ()
        in_range = len(values) in (1, 2) and all(0 <= value < float("inf") for value in values) and values[-1] > 0
        if not in_range or (len(values) == 2 and values[0] >= values[1]):
            raise ConfigError(f"stop rule {cls.name}:{text}: give a limit above 0 such as {example}, or {cls.name}:off")
        return values
