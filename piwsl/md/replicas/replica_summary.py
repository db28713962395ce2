"""The summary of a run with replicas, in addition to the summaries of the individual replicas."""

import logging
import time
from collections.abc import Mapping

from piwsl.errors import UnphysicalError
from piwsl.md.engines.base import ReplicaEngine
from piwsl.md.job import Job
from piwsl.md.progress import Progress, nanoseconds_per_day
from piwsl.md.restart import RestartState
from piwsl.md.simulation import new_summary
from piwsl.runs.summary import (
    SUMMARY_FILE,
    MDSummary,
    ReplicaRecord,
    Result,
    SpeedRecord,
    ViolationRecord,
    now,
    recorded_violations,
)
from piwsl.units import PICOSECOND

LOGGER = logging.getLogger(__name__)


class ReplicaSummary:
    """Summary of a run with replicas, kept up to date in ``summary.json``.

    Args:
        job: Description of the run.
        engine: Engine of all or some replicas.
        state: Restart state of one replica if the run continues; None for a new run.
    """

    def __init__(self, job: Job, engine: ReplicaEngine, state: RestartState | None) -> None:
        self._job, self._began = job, time.perf_counter()
        self.summary = new_summary(job, engine, None, state)
        self._earlier_seconds = self.summary.wall_seconds
        self._first_steps: dict[int, int] = {}  # first step in this session, by replica
        self._replicas: dict[int, ReplicaRecord] = {}
        self._violations: dict[int, list[ViolationRecord]] = {}
        for number in job.replicas:
            if state is not None and (job.directory(number) / SUMMARY_FILE).is_file():
                self._record(number, MDSummary.read(job.directory(number)))
            else:
                self._replicas[number] = ReplicaRecord(
                    directory=job.directory(number).name,
                    seed=job.protocol.seed_of(number),
                    result="interrupted",
                    steps_done=-job.protocol.equilibration,
                )
                self._first_steps[number] = -job.protocol.equilibration
        self._write()

    def update(self, summaries: Mapping[int, MDSummary]) -> None:
        """Update the records from the current summaries of replicas, by replica number."""
        for number, summary in summaries.items():
            self._record(number, summary)
        self._write()

    def progress(self) -> Progress:
        """Return the progress of all replicas according to their summaries, without a temperature."""
        protocol, seconds = self._job.protocol, time.perf_counter() - self._began
        running = self._with("interrupted")
        rate = self._steps_of_session() / seconds
        missing = sum(protocol.steps - record.steps_done for record in running)
        seconds_left = missing / rate if rate else float("inf")
        speed = nanoseconds_per_day(rate, protocol.timestep)
        rate_each, step = rate / len(self._replicas), self.summary.steps_done
        return Progress(step, protocol.steps, rate_each, speed, float("nan"), seconds_left, len(running))

    def finish(self) -> MDSummary:
        """Write and return the final summary of the run.

        Raises:
            UnphysicalError: Replicas became unphysical.
        """
        self.summary.finished = now()
        self._write()
        count, stopped = len(self._replicas), self._with("stopped")
        done = len(self._with("completed"))
        length = self._job.protocol.steps * self._job.protocol.timestep / PICOSECOND
        speed = self.summary.speed.ns_per_day or 0.0
        text = f"{done} of {count} replicas completed {length:g} ps; {speed:.2f} ns/day in total"
        if not stopped:
            violations = [violation for found in self._violations.values() for violation in found]
            LOGGER.info(
                f"{text}; {recorded_violations(violations, in_replicas=True)}" if done == count or violations else text
            )
            return self.summary
        LOGGER.info(text)
        shown = [
            f"{record.directory} at step {record.steps_done}: {record.stop.message if record.stop else 'stopped'}"
            for record in stopped[:3]
        ]
        more = f"; {len(stopped) - 3} more are listed in {SUMMARY_FILE}" if len(stopped) > 3 else ""
        raise UnphysicalError(
            f"{len(stopped)} of {count} replicas became unphysical ({'; '.join(shown)}{more}); "
            f"earlier frames are in {self._job.output}"
        )

    def _record(self, number: int, summary: MDSummary) -> None:
        self._first_steps.setdefault(number, summary.steps_done)
        self._violations[number] = summary.violations
        self._replicas[number] = ReplicaRecord(
            directory=self._job.directory(number).name,
            seed=self._job.protocol.seed_of(number),
            result=summary.result,
            steps_done=summary.steps_done,
            stop=summary.stop,
        )

    def _with(self, result: Result) -> list[ReplicaRecord]:
        return [record for record in self._replicas.values() if record.result == result]

    def _steps_of_session(self) -> int:
        return sum(record.steps_done - self._first_steps[number] for number, record in self._replicas.items())

    def _write(self) -> None:
        seconds = time.perf_counter() - self._began
        rate = self._steps_of_session() / seconds
        running, completed, stopped = (self._with(result) for result in ("interrupted", "completed", "stopped"))
        self.summary.replicas = list(self._replicas.values())
        self.summary.steps_done = min(record.steps_done for record in running or completed or stopped)
        self.summary.result = "interrupted" if running else "completed" if completed else "stopped"
        self.summary.stop = stopped[0].stop if self.summary.result == "stopped" else None
        self.summary.wall_seconds = round(self._earlier_seconds + seconds, 3)
        speed = nanoseconds_per_day(rate, self._job.protocol.timestep)
        self.summary.speed = SpeedRecord(steps_per_second=round(rate, 2), ns_per_day=round(speed, 4))
        self.summary.write(self._job.output)
