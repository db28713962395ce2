"""The rules of a run, made of what its protocol names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ase import Atoms
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from piwsl.errors import ConfigError
from piwsl.export.evaluation import PBC, BoundPotential, bind
from piwsl.export.opening import verified
from piwsl.export.replica_evaluation import OneReplica, bind_replicas
from piwsl.md.engines.base import Snapshot
from piwsl.md.job import Job
from piwsl.md.protocol import MDProtocol
from piwsl.md.stop.geometry import BondRule, ContactRule, FiniteRule, IsolatedRule
from piwsl.md.stop.specs import KINDS, Limits, parse_rules
from piwsl.md.stop.thermal import CommitteeRule, EnergyDriftRule, TemperatureRule
from piwsl.md.stop.violation import Violation
from piwsl.structures.bonds import bonded_pairs
from piwsl.trajectories.thermo import Energies

# Keys of what the rules remember.
_START_ENERGY = "total energy at the start"
_RETIRED = "retired: "

# The kinetic energy of a diatomic exceeds ten times its mean once in 10^10 independent draws.
HOTTER = 10.0


class SnapshotRule(Protocol):
    """Looks at the atoms and reports what is wrong, or None."""

    name: str

    def check(self, snapshot: Snapshot, step: int) -> Violation | None:
        """The violation in a snapshot of a step."""


class EnergyRule(Protocol):
    """The same for rules that need energies, or cost an evaluation: they are asked at report intervals."""

    name: str

    def check_energies(self, snapshot: Snapshot, energies: Energies, step: int) -> Violation | None:
        """The violation in a snapshot of a step."""


class StopRules:
    """The rules of one replica, in the order in which they are asked."""

    def __init__(self, often: Sequence[SnapshotRule], at_reports: Sequence[EnergyRule]) -> None:
        self._often, self._at_reports = list(often), list(at_reports)
        self._retired: list[str] = []

    @property
    def names(self) -> list[str]:
        """Of the rules that are asked."""
        often, at_reports = [rule.name for rule in self._often], [rule.name for rule in self._at_reports]
        return list(dict.fromkeys(often + at_reports))

    def check(self, snapshot: Snapshot, energies: Energies | None, step: int) -> Violation | None:
        """The first violation; with energies also of the rules that need them."""
        for rule in self._often:
            violation = rule.check(snapshot, step)
            if violation is not None:
                return violation
        for needing in self._at_reports if energies is not None else ():
            violation = needing.check_energies(snapshot, energies, step)  # type: ignore[arg-type]  # not None here
            if violation is not None:
                return violation
        return None

    @property
    def need_start(self) -> bool:
        """Whether a rule compares with energies of the start, which it has not got yet."""
        return self._drift is not None and self._drift.start is None

    def begin(self, energies: Energies) -> None:
        """Take the energies of the start, unless they are there."""
        if self._drift is not None and self._drift.start is None:
            self._drift.begin(energies)

    def retire(self, name: str) -> None:
        """Ask a rule no longer."""
        self._retired.append(name)
        self._often = [rule for rule in self._often if rule.name != name]
        self._at_reports = [rule for rule in self._at_reports if rule.name != name]

    def state(self) -> dict[str, float]:
        """What the rules remember, for a restart state."""
        found = {_RETIRED + name: 1.0 for name in self._retired}
        if self._drift is not None and self._drift.start is not None:
            found[_START_ENERGY] = self._drift.start
        return found

    def restore(self, state: dict[str, float]) -> None:
        """Take it up again."""
        if self._drift is not None:
            self._drift.start = state.get(_START_ENERGY)
        for key in state:
            if key.startswith(_RETIRED):
                self.retire(key.removeprefix(_RETIRED))

    @property
    def _drift(self) -> EnergyDriftRule | None:
        return next((rule for rule in self._at_reports if isinstance(rule, EnergyDriftRule)), None)


def make_rules(job: Job, ensemble: str, degrees_of_freedom: int, replicas: int = 1) -> list[StopRules]:
    """The rules of the phase of a run in an ensemble, for each of its replicas.

    Raises:
        ConfigError: a rule does not fit the run.
    """
    structure, protocol = job.structure, job.protocol
    named = parse_rules(protocol.stop)
    chosen = {name: limits for name in KINDS if (limits := _limits(name, named, structure, ensemble)) is not None}
    committee = _committee(structure, job.exported) if "committee" in chosen else None
    return [_rules(structure, protocol, degrees_of_freedom, chosen, committee) for _ in range(replicas)]


def _rules(
    structure: Atoms,
    protocol: MDProtocol,
    degrees_of_freedom: int,
    chosen: dict[str, tuple[float, ...]],
    committee: BoundPotential | None,
) -> StopRules:
    """The rules of one replica; ``chosen`` are limits by name."""
    finite = FiniteRule(structure)
    often: list[SnapshotRule] = [finite]
    at_reports: list[EnergyRule] = [finite]
    if "bond" in chosen:
        often.append(BondRule(structure, chosen["bond"][0]))
    if "contact" in chosen:
        often.append(ContactRule(structure, *chosen["contact"]))
    if "temperature" in chosen:
        values = chosen["temperature"] or (HOTTER * protocol.temperature.highest,)
        lowest, highest = values if len(values) == 2 else (0.0, values[0])
        often.append(TemperatureRule(structure, degrees_of_freedom, lowest, highest))
    if "isolated" in chosen:
        often.append(IsolatedRule(structure, *chosen["isolated"]))
    if "energy-drift" in chosen:
        at_reports.append(EnergyDriftRule(structure, *chosen["energy-drift"]))
    if committee is not None:
        at_reports.append(CommitteeRule(structure, committee, *chosen["committee"]))
    return StopRules(often, at_reports)


def _limits(name: str, named: dict[str, Limits | None], structure: Atoms, ensemble: str) -> tuple[float, ...] | None:
    """Limits of a rule that is asked in this run; None where it is not."""
    kind = KINDS[name]
    default = () if kind.limit is None else (kind.limit,)
    if name in named:
        said = named[name]
        if said is None:
            return None
        if name == "energy-drift" and ensemble != "nve":
            return None  # equilibration; a protocol without nve is refused
        return said.values or default
    asked = {
        "always": True,
        "when named": False,
        "nve": ensemble == "nve",
        "one molecule in vacuum": not structure.pbc.any() and _one_molecule(structure),
    }
    return default if asked[kind.default] else None


def _one_molecule(structure: Atoms) -> bool:
    bonds, count = bonded_pairs(structure), len(structure)
    graph = coo_matrix(([1] * len(bonds), (bonds[:, 0], bonds[:, 1])), shape=(count, count))
    return bool(connected_components(graph, directed=False)[0] == 1)


def _committee(structure: Atoms, model: Path) -> BoundPotential:
    pbc: PBC = (bool(structure.pbc[0]), bool(structure.pbc[1]), bool(structure.pbc[2]))
    potential = verified(model)
    if potential.members < 2:
        raise ConfigError(f"stop rule committee: {model} is a single model, and not an ensemble")
    if potential.copies > 1:
        return OneReplica(bind_replicas(potential, structure.numbers))
    return bind(potential, structure.numbers, pbc)
