"""The summary of a run of replicas, which stands above those of the replicas."""

import time
from typing import Any

from piwsl.errors import UnphysicalError
from piwsl.md import run_directory as files
from piwsl.md.engines.base import ReplicaEngine
from piwsl.md.job import Job
from piwsl.md.progress import Progress, nanoseconds_per_day
from piwsl.md.restart import RestartState
from piwsl.md.summary import new_summary, now
from piwsl.units import PICOSECOND


class ReplicaSummary:
    """Keeps summary.json of a run of replicas up to date.

    Args:
        job: the run.
        engine: that moves replicas, or some of them.
        state: of a replica from which the run goes on, or None.
    """

    def __init__(self, job: Job, engine: ReplicaEngine, state: RestartState | None) -> None:
        self._job, self._began = job, time.perf_counter()
        self.summary = new_summary(job, engine, None, state)
        self._earlier_seconds = float(self.summary["wall_seconds"])
        self._replicas: dict[int, dict[str, Any]] = {}
        self._first: dict[int, int] = {}
        for number in job.replicas:
            if state is not None and (job.directory(number) / files.SUMMARY).is_file():
                self._note(number, files.read_summary(job.directory(number)))
            else:
                self._note(number, {"result": "interrupted", "steps_done": -job.protocol.equilibration, "stop": None})
        self._write()

    def update(self, summaries: dict[int, dict[str, Any]]) -> None:
        """Take over what summaries of replicas say by now."""
        for number, one in summaries.items():
            self._note(number, one)
        self._write()

    def progress(self) -> Progress:
        """How far they are by what is known; nothing of their temperature."""
        protocol, seconds = self._job.protocol, time.perf_counter() - self._began
        going = self._with("interrupted")
        rate = sum(one["steps_done"] - self._first[number] for number, one in self._replicas.items()) / seconds
        missing = sum(protocol.steps - one["steps_done"] for one in going)
        left = missing / rate if rate else float("inf")
        speed = nanoseconds_per_day(rate, protocol.timestep)
        each, step = rate / len(self._replicas), int(self.summary["steps_done"])
        return Progress(step, protocol.steps, each, speed, float("nan"), left, len(going))

    def finish(self) -> dict[str, Any]:
        """The content of summary.json at the end.

        Raises:
            UnphysicalError: replicas have left physics.
        """
        self.summary["finished"] = now()
        self._write()
        count, left = len(self._replicas), self._with("stopped")
        done = len(self._with("completed"))
        length = self._job.protocol.steps * self._job.protocol.timestep / PICOSECOND
        speed = self.summary["speed"]["ns_per_day"]
        text = f"{done} of {count} replicas completed their {length:g} ps; {speed:.2f} ns/day in all"
        if not left:
            files.LOGGER.info(f"{text}; no stop rule violated" if done == count else text)
            return self.summary
        files.LOGGER.info(text)
        shown = [f"{one['directory']} at step {one['steps_done']}: {one['stop']['message']}" for one in left[:3]]
        more = f"; and {len(left) - 3} more in {files.SUMMARY}" if len(left) > 3 else ""
        raise UnphysicalError(
            f"{len(left)} of {count} replicas are no longer physics ({'; '.join(shown)}{more}); "
            f"the frames until then are in {self._job.output}"
        )

    def _note(self, number: int, summary: dict[str, Any]) -> None:
        self._first.setdefault(number, int(summary["steps_done"]))
        self._replicas[number] = {
            "directory": self._job.directory(number).name,
            "seed": self._job.protocol.seed_of(number),
            **{name: summary[name] for name in ("result", "steps_done", "stop")},
        }

    def _with(self, result: str) -> list[dict[str, Any]]:
        return [one for one in self._replicas.values() if one["result"] == result]

    def _write(self) -> None:
        seconds = time.perf_counter() - self._began
        steps = sum(one["steps_done"] - self._first[number] for number, one in self._replicas.items())
        rate = steps / seconds
        going, completed = self._with("interrupted"), self._with("completed")
        self.summary["replicas"] = list(self._replicas.values())
        self.summary["steps_done"] = min(one["steps_done"] for one in going or completed or self._with("stopped"))
        self.summary["result"] = "interrupted" if going else "completed" if completed else "stopped"
        self.summary["stop"] = self._with("stopped")[0]["stop"] if self.summary["result"] == "stopped" else None
        self.summary["wall_seconds"] = round(self._earlier_seconds + seconds, 3)
        self.summary["speed"] = {
            "steps_per_second": round(rate, 2),
            "ns_per_day": round(nanoseconds_per_day(rate, self._job.protocol.timestep), 4),
        }
        files.write_summary(self._job.output, self.summary)
