"""The loop of a run: blocks of steps between the events of its protocol."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from piwsl.errors import EngineError
from piwsl.md.engines.base import Engine, temperature
from piwsl.md.progress import Progress, SpeedMeter
from piwsl.md.restart import RestartState, RunIdentity, write_state
from piwsl.md.run_directory import write_summary
from piwsl.md.signals import polite_interruption
from piwsl.md.stop_rules import FiniteRule, TemperatureRule, Violation, stop_rules
from piwsl.md.structure import degrees_of_freedom
from piwsl.md.writers import ThermoWriter, TrajectoryWriter
from piwsl.typing import FloatArray


@dataclass(frozen=True)
class Outcome:
    """How the loop ended: ``completed``, ``interrupted``, or ``stopped`` by a violation at some positions."""

    result: str
    violation: Violation | None = None
    positions: FloatArray | None = None


class Loop:
    """Moves the atoms, checks the rules, and feeds the writers. Later events see earlier ones on disk."""

    def __init__(
        self,
        engine: Engine,
        structure: Atoms,
        identity: RunIdentity,
        directory: Path,
        trajectory: TrajectoryWriter,
        thermo: ThermoWriter,
        summary: dict[str, Any],
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._engine, self._structure, self._identity = engine, structure, identity
        self._directory, self._trajectory, self._thermo = directory, trajectory, thermo
        self._summary, self._progress = summary, progress
        self._protocol = identity.protocol
        self._rules = stop_rules(structure, self._protocol)
        self._thermometer = next(rule for rule in self._rules if isinstance(rule, TemperatureRule))
        self._freedom = degrees_of_freedom(structure, self._protocol.ensemble)
        self._earlier_seconds = float(summary["wall_seconds"])

    def run(self, first: int) -> Outcome:
        """Go from a step to the last one of the protocol."""
        protocol = self._protocol
        meter = SpeedMeter(first, protocol.steps, protocol.timestep)
        step = first
        if first == 0:
            self._keep(0, meter)
        with polite_interruption() as interruption, np.errstate(all="ignore"):
            while step < protocol.steps and not interruption.requested:
                block = self._next_event(step) - step
                outcome = self._block(step, block, meter)
                step += block
                if outcome is not None:
                    self._note(step, meter)
                    return outcome
                if step % protocol.state_interval == 0 and step < protocol.steps:
                    self._keep(step, meter)
                if self._progress and (meter.due() or step == protocol.steps):
                    self._progress(meter.progress(step))
            self._keep(step, meter)
        return Outcome("completed" if step == protocol.steps else "interrupted")

    def _block(self, step: int, block: int, meter: SpeedMeter) -> Outcome | None:
        """Make the steps up to the next event and serve it; an outcome where a rule is violated."""
        protocol, end = self._protocol, step + block
        try:
            self._engine.advance(block)
        except EngineError:
            # Some engines refuse to go on from NaN before a rule can see it.
            snapshot = self._engine.snapshot()
            violation = FiniteRule(self._structure).check(snapshot, end)
            if violation is None:
                raise
            return Outcome("stopped", violation, snapshot.positions)
        snapshot = self._engine.snapshot()
        if end % protocol.check_interval == 0 or end % protocol.trajectory_interval == 0 or end == protocol.steps:
            for rule in self._rules:
                violation = rule.check(snapshot, end)
                if violation is not None:
                    return Outcome("stopped", violation, snapshot.positions)
            meter.add(self._thermometer.temperature(snapshot))
        if end % protocol.trajectory_interval == 0:
            self._trajectory.write(snapshot.positions)
        if end % protocol.report_interval == 0:
            energies = self._engine.energies()
            self._thermo.write(end, energies, temperature(energies.kinetic, self._freedom))
        return None

    def _next_event(self, step: int) -> int:
        protocol = self._protocol
        intervals = (
            protocol.check_interval,
            protocol.trajectory_interval,
            protocol.report_interval,
            protocol.state_interval,
        )
        return min(protocol.steps, *((step // interval + 1) * interval for interval in intervals))

    def _keep(self, step: int, meter: SpeedMeter) -> None:
        """Write a restart state, after everything that belongs to its step."""
        self._trajectory.flush()
        self._thermo.flush()
        self._note(step, meter)
        started, seconds = self._summary["started"], self._summary["wall_seconds"]
        write_state(self._directory, RestartState(step, self._identity, self._engine.state(), started, seconds))
        write_summary(self._directory, self._summary)

    def _note(self, step: int, meter: SpeedMeter) -> None:
        """Bring the summary up to date."""
        rate, nanoseconds = meter.speed(step)
        self._summary["steps_done"] = step
        self._summary["wall_seconds"] = round(self._earlier_seconds + meter.seconds, 3)
        self._summary["speed"] = {"steps_per_second": round(rate, 2), "ns_per_day": round(nanoseconds, 4)}
