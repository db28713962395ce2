"""Stop rules by name: ``bond:0.5``, ``temperature:100-900``, ``contact:off``."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from piwsl.errors import ConfigError


@dataclass(frozen=True)
class Kind:
    """A rule as users see it.

    Attributes:
        unit: of its limit.
        limit: by default; None: it depends on the run, or there is none.
        default: when it is asked without being named.
        help: what violates it.
    """

    unit: str
    limit: float | None
    default: str
    help: str
    computed: str = ""  # the default limit in words, where it depends on the run

    @property
    def default_limit(self) -> str:
        """For tables."""
        return self.computed or ("" if self.limit is None else f"{self.limit} {self.unit}".rstrip())


_AT_REPORTS = "asked at report intervals"
KINDS = {
    "nan": Kind("", None, "always", "a coordinate, a velocity or an energy is not a finite number"),
    "bond": Kind(
        "A", 0.5, "always", "a bond (in a cell: of two non-metals) is off its length in the start structure by more"
    ),
    "contact": Kind(
        "",
        1.0,
        "always",
        "two atoms that are not bonded are closer than this times the sum of their covalent radii; in a cell, pairs "
        "with a metal, than 0.6 of that",
    ),
    "temperature": Kind(
        "K",
        None,
        "always",
        "the instantaneous temperature is above; with LOW-HIGH, or below",
        "ten times --temperature",
    ),
    "isolated": Kind("A", 3.0, "one molecule in vacuum", "atoms have left all others that they started with by more"),
    "energy-drift": Kind("eV/atom", 0.05, "nve", f"the total energy is off its start by more; {_AT_REPORTS}"),
    "committee": Kind(
        "eV/A", 0.3, "when named", f"members of an ensemble differ in the force on an atom by more; {_AT_REPORTS}"
    ),
}


def rules_help() -> str:
    """A table of all rules for people: name, limit and unit, when each is asked, what violates it."""
    rows = [("rule", "limit", "asked", "violated when")]
    rows += [(name, kind.default_limit, kind.default, kind.help) for name, kind in KINDS.items()]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in rows
    )


@dataclass(frozen=True)
class Limits:
    """What users say of a rule: limits (one number, or two of a range), or None for the default ones."""

    values: tuple[float, ...] | None


def parse_rules(specs: Sequence[str]) -> dict[str, Limits | None]:
    """Rules that are named: with limits, or None for those that are switched off. ``none`` switches off all but nan.

    Raises:
        ConfigError: a name is unknown or twice there, or a limit is not a positive number.
    """
    if list(specs) == ["none"]:
        return {name: None for name in KINDS if name != "nan"}
    found: dict[str, Limits | None] = {}
    for spec in specs:
        if spec == "none":
            raise ConfigError("stop rule none switches off all others but nan: give it alone, or NAME:off for each")
        name, colon, text = spec.partition(":")
        if name not in KINDS:
            near = get_close_matches(name, KINDS, n=1)
            advice = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(KINDS)}"
            raise ConfigError(f"unknown stop rule {name!r}: {advice}")
        if name in found:
            raise ConfigError(f"stop rule {name} is there twice")
        if text == "off":
            if name == "nan":
                raise ConfigError("stop rule nan cannot be switched off: nothing can follow")
            found[name] = None
        else:
            found[name] = Limits(_numbers(name, text) if colon else None)
    return found


def _numbers(name: str, text: str) -> tuple[float, ...]:
    parts = text.split("-") if name == "temperature" else [text]
    try:
        values = tuple(float(part) for part in parts)
    except ValueError:
        values = ()
    fine = len(values) in (1, 2) and all(0 <= value < float("inf") for value in values) and values[-1] > 0
    if not fine or (len(values) == 2 and values[0] >= values[1]):
        shape = "temperature:2000, or temperature:100-900" if name == "temperature" else f"{name}:{KINDS[name].limit}"
        raise ConfigError(f"stop rule {name}:{text}: give a limit above 0 such as {shape}, or {name}:off")
    if KINDS[name].limit is None and name != "temperature":
        raise ConfigError(f"stop rule {name} has no limit: give its name alone")
    return values
