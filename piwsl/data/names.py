"""Names of the values in a file: names that were read, names that were not, and unread names that look like labels.

A cell that is not read makes a crystal a molecule, so names that look like a cell are treated like those of labels.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

LABELS = ("energy", "forces", "stress")
CELL, CHARGE = "cell", "charge"
STRUCTURE = (CELL, CHARGE)
INITIAL_CHARGES = "initial_charges"  # charges of the atoms; calculators of ASE take their sum as the total charge
_WORDS = {
    "energy": {"energy", "energies", "e", "en", "ene", "etot", "toten", "energie"},
    "forces": {"force", "forces", "f", "frc", "gradient", "gradients", "grad", "grads"},
    "stress": {"stress", "stresses", "virial", "virials"},
    CELL: {"cell", "cells", "unitcell", "lattice", "lattices", "box"},
}
# Words that change the meaning of a name, as in kinetic_energy or energy_unit.
_OTHER = {
    "kinetic",
    "ekin",
    "unit",
    "units",
    "constant",
    "constants",
    "field",
    "shift",
    "error",
    "std",
    "var",
    "weight",
    "spread",
}
_SHOWN = 12  # names in a line of the report


def label_of(name: str) -> str | None:
    """Return what a name suggests: a label (energy, forces, stress), the cell or the charge; None if it is neither."""
    if name == INITIAL_CHARGES:
        return CHARGE
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    words = set(re.split(r"[^a-z]+", re.sub(r"unit[^a-z]?cell", "cell", text)))
    if words & _OTHER:
        return None
    return next((label for label in ("stress", "forces", "energy", CELL) if words & _WORDS[label]), None)


@dataclass(frozen=True)
class FoundNames:
    """Names of the values in a file, with the number of frames in which each occurs.

    Attributes:
        frames: Number of frames examined.
        read: Names that were read.
        unread: Names that were not read.
        overlooked: Unread names that look like a label, cell or charge missing from the same frames.
    """

    frames: int = 0
    read: Mapping[str, int] = field(default_factory=dict)
    unread: Mapping[str, int] = field(default_factory=dict)
    overlooked: Mapping[str, int] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Return the names as lines of text."""
        if not self.read and not self.unread:
            return []
        lines = [f"names read         {self._listed(self.read) or 'none'}"]
        if self.unread:
            lines.append(f"names not read     {self._listed(self.unread)}")
        return lines

    def warnings(self, kinds: Sequence[str] = (*LABELS, *STRUCTURE)) -> list[str]:
        """Return a warning for each value of these kinds that may have been overlooked."""
        return [
            f"{count} of {self.frames} frames have no {label_of(name)}, but {name!r}, which is not read: "
            f"{_advice(name)}"
            for name, count in self.overlooked.items()
            if label_of(name) in kinds
        ] + self._conventions()

    def _conventions(self) -> list[str]:
        """Return a warning if one name was read in two conventions."""
        counts = {name: count for name, count in self.read.items() if name.startswith("spin (as ")}
        if len(counts) < 2:
            return []
        text = ", ".join(f"{count} times{name.removeprefix('spin')}" for name, count in counts.items())
        return [
            f"spin was read {text.replace('(', '').replace(')', '')}, because only one of the two fits the number of "
            "electrons of a frame: check the charges, or state unpaired_electrons or multiplicity"
        ]

    def _listed(self, names: Mapping[str, int]) -> str:
        shown = [name if count == self.frames else f"{name} ({count})" for name, count in names.items()]
        more = len(shown) - _SHOWN
        return ", ".join(shown[:_SHOWN]) + (f" and {more} more" if more > 0 else "")

    @staticmethod
    def joined(parts: Sequence["FoundNames"]) -> "FoundNames":
        """Merge the names from several files."""
        sums: list[Counter[str]] = [Counter(), Counter(), Counter()]
        for part in parts:
            for total, names in zip(sums, (part.read, part.unread, part.overlooked), strict=True):
                total.update(names)
        read, unread, overlooked = (dict(total) for total in sums)
        return FoundNames(sum(part.frames for part in parts), read, unread, overlooked)


_HINT = {
    "forces": " in eV/angstrom (gradients have the opposite sign)",
    "stress": " in eV/angstrom^3, positive under tension (REF_virial for a virial in eV)",
}


def _advice(name: str) -> str:
    """Return what to do if a name that was not read is the label or the cell that it suggests."""
    label = str(label_of(name))
    if label == CHARGE:
        return "their sum is not zero, and the structure is read without a charge: state the total charge as 'charge'"
    if label == CELL:
        return "if it is the cell, the structure is read as a molecule: state the cell as the format does (Lattice)"
    return f"rename it to REF_{label} if it is that label{_HINT.get(label, '')}"


class NameCount:
    """Accumulate the names of values, frame by frame."""

    def __init__(self) -> None:
        self.frames = 0
        self._read: Counter[str] = Counter()
        self._unread: Counter[str] = Counter()
        self._overlooked: Counter[str] = Counter()

    def add(
        self,
        found: Iterable[str],
        read: Iterable[str],
        labels: Iterable[str],
        readings: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Count a frame.

        Args:
            found: Names in the file, except names that describe the structure itself.
            read: Names among ``found`` that were read.
            labels: Labels (energy, forces, stress) of the frame, ``cell`` if it has a cell, and ``charge`` if
                it states a charge or needs none.
            readings: Further names that were read, with the convention of their values if the name leaves it open.
        """
        self.frames += 1
        conventions = dict(readings)
        read, labels = {*read, *conventions}, set(labels)
        unread = [shown(name) for name in found if name not in read]
        self._read.update(
            f"{name} (as {conventions[name]})" if conventions.get(name) else name for name in sorted(read)
        )
        self._unread.update(unread)
        self._overlooked.update(name for name in unread if label_of(name) not in (None, *labels))

    def names(self) -> FoundNames:
        """Return the names counted so far."""
        return FoundNames(self.frames, dict(self._read), dict(self._unread), dict(self._overlooked))


def shown(name: str, longest: int = 40) -> str:
    """Return a name from a file in one line, shortened and without control characters."""
    text = "".join(character if character.isprintable() else "?" for character in str(name)[: longest + 1])
    return text if len(text) <= longest else f"{text[:longest]}..."
