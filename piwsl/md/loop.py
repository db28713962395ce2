"""The loop of a run: blocks of steps between the events of its protocol, for one copy or many."""

from collections.abc import Callable, Sequence

import numpy as np

from piwsl.errors import EngineError
from piwsl.md.engines.base import Energies, Snapshot, split_seed
from piwsl.md.engines.replicas import ReplicaEngine
from piwsl.md.progress import Progress, SpeedMeter
from piwsl.md.protocol import MDProtocol
from piwsl.md.recorder import Recorder
from piwsl.md.signals import polite_interruption
from piwsl.md.stop.violation import Violation

# With --on-stop restart-from-good; a potential that leaves physics more often than that will do it again.
MOST_RETURNS = 10


class Loop:
    """Moves the copies of an engine and serves their recorders.

    Args:
        engine: where the copies are.
        recorders: one for each copy of the engine, by its number.
        protocol: when what happens.
        progress: called a few times a second.
    """

    def __init__(
        self,
        engine: ReplicaEngine,
        recorders: Sequence[Recorder],
        protocol: MDProtocol,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._engine, self._recorders = engine, recorders
        self._protocol, self._progress = protocol, progress
        self._returns = 0

    def run(self, first: int, last: int, meter: SpeedMeter) -> int:
        """Go from a step to another, where nobody interrupts; returns the step reached."""
        step, protocol = first, self._protocol
        self._begin()
        if any(self._recorders[copy].kept is None for copy in self._engine.copies):
            self._keep(step, meter)
        with polite_interruption() as interruption, np.errstate(all="ignore"):
            while step < last and self._engine.copies and not interruption.requested:
                if not protocol.temperature.constant:
                    self._engine.set_temperature(protocol.temperature_at(step))
                end = min(last, self._next_event(step))
                self._advance(end - step, end)
                step = self._serve(end, meter)
                if step == end and step % protocol.state_interval == 0 and step < last:
                    self._keep(step, meter)
                if self._progress and (meter.due() or step == last):
                    self._progress(meter.progress(step))
            self._keep(step, meter)
        return step

    def _begin(self) -> None:
        """Give stop rules the energies that they compare with."""
        rules = [self._recorders[copy].rules for copy in self._engine.copies]
        if any(one.need_start for one in rules):
            for one, energies in zip(rules, self._engine.energies(), strict=True):
                one.begin(energies)

    def _advance(self, steps: int, end: int) -> None:
        try:
            self._engine.advance(steps)
        except EngineError:
            # Some engines refuse to go on from NaN before a rule can see it.
            if all(np.isfinite(snapshot.positions).all() for snapshot in self._engine.snapshots()):
                raise

    def _serve(self, step: int, meter: SpeedMeter) -> int:
        """All events of a step; returns the step from which to go on."""
        protocol = self._protocol
        checked, framed, reported = (
            step % interval == 0
            for interval in (protocol.check_interval, protocol.trajectory_interval, protocol.report_interval)
        )
        framed, reported = framed and step > 0, reported and step > 0
        snapshots = self._engine.snapshots()
        energies: Sequence[Energies | None] = [None] * len(snapshots)
        if reported:
            energies = self._engine.energies()
        forces = self._engine.forces() if framed and "forces" in protocol.write else None
        for place, copy in enumerate(list(self._engine.copies)):
            recorder, snapshot, energy = self._recorders[copy], snapshots[place], energies[place]
            if checked or framed or reported or step == protocol.steps:
                violation = recorder.check(snapshot, energy, step)
                if violation is not None:
                    back = self._violated(copy, violation, snapshot, meter)
                    if back is not None:
                        return back
                    if copy not in self._engine.copies:
                        continue
                meter.add(recorder.temperature(snapshot))
            if framed:
                recorder.frame(snapshot, None if forces is None else forces[place], step)
            if energy is not None:
                recorder.report(snapshot, energy, step)
        return step

    def _violated(self, copy: int, violation: Violation, snapshot: Snapshot, meter: SpeedMeter) -> int | None:
        """Do what the protocol says; a step where the run goes back to it."""
        recorder, wish = self._recorders[copy], self._protocol.on_stop
        if wish == "record" and violation.rule != "nan":
            recorder.note(violation, snapshot)
            return None
        if wish == "restart-from-good" and self._returns < MOST_RETURNS:
            self._returns += 1
            state = recorder.go_back(violation, snapshot)
            self._engine.restore(copy, state.engine, 0)
            self._engine.reseed(copy, split_seed(self._protocol.seed, 2, self._returns))
            return state.step
        recorder.note_speed(violation.step, *meter.speed(violation.step), meter.seconds)
        recorder.stop(violation, snapshot)
        self._engine.remove(copy)
        return None

    def _next_event(self, step: int) -> int:
        protocol = self._protocol
        intervals = (
            protocol.check_interval,
            protocol.trajectory_interval,
            protocol.report_interval,
            protocol.state_interval,
        )
        return min((step // interval + 1) * interval for interval in intervals)

    def _keep(self, step: int, meter: SpeedMeter) -> None:
        """Write a state of each copy."""
        for copy in self._engine.copies:
            recorder = self._recorders[copy]
            recorder.note_speed(step, *meter.speed(step), meter.seconds)
            recorder.keep(self._engine.state(copy), step)
