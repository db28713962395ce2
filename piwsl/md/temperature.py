"""Temperatures that a thermostat is set to in the course of a run."""

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, PlainSerializer


@dataclass(frozen=True)
class TemperatureSchedule:
    """Straight lines through temperatures, K, that are equally far apart in time; a single one is constant."""

    nodes: tuple[float, ...]

    @classmethod
    def of(cls, value: Any) -> "TemperatureSchedule":
        """From a number, or numbers joined by colons: ``300``, ``300:500``, ``300:500:500:300``.

        Raises:
            ValueError: it is none of these, or a temperature is not positive.
        """
        if isinstance(value, cls):
            return value
        try:
            nodes = tuple(float(part) for part in str(value).split(":"))
        except ValueError:
            raise ValueError("give kelvins, or several joined by colons such as 300:500") from None
        if not all(0 < node < np.inf for node in nodes):
            raise ValueError("a temperature is above 0 K")
        return cls(nodes)

    @property
    def start(self) -> float:
        """The first one."""
        return self.nodes[0]

    @property
    def highest(self) -> float:
        """The highest one."""
        return max(self.nodes)

    @property
    def constant(self) -> bool:
        """Whether it is the same all the time."""
        return len(set(self.nodes)) == 1

    def at(self, fraction: float) -> float:
        """Temperature after a fraction of the time, K."""
        return float(np.interp(fraction, np.linspace(0, 1, len(self.nodes)), self.nodes))

    def plain(self) -> float | str:
        """As it is written in files."""
        return self.start if len(self.nodes) == 1 else str(self)

    def __str__(self) -> str:
        return ":".join(f"{node:g}" for node in self.nodes)


Temperature = Annotated[
    TemperatureSchedule, BeforeValidator(TemperatureSchedule.of), PlainSerializer(TemperatureSchedule.plain)
]
