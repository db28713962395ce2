"""Functions of one variable: profiles, spectra, correlations, survival."""

from dataclasses import dataclass, field
from typing import Any

from piwsl.analysis.statistics.results import Difference, Distribution, Measurement, plain
from piwsl.typing import FloatArray


@dataclass(frozen=True, eq=False)
class Axis:
    """What an axis shows.

    Attributes:
        name: For people, such as ``Wavenumber``.
        unit: Such as ``1/cm``; empty for a pure number.
    """

    name: str
    unit: str


@dataclass(frozen=True, eq=False)
class Curve:
    """A function at points.

    Attributes:
        x, y: (points,) in the units of the axes that belong to it.
        low, high: (points,) band of one standard error, or None.
        samples: Number of independent samples behind it.
    """

    x: FloatArray
    y: FloatArray
    low: FloatArray | None
    high: FloatArray | None
    samples: int

    @classmethod
    def of(cls, distribution: Distribution) -> "Curve":
        """Return a distribution as a curve through the centers of its bins, with a band of one standard error."""
        low = high = None
        if distribution.error is not None:
            low, high = distribution.density - distribution.error, distribution.density + distribution.error
        return cls(distribution.centers, distribution.density, low, high, distribution.samples)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        plain_values: dict[str, Any] = {"samples": self.samples}
        for name, values in (("x", self.x), ("y", self.y), ("low", self.low), ("high", self.high)):
            plain_values[name] = None if values is None else [plain(float(f"{value:.6g}")) for value in values]
        return plain_values


@dataclass(frozen=True, eq=False)
class CurveComparison:
    """A curve of a run, over that of its reference where there is one.

    Attributes:
        key: Stable name for programs, such as ``torsion.C-C-O-H``.
        name: For people.
        horizontal, vertical: The axes.
        run: Of the run.
        reference: Of the reference, or None.
        difference: Between the two, with its noise, where it is defined.
        numbers: That are read from the curves, such as the positions of peaks, by name: of run and reference.
        is_steps: Whether it is constant between its points (survival).
        notes: Sentences that belong to the figure, such as the window of a fit.
    """

    key: str
    name: str
    horizontal: Axis
    vertical: Axis
    run: Curve
    reference: Curve | None = None
    difference: Difference | None = None
    numbers: dict[str, tuple[Measurement | None, Measurement | None]] = field(default_factory=dict)
    is_steps: bool = False
    notes: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """The part of the key before its first dot."""
        return self.key.partition(".")[0]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "name": self.name,
            "x": {"name": self.horizontal.name, "unit": self.horizontal.unit},
            "y": {"name": self.vertical.name, "unit": self.vertical.unit},
            "run": self.run.as_dict(),
            "reference": None if self.reference is None else self.reference.as_dict(),
            "difference": None if self.difference is None else self.difference.as_dict(),
            "numbers": {
                name: [None if value is None else value.as_dict() for value in pair]
                for name, pair in self.numbers.items()
            },
            "notes": list(self.notes),
        }
