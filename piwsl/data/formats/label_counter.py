"""Count the labels in the frames of a file, and the names that were not read."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from piwsl.data.charges import ChargeSpin, lacks_charge
from piwsl.data.formats.labels import RawLabels
from piwsl.data.frames import Frame
from piwsl.data.names import CELL, CHARGE, NameCount


class LabelCounter:
    """Count the labels and names in the frames of a file, for use in notes."""

    def __init__(self) -> None:
        self.count = NameCount()
        self.from_results = 0
        self.two_energies = 0
        self.largest_difference = 0.0
        self.plain_left_out = 0

    def add(
        self, labels: RawLabels, found: dict[str, Any], frame: Frame, agreeing: list[str], stated: ChargeSpin
    ) -> None:
        """Count a frame.

        Args:
            labels: Labels of the frame.
            found: Named values of the frame in the file.
            frame: Frame made from these values.
            agreeing: Names that state the units in use.
            stated: Charge and spin of the frame.
        """
        has = {"energy": frame.has_energy, "forces": frame.has_forces, "stress": bool(np.isfinite(frame.stress).all())}
        has[CELL], has[CHARGE] = bool(frame.cell.any()), not lacks_charge(found, stated)
        self.count.add(
            found, [*labels.names, *agreeing], [name for name, known in has.items() if known], stated.readings
        )
        self.from_results += labels.from_results
        if labels.other_energy is not None:
            self.two_energies += 1
            self.largest_difference = max(
                self.largest_difference, abs(float(labels.other_energy) - float(labels.energy))
            )
        plain = [name for name in ("energy", "forces", "stress") if name in found and name not in labels.names]
        self.plain_left_out += bool(plain) and not labels.from_results and labels.exist

    def notes(self, frames: int) -> Iterator[str]:
        """Return remarks on the labels.

        Args:
            frames: Number of frames in the file.
        """
        looked = self.count.frames
        of = f"{frames} frames" if looked == frames else f"{looked} frames examined"
        if self.from_results:
            yield f"{self.from_results} of {of} have no REF_energy/REF_forces: plain energy/forces were read instead"
        if self.two_energies:
            yield (
                f"{self.two_energies} of {of} have an energy and a free_energy, which differ by up to "
                f"{self.largest_difference:.4g}: free_energy was read, because the forces are its derivatives"
            )
        if self.plain_left_out:
            yield (
                f"{self.plain_left_out} of {of} have labels with and without REF_: only REF_ labels were read "
                "(REF_ labels and results are never mixed)"
            )
