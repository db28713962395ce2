"""The main loop of a run: advance replicas in blocks of steps and handle the events between the blocks."""

import logging
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from piwsl.errors import EngineError
from piwsl.md.engines.base import ReplicaEngine, Snapshot, split_seed
from piwsl.md.progress import Progress, SpeedMeter
from piwsl.md.protocol import MDProtocol
from piwsl.md.recorder import Recorder
from piwsl.md.stop.rule import Violation
from piwsl.runs.interruption import polite_interruption
from piwsl.trajectories.thermo import Energies

LOGGER = logging.getLogger(__name__)
# Limit for on_stop='restart-from-good'; a potential that fails more often will fail again.
MOST_RETURNS = 10


class Loop:
    """Main loop that advances the replicas of an engine and calls their recorders.

    Args:
        engine: Engine that contains the replicas.
        recorders: Recorder of each replica, by replica number.
        protocol: Protocol with the intervals between events.
        progress: Progress callback, called a few times per second.
        on_checkpoint: Callback that is called after restart states were written.
        should_stop: Callback that is polled before each block of steps; return True to stop the run early.
    """

    def __init__(
        self,
        engine: ReplicaEngine,
        recorders: Mapping[int, Recorder],
        protocol: MDProtocol,
        progress: Callable[[Progress], None] | None,
        on_checkpoint: Callable[[], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self._engine, self._recorders = engine, recorders
        self._protocol, self._progress, self._on_checkpoint = protocol, progress, on_checkpoint
        self._should_stop = should_stop or (lambda: False)
        self._returns = 0

    def run(self, first: int, last: int, meter: SpeedMeter) -> int:
        """Advance from step ``first`` to step ``last``.

        Returns:
            The step that was reached, which is smaller than ``last`` after an interruption.
        """
        step, protocol = first, self._protocol
        self._begin()
        if any(self._recorders[replica].kept is None for replica in self._engine.replicas):
            self._keep(step, meter)
        with polite_interruption() as interruption, np.errstate(all="ignore"):
            while step < last and self._engine.replicas and not (interruption.requested or self._should_stop()):
                if not protocol.temperature.constant:
                    self._engine.set_temperature(protocol.temperature_at(step))
                end = min(last, self._next_event(step))
                step = self._serve(end, meter, self._advance(end - step))
                if step == end and step % protocol.state_interval == 0 and step < last:
                    self._keep(step, meter)
                if self._progress and (meter.due() or step == last):
                    self._progress(meter.progress(step, len(self._engine.replicas)))
            self._keep(step, meter)
        return step

    def _begin(self) -> None:
        """Pass the initial energies to the stop rules that need them."""
        rules = [self._recorders[replica].rules for replica in self._engine.replicas]
        if any(replica_rules.need_start for replica_rules in rules):
            for replica_rules, energies in zip(rules, self._engine.energies(), strict=True):
                replica_rules.begin(energies)

    def _advance(self, steps: int) -> EngineError | None:
        """Advance by a number of steps; return an EngineError, so that stop rules can look for the cause first."""
        try:
            self._engine.advance(steps)
        except EngineError as error:
            return error
        return None

    def _serve(self, step: int, meter: SpeedMeter, error: EngineError | None = None) -> int:
        """Handle all events of a step; return the step from which the run continues.

        Raises:
            EngineError: The engine failed, and no stop rule is violated.
        """
        protocol = self._protocol
        checked, framed, reported = (
            step % interval == 0
            for interval in (protocol.check_interval, protocol.trajectory_interval, protocol.report_interval)
        )
        framed, reported = framed and step > 0, reported and step > 0
        if error is not None:
            checked, framed, reported = True, False, False  # the engine can no longer evaluate the structure
        snapshots = self._engine.snapshots()
        energies: Sequence[Energies | None] = [None] * len(snapshots)
        if reported:
            energies = self._engine.energies()
        forces = self._engine.forces() if framed and "forces" in protocol.write else None
        for place, replica in enumerate(list(self._engine.replicas)):
            recorder, snapshot, energy = self._recorders[replica], snapshots[place], energies[place]
            if checked or framed or reported or step == protocol.steps:
                violation = recorder.check(snapshot, energy, step)
                if violation is not None:
                    back = self._violated(replica, violation, snapshot, meter)
                    if back is not None:
                        return back
                    if replica not in self._engine.replicas:
                        continue
                elif error is not None:
                    raise error
                meter.add(recorder.temperature(snapshot))
            if framed:
                recorder.frame(snapshot, None if forces is None else forces[place], step)
            if energy is not None:
                recorder.report(snapshot, energy, step)
        return step

    def _violated(self, replica: int, violation: Violation, snapshot: Snapshot, meter: SpeedMeter) -> int | None:
        """Handle a violation as the protocol requires.

        Returns:
            The step to which the run returns; None if the run does not return to an earlier step.
        """
        recorder, action = self._recorders[replica], self._protocol.on_stop
        if violation.advisory or (action == "record" and violation.rule != "nan"):
            recorder.note(violation, snapshot)
            return None
        if action == "restart-from-good" and self._returns < MOST_RETURNS:
            self._returns += 1
            state = recorder.go_back(violation, snapshot)
            self._engine.restore({replica: state.engine}, {replica: 0})
            self._engine.reseed(replica, split_seed(self._protocol.seed, 2, self._returns))
            return state.step
        recorder.note_speed(violation.step, *meter.speed(violation.step), meter.seconds)
        recorder.stop(violation, snapshot)
        self._engine.remove(replica)
        if self._engine.replicas:
            LOGGER.warning(f"{recorder.directory.name} stopped: {violation.message}")
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
        """Write a restart state for each replica."""
        for replica in self._engine.replicas:
            recorder = self._recorders[replica]
            recorder.note_speed(step, *meter.speed(step), meter.seconds)
            recorder.keep(self._engine.state(replica), step)
        if self._on_checkpoint:
            self._on_checkpoint()
